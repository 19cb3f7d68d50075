"""Stage 3: run + stylized faces -> recovered faces, for a split's
shards, for pictures of any origin, and as an ONNX model.
"""

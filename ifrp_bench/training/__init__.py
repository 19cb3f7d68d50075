"""Stage 2: data set -> run.

Methods are trained by one loop; what a name and its settings stand for is resolved once.
"""

"""A trained method as an ONNX model, compared with what it was made from."""

from pathlib import Path

import numpy as np
import torch

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.recovery.mirrored import Mirrored, OnBothSides
from ifrp_bench.recovery.trained import Trained

OPSET = 20


def export_onnx(trained: Trained, path: Path) -> float:
    """Write the method as an ONNX model, faces (n, 3, 128, 128) in [0, 1] to the same.

    Returns the largest difference of its reloaded answers. Raises InputError where the extra ``onnx`` is not
    installed, and for a method that is no network of its own.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export needs the extra onnx ({error.name} is missing): pip install 'ifrp-bench[onnx]'"
        ) from None
    exports = None if trained.part.aligns else trained.part.method.exports
    if exports is None:
        raise InputError(f"{trained.part.name} has no network of its own to export")
    if isinstance(trained.method, Mirrored):
        module: torch.nn.Module = OnBothSides(exports(trained.method.method)).cpu().eval()
    else:
        module = exports(trained.method).cpu()

    example = torch.rand(2, 3, FACE_PX, FACE_PX, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        module, (example,), str(path),
        dynamo=True,
        input_names=["stylized"],
        output_names=["recovered"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),  # type: ignore[attr-defined]
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    with torch.inference_mode():
        for faces in (example, example[:1]):
            answer, = session.run(None, {"stylized": faces.numpy()})
            differences.append(float(np.abs(answer - module(faces).numpy()).max()))
    return max(differences)

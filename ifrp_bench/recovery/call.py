"""One picture, one call, from Python."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ifrp_bench.data.shipped import DEFAULT, find_run
from ifrp_bench.ground.images import decode_picture, read_picture
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.methods import Usable
from ifrp_bench.recovery.faces import frame_faces, shown
from ifrp_bench.recovery.trained import load_trained, recover


def destylize(
    picture: "str | Path | bytes | np.ndarray | Image.Image", run: "str | Path" = DEFAULT, *,
    crop: str = "auto", device: str = "cpu",
) -> np.ndarray:
    """The real face behind a stylized one: uint8 (266, 214, 3) RGB, in true proportions.

    ``picture`` is a file, the bytes of one, a PIL picture or a uint8 array (H, W, 3) RGB; ``run`` a run's
    folder or the name of shipped weights, which are read once; ``crop`` as on the command line. Of several
    faces the most central one is recovered. Raises InputError (PictureError for the picture) in one line.
    """
    framed = frame_faces(_pixels(picture), crop)[0]
    face = recover(_method(Path(run), device), framed.stylized[None], device=device)[0]
    return shown(face)


def _pixels(picture: "str | Path | bytes | np.ndarray | Image.Image") -> np.ndarray:
    """uint8 (H, W, 3) RGB of anything that holds a picture."""
    if isinstance(picture, (str, Path)):
        return read_picture(Path(picture))
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        picture = buffer.getvalue()
    if isinstance(picture, bytes):
        return decode_picture(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"picture is an array of {picture.dtype} {picture.shape}, expected uint8 (H, W, 3) in RGB"
        )
    return picture


@cache
def _method(run: Path, device: str) -> Usable:
    exact_float32(device)
    return load_trained(find_run(run), device=device).method

"""One picture, one call, from Python."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ifrp_bench.data.shipped import DEFAULT, find_run
from ifrp_bench.ground.images import PictureError, decode_picture, pixels_of, read_picture
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.methods import Usable
from ifrp_bench.recovery.faces import frame_faces, shown
from ifrp_bench.recovery.trained import load_trained, recover

Picture = str | Path | bytes | io.IOBase | np.ndarray | Image.Image
COLOURS = {(), (3,), (4,)}   # what follows height and width in an array: grey, RGB, RGB with transparency


def destylize(
    picture: Picture, run: str | Path = DEFAULT, *, crop: str = "auto", device: str = "cpu"
) -> np.ndarray:
    """The real face behind a stylized one: uint8 (266, 214, 3) RGB, in true proportions.

    ``picture`` is a path, the bytes of a file, an open one, a PIL picture or a uint8 array: (H, W, 3) in RGB,
    (H, W) in grey, (H, W, 4) with transparency, which is laid over white. ``run`` is a run's folder or the
    name of shipped weights, which are read once; ``crop`` as on the command line. Of several faces the most
    central one is recovered. Raises InputError (PictureError for the picture) in one line.
    """
    framed = frame_faces(_pixels(picture), crop)[0]
    face = recover(_method(Path(run), device), framed.stylized[None], device=device)[0]
    return shown(face)


def _pixels(picture: Picture) -> np.ndarray:
    """uint8 (H, W, 3) RGB of anything that holds a picture."""
    if isinstance(picture, (str, Path)):
        try:
            return read_picture(Path(picture))
        except PictureError as error:
            raise PictureError(f"{picture}: {error}") from None
    if isinstance(picture, io.IOBase):
        picture = picture.read()
    if isinstance(picture, bytes):
        return decode_picture(picture)
    got = type(picture).__name__
    if isinstance(picture, np.ndarray):
        got = f"an array of {picture.dtype} {picture.shape}"
        if picture.dtype == np.uint8 and picture.ndim > 1 and picture.shape[2:] in COLOURS:
            picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        return pixels_of(picture)
    raise PictureError(
        f"got {got}, expected a path, a file's bytes, an open file, a PIL picture or an array of uint8"
        " (H, W, 3) in RGB"
    )


@cache
def _method(run: Path, device: str) -> Usable:
    exact_float32(device)
    return load_trained(find_run(run), device=device).method

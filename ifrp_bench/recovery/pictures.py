"""Pictures of any origin: their face framed as a method sees it, recovered, and written beside the portrait.

A face is framed (size and place, no rotation: that is the method's work) by MTCNN where it finds one, by the
middle of the picture where it does not.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np

from ifrp_bench.ground.images import PictureError, read_picture, tile, write_png
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.ground.warp import FACE_PX, WINDOW_PX, centre_window, framed_window, resample
from ifrp_bench.methods import Recoverer
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.recovery.trained import recover

# a face in its true proportions, twice the window of CelebA's frame
SHOWN_PX = (2 * WINDOW_PX[2], 2 * WINDOW_PX[3])
NO_FACE = "no face found"


@dataclass(frozen=True)
class Recovered:
    """What became of one picture: the ``framed`` SF and the recovered face, uint8 (128, 128, 3), or what is
    wrong with it.

    ``note`` says how it was framed.
    """

    path: Path
    framed: np.ndarray | None = None
    face: np.ndarray | None = None
    note: str = ""
    problem: str = ""


def recover_pictures(
    paths: Iterable[Path],
    method: Recoverer,
    *,
    crop: str = "auto",
    device: str = "cpu",
    bfloat16: bool = False,
) -> Iterator[Recovered]:
    """Recover the face of each picture file; one that is none gives its reason, and the next follows."""
    exact_float32(device)
    for path in paths:
        try:
            framed, note = frame(read_picture(path), crop)
        except PictureError as error:
            yield Recovered(path, problem=str(error))
            continue
        face = recover(method, framed[None], device=device, bfloat16=bfloat16)[0]
        yield Recovered(path, framed, face, note)


def frame(picture: np.ndarray, crop: str = "auto") -> tuple[np.ndarray, str]:
    """A picture's face as a method sees it, uint8 (128, 128, 3), and a word on how it was found.

    ``auto`` is ``face`` where MTCNN finds one and ``centre`` otherwise; ``none`` takes the whole picture, for
    SFs that are framed already. Raises PictureError where ``face`` finds none.
    """
    size = FACE_PX, FACE_PX
    if crop == "none":
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), "the whole picture"
    faces = find_faces(picture) if crop in ("auto", "face") else []
    if faces:
        return resample(picture, framed_window(faces[0].landmarks_px), size), "face found"
    if crop == "face":
        raise PictureError(f"{NO_FACE}; try --crop centre")
    height, width = picture.shape[:2]
    note = f"{NO_FACE}, took the middle" if crop == "auto" else "the middle"
    return resample(picture, centre_window(width, height), size), note


def write_results(
    results: Iterable[Recovered], out: Path, say: Callable[[str], None], *, keep: Iterable[Path] = (),
) -> tuple[int, int]:
    """Write ``NAME.png`` (the recovered face) and ``NAME-compared.png`` (beside the SF), in true proportions.

    A name under which a file of ``keep``, or one written before, would be written over gets a number. Returns
    counts of good and bad files.
    """
    out.mkdir(parents=True, exist_ok=True)
    taken = {_place(path) for path in keep if path.exists()}
    good = bad = 0
    for result in results:
        if result.framed is None or result.face is None:
            say(f"Error: {result.path}: {result.problem}")
            bad += 1
            continue
        alone, compared = _free_names(out, result.path.stem, taken)
        framed = cv2.resize(result.framed, SHOWN_PX, interpolation=cv2.INTER_CUBIC)
        face = cv2.resize(result.face, SHOWN_PX, interpolation=cv2.INTER_CUBIC)
        write_png(alone, face)
        write_png(compared, tile([[framed, face]]))
        taken |= {_place(alone), _place(compared)}
        say(f"{result.path}: {result.note}; {alone}")
        good += 1
    return good, bad


def _free_names(out: Path, stem: str, taken: set[tuple[int, int]]) -> tuple[Path, Path]:
    """Where a face and its comparison go: under the stem, or under the stem and the first number from 2 on
    that is free.
    """
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    targets = ((out / f"{name}.png", out / f"{name}-compared.png") for name in names)
    return next(
        pair for pair in targets if not any(path.exists() and _place(path) in taken for path in pair)
    )


def _place(path: Path) -> tuple[int, int]:
    """What a file is on its disk, whatever name or link leads to it."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino

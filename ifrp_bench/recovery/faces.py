"""One picture's faces: found, framed as a method sees them, and put back where they were.

A face is framed by size and place, not turned: turning is the method's work. How it lay in the picture is
known from its five landmarks, and that is where a recovered face is put back.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import PictureError
from ifrp_bench.ground.warp import (
    FACE_PX, TEMPLATE_PX, WINDOW_PX, centre_window, framed_window, resample, similarity, window_to_frame,
)
from ifrp_bench.nets.detector import LOOKS, Detection, find_faces, look_further

CROPS = ("auto", "face", "centre", "none")
# a face in its true proportions, twice the window of CelebA's frame
SHOWN_PX = (2 * WINDOW_PX[2], 2 * WINDOW_PX[3])
FEATHER = 0.35   # of the radius of the ellipse in which a face is put back, over which it fades out
NO_FACE = "no face found"


@dataclass(frozen=True)
class Framed:
    """A face as a method sees it.

    ``stylized`` is uint8 (128, 128, 3); ``note`` a word on how it was found; the rest is known where the
    detector found it: its box (left, top, right, bottom) and angle in the picture, in degrees
    counter-clockwise as one looks at it, and ``place`` (2, 3), from pixels of the recovered face to those of
    the picture. ``at_once``: the first look found it.
    """

    stylized: np.ndarray
    note: str
    box_px: tuple[float, float, float, float] | None = None
    probability: float | None = None
    angle_deg: float | None = None
    place: np.ndarray | None = None
    at_once: bool = False


def frame_faces(picture: np.ndarray, crop: str = "auto", *, every: bool = False) -> list[Framed]:
    """The faces of a picture, uint8 (H, W, 3): the most central one, or ``every`` one, most central first.

    ``auto`` is ``face`` where MTCNN finds one, at once or by further looks, and ``centre`` otherwise;
    ``none`` takes the whole picture, for SFs that are framed already. Raises PictureError where ``face``
    finds none, InputError for a ``crop`` that there is not.
    """
    if crop not in CROPS:
        raise InputError(f"crop {crop!r}: expected one of {', '.join(CROPS)}")
    if crop == "none":
        whole = cv2.resize(picture, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
        return [Framed(whole, "the whole picture")]
    faces = find_faces(picture) or look_further(picture) if crop in ("auto", "face") else []
    if faces:
        return [_framed(picture, face) for face in (faces if every else faces[:1])]
    if crop == "face":
        raise PictureError(f"{NO_FACE}; try --crop centre")
    height, width = picture.shape[:2]
    note = f"{NO_FACE}, took the middle" if crop == "auto" else "the middle"
    return [Framed(resample(picture, centre_window(width, height), (FACE_PX, FACE_PX)), note)]


def _framed(picture: np.ndarray, face: Detection) -> Framed:
    to_picture = similarity(TEMPLATE_PX, face.landmarks_px)
    return Framed(
        resample(picture, framed_window(face.landmarks_px), (FACE_PX, FACE_PX)),
        f"face found by {face.looks} of {len(LOOKS)} further looks" if face.looks else "face found",
        face.box_px,
        face.probability,
        # y runs down: a face that leans to its right as one looks at it has a negative angle
        float(-np.degrees(np.arctan2(to_picture[1, 0], to_picture[0, 0]))),
        to_picture @ window_to_frame(),
        at_once=not face.looks,
    )


def shown(face: np.ndarray) -> np.ndarray:
    """A face, uint8 (128, 128, 3), in its true proportions: uint8 (266, 214, 3)."""
    return cv2.resize(face, SHOWN_PX, interpolation=cv2.INTER_CUBIC)


def put_back(picture: np.ndarray, face: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The picture with a recovered face, uint8 (128, 128, 3), where it came from, fading out around it.

    ``place`` is that of its ``Framed``.
    """
    height, width = picture.shape[:2]
    # an ellipse: what lies in the corners of the window is not of the face
    across = np.linspace(-1, 1, FACE_PX)
    ramp = np.clip((1 - np.hypot(across[:, None], across)) / FEATHER, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    layer = np.dstack([face, 255 * smooth]).astype(np.float32)
    warped = cv2.warpAffine(layer, place, (width, height), flags=cv2.INTER_CUBIC, borderValue=0)
    share = np.clip(warped[:, :, 3:] / 255, 0, 1)
    mixed = share * warped[:, :, :3] + (1 - share) * picture
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)   # type: ignore[no-any-return]

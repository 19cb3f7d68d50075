"""Where a pixel goes: CelebA's aligned frame, the face window, the misalignment, and the one function that
resamples.

Three pixel frames, in each of which whole numbers are pixel centres, x runs right and y down:

* the **frame**, 178x218: a face aligned by the eyes as CelebA aligns it;
* the **window**, the central 107x133 of the frame, resized (anisotropically) to a square picture: a real face
  (RF);
* the stylized face (SF), the same window of the misaligned frame.

Misalignment is a similarity of the frame about the window's centre, composed with the window into one map
that is applied once, so that no pixel is interpolated twice (specification, section 1; ranges from the lab's
scripts, the paper gives none).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError

FRAME_PX = (178, 218)   # width, height of CelebA's aligned pictures
# left, top, width, height: rows 55..187 and columns 35..141 of the release, counted from 1
WINDOW_PX = (34, 54, 107, 133)
FACE_PX = 128

# CelebA's mean landmarks in the frame: left and right eye as one sees them, nose tip, left and right mouth
# corner
TEMPLATE_PX = np.array([[69.4, 111.2], [107.6, 111.2], [88.1, 135.0], [71.0, 152.3], [105.0, 152.3]])

_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "zero": cv2.BORDER_CONSTANT}
BORDERS = tuple(_BORDERS)


@dataclass(frozen=True)
class Misalignment:
    """A similarity about the window's centre: the face turns, shrinks and moves.

    ``angle_deg`` is counter-clockwise as one looks at the picture; ``scale`` below 1 shrinks the face;
    ``shift_x`` and ``shift_y`` are fractions of the window's width and height, to the right and down.
    """

    angle_deg: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


ALIGNED = Misalignment()


@dataclass(frozen=True)
class Tier:
    """Ranges that a misalignment is drawn from, each uniform."""

    max_angle_deg: float
    min_scale: float
    max_shift: float


TIERS = {
    "none": Tier(0.0, 1.0, 0.0),
    "mild": Tier(15.0, 0.9, 0.025),
    "rotation": Tier(45.0, 1.0, 0.0),
    "lab": Tier(45.0, 0.8, 0.05),   # the lab's scripts; the default
}


def draw_misalignment(tier: str, *key: str | int) -> Misalignment:
    """The misalignment of one sample: rotation, scale and both shifts uniform in the tier's ranges, a
    function of ``key`` alone.

    Values are rounded to six decimals, so that the manifest holds them exactly.
    """
    if tier not in TIERS:
        raise InputError(f"misalignment {tier!r} is none of {', '.join(TIERS)}")
    ranges = TIERS[tier]
    # drawn for every tier alike, so a face keeps its direction across tiers
    u = generator("misalignment", *key).random(4)
    values = (
        (2 * u[0] - 1) * ranges.max_angle_deg,
        ranges.min_scale + u[1] * (1 - ranges.min_scale),
        (2 * u[2] - 1) * ranges.max_shift,
        (2 * u[3] - 1) * ranges.max_shift,
    )
    return Misalignment(*(round(float(value), 6) for value in values))


def draw_misalignments(tier: str, count: int, draws: np.random.Generator) -> np.ndarray:
    """(count, 4) float64: angles in degrees, scales and both shifts, uniform in the tier's ranges.

    For misalignments that are drawn while training: no manifest holds them.
    """
    ranges = TIERS[tier]
    least = np.array([-ranges.max_angle_deg, ranges.min_scale, -ranges.max_shift, -ranges.max_shift])
    most = np.array([ranges.max_angle_deg, 1.0, ranges.max_shift, ranges.max_shift])
    return least + draws.random((count, 4)) * (most - least)


def frame_similarities(misalignments: np.ndarray) -> np.ndarray:
    """(N, 4) misalignments, as ``Misalignment`` names its fields, to (N, 3, 3): ``frame_similarity`` of many.
    """
    left, top, width, height = WINDOW_PX
    centre = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
    angle, scale = np.deg2rad(misalignments[:, 0]), misalignments[:, 1]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([cos, sin, -sin, cos], 1).reshape(-1, 2, 2)
    matrices = np.zeros((len(misalignments), 3, 3))
    matrices[:, :2, :2], matrices[:, 2, 2] = linear, 1.0
    matrices[:, :2, 2] = centre + misalignments[:, 2:] * [width, height] - linear @ centre
    return matrices


def frame_similarity(misalignment: Misalignment) -> np.ndarray:
    """(3, 3): frame coordinates of the aligned face to frame coordinates of the misaligned one."""
    left, top, width, height = WINDOW_PX
    centre = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
    angle = np.deg2rad(misalignment.angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    # counter-clockwise on the screen, where y runs down
    linear = misalignment.scale * np.array([[cos, sin], [-sin, cos]])
    shift = np.array([misalignment.shift_x * width, misalignment.shift_y * height])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + shift - linear @ centre
    return matrix


def window_to_frame(size_px: int = FACE_PX) -> np.ndarray:
    """(3, 3): pixel coordinates of the square window at ``size_px`` to
    frame coordinates (pixel areas, not centres, coincide).
    """
    left, top, width, height = WINDOW_PX
    sx, sy = width / size_px, height / size_px
    return np.array([[sx, 0, left + sx / 2 - 0.5], [0, sy, top + sy / 2 - 0.5], [0, 0, 1]])


def warp_matrix(misalignment: Misalignment, size_px: int = FACE_PX) -> np.ndarray:
    """(2, 3) float64: pixel coordinates of the RF to pixel coordinates of the SF, both ``size_px`` square.

    It is what a shard stores.
    """
    to_frame = window_to_frame(size_px)
    return (np.linalg.inv(to_frame) @ frame_similarity(misalignment) @ to_frame)[:2]


def face_window(
    picture: np.ndarray,
    misalignment: Misalignment = ALIGNED,
    *,
    size_px: int = FACE_PX,
    border: str = "reflect",
) -> np.ndarray:
    """The window of a misaligned frame: uint8 (218, 178, 3) to uint8 (size_px, size_px, 3), resampled once,
    bicubic, antialiased.

    ``border`` says what stands where the map leaves the picture: ``reflect``, or ``zero`` for the historical
    black corners.
    """
    if picture.shape != (FRAME_PX[1], FRAME_PX[0], 3):
        raise InputError(f"an aligned face is 178x218 RGB, this one is an array of shape {picture.shape}")
    source = np.linalg.inv(frame_similarity(misalignment)) @ window_to_frame(size_px)
    return resample(picture, source[:2], (size_px, size_px), border=border, warp=_warp_affine())


def undo_warp(stylized: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Oracle alignment: uint8 (H, W, 3) SF brought back upright with its stored (2, 3) matrix.

    Black where the SF shows nothing.
    """
    height, width = stylized.shape[:2]
    return resample(stylized, warp, (width, height), border="zero")


def warp_affine_cv2(
    picture: np.ndarray, forward: np.ndarray, shape: tuple[int, int], border: int
) -> np.ndarray:
    """OpenCV's affine warp, bicubic: (picture, forward (3, 3), (height, width), border mode) -> picture."""
    return cv2.warpAffine(
        picture, forward[:2], shape[::-1], flags=cv2.INTER_CUBIC, borderMode=border, borderValue=0
    )


def resample(
    picture: np.ndarray, source: np.ndarray, size: tuple[int, int], *, border: str = "reflect",
    warp: Callable[..., np.ndarray] = warp_affine_cv2,
) -> np.ndarray:
    """Bicubic resampling through an affine map, antialiased; the one place where pixels are interpolated.

    ``source`` is (2, 3), output pixel to input pixel; ``size`` is (width, height). Where the map shrinks the
    picture it is rendered at a whole multiple of the size and averaged down, so nothing aliases. A
    misalignment is applied by albumentations with the parameters given here (``warp``), all else by OpenCV,
    which it calls: the same bytes, without the second and a half that its import takes. OpenCV's bicubic
    kernel has a = -0.75 and samples at 1/32 px, so a stored matrix and its picture agree to 1/64 px of the
    input.
    """
    width, height = size
    # input pixels per output pixel in the worst direction
    shrink = np.linalg.svd(source[:, :2], compute_uv=False)[0]
    factor = min(max(int(np.ceil(shrink - 1e-6)), 1), 32)
    dense = np.array(source, dtype=np.float64)
    dense[:, :2] /= factor
    dense[:, 2] -= dense[:, :2].sum(axis=1) * (factor - 1) / 2   # keep pixel areas, not centres, in place
    forward = np.linalg.inv(np.vstack([dense, [0, 0, 1]]))
    if factor == 1:
        return warp(picture, forward, (height, width), _BORDERS[border])
    dense_picture = warp(
        picture.astype(np.float32), forward, (height * factor, width * factor), _BORDERS[border]
    )
    averaged = cv2.resize(dense_picture, (width, height), interpolation=cv2.INTER_AREA)
    # rounded once: rounding before the average, too, brightens by 0.2 levels
    return np.clip(np.rint(averaged), 0, 255).astype(np.uint8)


@cache
def _warp_affine() -> Any:
    """albumentations' affine warp, or OpenCV's where it is missing; as ``warp_affine_cv2``."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"   # or its import asks the network for its newest version
    try:
        from albumentations.augmentations.geometric.functional import is_identity_matrix, warp_affine
    except ImportError:
        return warp_affine_cv2

    def warp(picture: np.ndarray, forward: np.ndarray, shape: tuple[int, int], border: int) -> np.ndarray:
        if is_identity_matrix(forward):   # for which albumentations gives the picture back whatever the shape
            return warp_affine_cv2(picture, forward, shape, border)
        return warp_affine(picture, forward, cv2.INTER_CUBIC, 0, border, shape)

    return warp


def align_by_eyes(picture: np.ndarray, left_eye: np.ndarray, right_eye: np.ndarray) -> np.ndarray:
    """A photograph brought into the frame: the similarity that puts both
    eyes (x, y in px) on CelebA's, uint8 (218, 178, 3).
    """
    source = eyes_similarity(TEMPLATE_PX[0], TEMPLATE_PX[1], np.asarray(left_eye), np.asarray(right_eye))
    return resample(picture, source, FRAME_PX)


def framed_window(landmarks_px: np.ndarray) -> np.ndarray:
    """(2, 3): the face window of a picture that is not turned, output pixel of a 128 px square to picture
    pixel.

    Size and place come from the five landmarks (5, 2), so that a face fills the window as in the data set, at
    the middle of the default tier's scales; its rotation stays in the picture.
    """
    to_picture = similarity(TEMPLATE_PX, np.asarray(landmarks_px, dtype=np.float64))
    left, top, width, height = WINDOW_PX
    middle = to_picture[:, :2] @ [left + (width - 1) / 2, top + (height - 1) / 2] + to_picture[:, 2]
    return _window_at(middle, float(np.hypot(*to_picture[:, 0])) / ((TIERS["lab"].min_scale + 1) / 2))


def centre_window(width_px: int, height_px: int) -> np.ndarray:
    """(2, 3): the largest window of the right proportions in the middle of a picture."""
    scale = min(width_px / WINDOW_PX[2], height_px / WINDOW_PX[3])
    return _window_at(np.array([(width_px - 1) / 2, (height_px - 1) / 2]), scale)


def _window_at(middle: np.ndarray, scale: float) -> np.ndarray:
    step = scale * np.array(WINDOW_PX[2:]) / FACE_PX   # picture pixels per output pixel
    start = middle - step * (FACE_PX - 1) / 2
    return np.array([[step[0], 0, start[0]], [0, step[1], start[1]]])


def similarity(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """(2, 3): the least-squares similarity that takes points (N, 2) to points (Umeyama 1991).

    In the plane it is a complex factor.
    """
    start, end = points.mean(0), to.mean(0)
    a, b = (points - start) @ [1, 1j], (to - end) @ [1, 1j]
    turn = (b * a.conj()).sum() / (a * a.conj()).sum()
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, end - linear @ start])


def eyes_similarity(
    left: np.ndarray, right: np.ndarray, left_to: np.ndarray, right_to: np.ndarray
) -> np.ndarray:
    """(2, 3): the similarity that takes two points to two points."""
    a, b = complex(*left), complex(*right)
    c, d = complex(*left_to), complex(*right_to)
    turn = (d - c) / (b - a)
    move = c - turn * a
    return np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])

"""What is left of a misalignment: the similarity between a recovered face and its real one, in CelebA's
frame.

By maximising the enhanced correlation coefficient (Evangelidis and Psarakis 2008, as OpenCV has it). It says
whether the STNs did their work.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ifrp_bench.ground.warp import WINDOW_PX
from ifrp_bench.metrics import Column, Columns, Metric

LEVELS = (4, 2, 1)   # coarse to fine
STARTS_DEG = (0.0, -20.0, 20.0, -40.0, 40.0)   # tried at the coarsest level
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
BLUR = 5
MIN_CORRELATION = 0.4   # below it the two are not seen to be one face, and where it lies means nothing


@dataclass(frozen=True)
class Residual:
    """Angle in degrees (counter-clockwise as seen), scale, and the length of the shift of the middle in frame
    pixels (107 x 133).

    All nan where the correlation found is below 0.4.
    """

    angle_deg: float
    scale: float
    shift_px: float


NOTHING = Residual(float("nan"), float("nan"), float("nan"))


def residual(recovered: np.ndarray, real: np.ndarray) -> Residual:
    """How a recovered face lies against its real one, uint8 (128, 128, 3) each."""
    planes = [
        cv2.cvtColor(cv2.resize(face, WINDOW_PX[2:], interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for face in (real, recovered)
    ]
    tried = [_aligned(planes, _turned(angle), LEVELS[0]) for angle in STARTS_DEG]
    correlation, warp = max(tried, key=lambda found: found[0])
    for level in LEVELS[1:]:
        correlation, warp = _aligned(planes, warp, level)
    if correlation < MIN_CORRELATION:
        return NOTHING
    linear = warp[:, :2].astype(np.float64)
    # the similarity nearest to the affine map
    turn = complex(linear[0, 0] + linear[1, 1], linear[1, 0] - linear[0, 1]) / 2
    middle = (np.array(WINDOW_PX[2:]) - 1) / 2
    shift = linear @ middle + warp[:, 2] - middle
    return Residual(float(-np.degrees(np.angle(turn))), abs(turn), float(np.hypot(*shift)))


def _turned(angle_deg: float) -> np.ndarray:
    """(2, 3) float32: a turn about the window's middle."""
    middle = (np.array(WINDOW_PX[2:]) - 1) / 2
    return cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), angle_deg, 1.0).astype(np.float32)


def _aligned(planes: list[np.ndarray], start: np.ndarray, level: int) -> tuple[float, np.ndarray]:
    """The correlation and the affine map of full pixels that ECC finds from ``start`` at a fraction of the
    size; (-1, start) where it finds none.
    """
    small = [
        cv2.resize(plane, None, fx=1 / level, fy=1 / level, interpolation=cv2.INTER_AREA) for plane in planes
    ]
    pixels = np.array([1, 1, level], dtype=np.float32)
    try:
        correlation, warp = cv2.findTransformECC(  # type: ignore[call-overload]
            small[0], small[1], start / pixels, cv2.MOTION_AFFINE, STEPS, None, BLUR
        )
    except cv2.error:   # flat pictures, or a map that leaves the picture
        return -1.0, start
    return correlation, warp * pixels


def score(recovered: np.ndarray, real: np.ndarray) -> Columns:
    """``residual_deg`` (without sign), ``residual_scale`` and ``residual_px``."""
    found = [residual(one, other) for one, other in zip(recovered, real)]
    return {
        "residual_deg": np.abs([one.angle_deg for one in found]),
        "residual_scale": np.array([one.scale for one in found]),
        "residual_px": np.array([one.shift_px for one in found]),
    }


COLUMNS = (
    Column("residual_deg", "angle", unit="degrees", lower=True),
    Column("residual_scale"),
    Column("residual_px", "shift", unit="pixels of the 107x133 window", lower=True),
)
METRIC = Metric("picture", COLUMNS, score=score, table="residual", everywhere=False, place=70)

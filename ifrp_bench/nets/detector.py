"""Where the face is, found by MTCNN (``nets/mtcnn.py``)."""

from dataclasses import dataclass

import cv2
import numpy as np

# larger pictures are shrunk first: a face of 640/16 px is still found, in bounded time
LONGEST_SIDE_PX = 640
MIN_FACE_PX = 40   # smaller faces hold less than half of the frame's 38 px between the eyes
MIN_PROBABILITY = 0.9


@dataclass(frozen=True)
class Detection:
    """One face: ``landmarks_px`` is (5, 2) x, y: left and right eye as one
    sees them, nose tip, left and right mouth corner.
    """

    probability: float
    box_px: tuple[float, float, float, float]
    landmarks_px: np.ndarray


def find_faces(picture: np.ndarray) -> list[Detection]:
    """All faces in a uint8 (H, W, 3) RGB picture with p >= 0.9, most central first (LFW's convention when
    there are several).

    Coordinates are rounded to 0.01 px, far below the detector's own error, so that a cache holds them
    exactly.
    """
    height, width = picture.shape[:2]
    shrink = min(1.0, LONGEST_SIDE_PX / max(height, width))
    if round(shrink * min(height, width)) < MIN_FACE_PX:   # a strip, too, in which no face has room
        return []
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    from ifrp_bench.nets.mtcnn import detect   # torch, which a picture without room for a face does not need

    found = [
        Detection(
            round(float(p), 4), _box(box / shrink), np.round(np.asarray(landmarks, dtype=float) / shrink, 2)
        )
        for box, p, landmarks in zip(*detect(picture, MIN_FACE_PX))
        if p >= MIN_PROBABILITY
    ]
    centre = np.array([width - 1, height - 1]) / 2
    return sorted(found, key=lambda face: float(np.hypot(*(face.landmarks_px[:3].mean(0) - centre))))


def _box(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), 2) for value in box)
    return left, top, right, bottom

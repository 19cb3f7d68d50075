"""Where the face is, found by MTCNN (``nets/mtcnn.py``): in photographs by one look, in paintings and
drawings by further ones where that finds nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

# larger pictures are shrunk first: a face of 640/16 px is still found, in bounded time
LONGEST_SIDE_PX = 640
MIN_FACE_PX = 40   # smaller faces hold less than half of the frame's 38 px between the eyes
MIN_PROBABILITY = 0.9
SIZES_PX = {640: 40, 320: 40, 160: 24}   # of further looks: the longest side, and the smallest face
# further looks: the longest side and the blur in pixels, the turn in degrees
LOOKS = tuple(product(SIZES_PX, (0, 2), (0, 20, -20)))
ENLARGED_PX = 448   # to which a smaller picture is enlarged, so that no two of the sizes are one
CANVAS = 1.5   # of a further look, times the picture: a face may fill it to the edges
# looks that must see the same face: of 193 paintings, patterns and landscapes in which the first look finds
# none, five looks agree in one, rightly, four also in one that has none
AGREEING = 5
SAME_PLACE = 0.6   # times the distance of the eyes: faces whose middles are nearer are one
SAME_SIZE = 1.7   # and whose eyes are apart alike up to this factor


@dataclass(frozen=True)
class Detection:
    """One face: ``landmarks_px`` is (5, 2) x, y: left and right eye as one sees them, nose tip, left and
    right mouth corner. ``looks`` is how many of the further looks saw it; 0: the first one did.
    """

    probability: float
    box_px: tuple[float, float, float, float]
    landmarks_px: np.ndarray
    looks: int = 0

    @property
    def middle_px(self) -> np.ndarray:
        """Of its eyes and nose, (2,)."""
        return self.landmarks_px[:3].mean(0)   # type: ignore[no-any-return]

    @property
    def eyes_px(self) -> float:
        """The distance of its eyes."""
        return float(np.hypot(*(self.landmarks_px[1] - self.landmarks_px[0])))


def find_faces(picture: np.ndarray) -> list[Detection]:
    """All faces in a uint8 (H, W, 3) RGB picture with p >= 0.9, most central first (LFW's convention when
    there are several).

    Coordinates are rounded to 0.01 px, far below the detector's own error, so that a cache holds them
    exactly.
    """
    shrink = _shrink(picture)
    if not shrink:
        return []
    looked_at = picture
    if shrink < 1:
        looked_at = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    from ifrp_bench.nets.mtcnn import detect   # torch, which a picture without room for a face does not need

    found = [
        Detection(
            round(float(p), 4), _box(box / shrink), np.round(np.asarray(landmarks, dtype=float) / shrink, 2)
        )
        for box, p, landmarks in zip(*detect(looked_at, MIN_FACE_PX))
        if p >= MIN_PROBABILITY
    ]
    return _central_first(found, picture)


def look_further(picture: np.ndarray) -> list[Detection]:
    """Faces in a uint8 (H, W, 3) RGB picture of paint, ink or print in which ``find_faces`` finds none, most
    central first: those that some of 18 further looks agree on, at three sizes, sharp and blurred, upright
    and turned by 20 degrees, the best of them with p >= 0.9.

    Half a second on one core. Probability is the best look's, box and landmarks are means over those that
    agree.
    """
    shrink = _shrink(picture)
    if not shrink:
        return []
    seen = [(number, face) for number, look in enumerate(LOOKS) for face in _seen(picture, *look)]
    seen.sort(key=lambda one: -one[1].probability)
    groups: list[list[tuple[int, Detection]]] = []   # each of one face, its best look first
    for number, face in seen:
        group = next((group for group in groups if _alike(group[0][1], face)), None)
        if group is None:
            groups.append(group := [])
        group.append((number, face))

    found = []
    for group in groups:
        looks, faces = {number for number, _ in group}, [face for _, face in group]
        left, _, right, _ = faces[0].box_px
        large = right - left >= MIN_FACE_PX / shrink
        if large and len(looks) >= AGREEING and faces[0].probability >= MIN_PROBABILITY:
            box = np.mean([face.box_px for face in faces], 0)
            landmarks = np.mean([face.landmarks_px for face in faces], 0).round(2)
            found.append(Detection(faces[0].probability, _box(box), landmarks, len(looks)))
    return _central_first(found, picture)


def _seen(picture: np.ndarray, side_px: int, blur_px: int, turn_deg: int) -> Iterator[Detection]:
    """What one further look sees, in the picture's coordinates."""
    from ifrp_bench.nets.mtcnn import detect

    # of another size, blurred, and turned on a grey canvas
    longest_px = max(picture.shape[:2])
    scale = min(max(longest_px, ENLARGED_PX), side_px) / longest_px
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    sized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=kind)
    if blur_px:
        sized = cv2.GaussianBlur(sized, (0, 0), blur_px)
    height, width = sized.shape[:2]
    canvas = round(CANVAS * width), round(CANVAS * height)
    there = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, 1.0)
    there[:, 2] += (canvas[0] - width) / 2, (canvas[1] - height) / 2
    turned = cv2.warpAffine(sized, there, canvas, borderValue=(128, 128, 128))

    back = cv2.invertAffineTransform(there)
    for box, probability, landmarks in zip(*detect(turned, SIZES_PX[side_px])):
        corners = box.reshape(2, 2)
        middle = (corners.mean(0) @ back[:, :2].T + back[:, 2]) / scale
        half = (corners[1] - corners[0]) / 2 / scale
        placed = (np.asarray(landmarks, dtype=float) @ back[:, :2].T + back[:, 2]) / scale
        placed_box = _box(np.concatenate([middle - half, middle + half]))
        yield Detection(round(float(probability), 4), placed_box, placed)


def _alike(one: Detection, other: Detection) -> bool:
    """Whether two looks saw the same face."""
    near = np.hypot(*(one.middle_px - other.middle_px)) < SAME_PLACE * one.eyes_px
    return bool(near and max(one.eyes_px, other.eyes_px) < SAME_SIZE * min(one.eyes_px, other.eyes_px))


def _shrink(picture: np.ndarray) -> float:
    """The factor by which a large picture is made smaller; 0 for one in which no face has room: a strip, too.
    """
    shrink = min(1.0, LONGEST_SIDE_PX / max(picture.shape[:2]))
    return shrink if round(shrink * min(picture.shape[:2])) >= MIN_FACE_PX else 0.0


def _central_first(found: list[Detection], picture: np.ndarray) -> list[Detection]:
    height, width = picture.shape[:2]
    centre = np.array([width - 1, height - 1]) / 2
    return sorted(found, key=lambda face: float(np.hypot(*(face.middle_px - centre))))


def _box(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), 2) for value in box)
    return left, top, right, bottom

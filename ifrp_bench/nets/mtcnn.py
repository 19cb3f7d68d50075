"""MTCNN (Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional
networks"): three small networks, each of which looks closer at what the one before proposes.

The weights are those that facenet-pytorch ships, read from the installed package's files; the cascade is
computed here, since the package's own takes four times as long a photograph and two seconds to import.
Coordinates are pixels of the picture.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE, CELL = 2, 12   # of the proposal network, px at the scale that it works at
SHRINK = 0.709   # from one scale to the next
PROPOSED, REFINED, SURE = 0.6, 0.7, 0.7   # least probabilities of the three stages
R_PX, O_PX = 24, 48   # what the second and the third network look at
Weights = dict[str, Tensor]


@cache
def _weights(network: str) -> Weights:
    """``pnet``, ``rnet`` or ``onet``."""
    spec = find_spec("facenet_pytorch")
    assert spec and spec.submodule_search_locations, "facenet-pytorch is not installed"
    path = Path(next(iter(spec.submodule_search_locations)), "data", f"{network}.pt")
    loaded: Weights = torch.load(path, map_location="cpu", weights_only=True)
    return {
        name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in loaded.items()
    }


def _layer(weights: Weights, number: int, x: Tensor) -> Tensor:
    x = F.conv2d(x, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"])
    return F.prelu(x, weights[f"prelu{number}.weight"])


def _dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _flat(x: Tensor) -> Tensor:
    """As the networks were trained: columns before rows before channels."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _as_input(pictures: np.ndarray) -> Tensor:
    """(N, H, W, 3) of 0 to 255 to (N, 3, H, W) of -1 to 1, channels_last."""
    return torch.from_numpy((pictures - np.float32(127.5)) * np.float32(0.0078125)).permute(0, 3, 1, 2)


def proposals(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first network on one scale: float32 (H, W, 3) to probabilities (h, w) and corrections (h, w, 4)."""
    weights = _weights("pnet")
    x = _layer(weights, 1, _as_input(picture[None]))
    x = F.max_pool2d(x, 2, 2, ceil_mode=True)
    x = _layer(weights, 3, _layer(weights, 2, x))
    face = F.conv2d(x, weights["conv4_1.weight"], weights["conv4_1.bias"]).softmax(1)[0, 1]
    corrections = F.conv2d(x, weights["conv4_2.weight"], weights["conv4_2.bias"])[0].permute(1, 2, 0)
    return face.numpy(), corrections.numpy()


def refined(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The second: float32 (N, 24, 24, 3) to probabilities (N,) and corrections (N, 4)."""
    weights = _weights("rnet")
    x = F.max_pool2d(_layer(weights, 1, _as_input(crops)), 3, 2, ceil_mode=True)
    x = F.max_pool2d(_layer(weights, 2, x), 3, 2, ceil_mode=True)
    x = F.prelu(_dense(weights, "dense4", _flat(_layer(weights, 3, x))), weights["prelu4.weight"])
    return (
        _dense(weights, "dense5_1", x).softmax(1)[:, 1].numpy(), _dense(weights, "dense5_2", x).numpy()
    )


def settled(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The third: float32 (N, 48, 48, 3) to probabilities (N,), corrections (N, 4) and landmarks (N, 5, 2),
    x, y in 0 to 1 of the crop.
    """
    weights = _weights("onet")
    x = F.max_pool2d(_layer(weights, 1, _as_input(crops)), 3, 2, ceil_mode=True)
    x = F.max_pool2d(_layer(weights, 2, x), 3, 2, ceil_mode=True)
    x = F.max_pool2d(_layer(weights, 3, x), 2, 2, ceil_mode=True)
    x = F.prelu(_dense(weights, "dense5", _flat(_layer(weights, 4, x))), weights["prelu5.weight"])
    return (
        _dense(weights, "dense6_1", x).softmax(1)[:, 1].numpy(),
        _dense(weights, "dense6_2", x).numpy(),
        _dense(weights, "dense6_3", x).view(-1, 2, 5).permute(0, 2, 1).numpy(),
    )


@torch.inference_mode()
def detect(picture: np.ndarray, min_face_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All faces in a uint8 (H, W, 3) RGB picture: boxes (N, 4) left, top, right, bottom, probabilities (N,),
    landmarks (N, 5, 2), x, y.
    """
    whole = picture.astype(np.float32)
    boxes = within(_proposed(whole, min_face_px), whole)
    if not len(boxes):
        return _none()

    # the second network drops most of what is proposed, and moves the rest
    probabilities, corrections = refined(_cut(whole, boxes, R_PX))
    sure = probabilities > REFINED
    boxes, corrections = boxes[sure], corrections[sure]
    kept = suppressed(boxes, probabilities[sure], 0.7)
    boxes = within(_squared(_corrected(boxes[kept], corrections[kept])), whole)
    if not len(boxes):
        return _none()

    # the third decides, and says where eyes, nose and mouth are
    probabilities, corrections, landmarks = settled(_cut(whole, boxes, O_PX))
    sure = probabilities > SURE
    boxes, probabilities = boxes[sure], probabilities[sure]
    landmarks = _placed(landmarks[sure], boxes)
    boxes = _corrected(boxes, corrections[sure])
    kept = suppressed(boxes, probabilities, 0.7, of_smaller=True)
    return boxes[kept], probabilities[kept], landmarks[kept]


@torch.inference_mode()
def landmarks_in(picture: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """What the third network sees in square boxes (N, 4) of a picture in which a face is known already:
    (N, 5, 2), x, y.
    """
    whole = picture.astype(np.float32)
    boxes = within(boxes, whole)
    return _placed(settled(_cut(whole, boxes, O_PX))[2], boxes)


def _none() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))


def _proposed(picture: np.ndarray, min_face_px: float) -> np.ndarray:
    """Square boxes (N, 4) that may hold a face, of all scales."""
    height, width = picture.shape[:2]
    scale = CELL / min_face_px
    found = []
    while min(height, width) * scale >= CELL:
        size = int(width * scale + 1), int(height * scale + 1)
        face, corrections = proposals(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        rows, columns = np.nonzero(face >= PROPOSED)
        places = np.stack([columns, rows], 1)
        corners = [STRIDE * places / scale, (STRIDE * places + CELL) / scale]
        boxes = np.concatenate([*corners, face[rows, columns, None], corrections[rows, columns]], 1)
        found.append(boxes[suppressed(boxes[:, :4], boxes[:, 4], 0.5)])
        scale *= SHRINK
    boxes = np.concatenate(found)
    boxes = boxes[suppressed(boxes[:, :4], boxes[:, 4], 0.7)]
    sides = (boxes[:, 2:4] - boxes[:, :2])[:, [0, 1, 0, 1]]
    return _squared(boxes[:, :4] + boxes[:, 5:] * sides)


def _corrected(boxes: np.ndarray, corrections: np.ndarray) -> np.ndarray:
    sides = (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
    return boxes + corrections * sides


def _squared(boxes: np.ndarray) -> np.ndarray:
    """The square of the longer side around the same centre."""
    sides = boxes[:, 2:] - boxes[:, :2]
    side = sides.max(1, keepdims=True)
    corner = boxes[:, :2] + (sides - side) / 2
    return np.concatenate([corner, corner + side], 1)


def within(boxes: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Boxes in whole pixels with one around them, cut at the borders; without those of which nothing lies in
    the picture.

    What a network says of a crop is then of exactly these pixels; the package cuts whole pixels out and reads
    the answer as of the box before rounding, which moves an eye by up to a pixel.
    """
    height, width = picture.shape[:2]
    margin = [-1, -1, 1, 1]
    whole = np.clip(np.rint(boxes) + margin, 0, [width, height, width, height]).astype(np.int64)
    return whole[(whole[:, 2:] > whole[:, :2]).all(1)]


def _cut(picture: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """What lies in boxes of whole pixels, each as (size, size, 3)."""
    crops = np.empty((len(boxes), size, size, 3), np.float32)
    for crop, (left, top, right, bottom) in zip(crops, boxes):
        cv2.resize(picture[top:bottom, left:right], (size, size), dst=crop, interpolation=cv2.INTER_AREA)
    return crops


def _placed(landmarks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Landmarks of crops as pixels of the picture."""
    placed: np.ndarray = landmarks * (boxes[:, 2:] - boxes[:, :2])[:, None] + boxes[:, None, :2]
    return placed


def suppressed(
    boxes: np.ndarray, probabilities: np.ndarray, most: float, *, of_smaller: bool = False
) -> Sequence[int]:
    """Which boxes stay, surest first: none that overlaps a surer one by more than ``most`` of both together,
    or of the smaller one.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    left: Any = np.argsort(-probabilities, kind="stable")
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[left, :2])
        high = np.minimum(boxes[first, 2:], boxes[left, 2:])
        shared = np.maximum(0, high - low).prod(1)
        whole = np.minimum(area[first], area[left]) if of_smaller else area[first] + area[left] - shared
        left = left[shared <= most * whole]
    return kept

"""How far an aligner is off: the maps that it finds against the stored misalignments."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ifrp_bench.ground.images import to_faces
from ifrp_bench.ground.warp import FACE_PX, window_to_frame
from ifrp_bench.methods import Aligner
from ifrp_bench.recovery.split import Task
from ifrp_bench.recovery.trained import FACES_AT_ONCE


def alignment_errors(task: Task) -> Iterator[dict[str, Any]]:
    """A row for each SF of the task's split: how far its aligner is off.

    ``style``, ``face``, ``identity``, ``angle_error_deg``, ``scale_error`` (a ratio) and ``shift_error_px``
    (of the window's middle, in the frame's pixels).
    """
    declared = task.aligning.part.declared
    assert isinstance(declared, Aligner)
    to_frame = window_to_frame()[:2, :2]
    middle = np.array([FACE_PX - 1, FACE_PX - 1]) / 2
    for path in task.data.shards(task.split):
        shard = task.data.read(path)
        batches = np.array_split(shard.stylized, -(-len(shard.stylized) // FACES_AT_ONCE))
        maps = [declared.maps(task.aligning.method, to_faces(batch, task.device)) for batch in batches]
        for row, found in enumerate(torch.cat(maps).cpu().double().numpy()):
            pixels = in_pixels(found)
            # in the frame, where both are similarities, the found map after the inverse of the stored one: 1
            # if it is right
            stored = np.linalg.inv(shard.warp[row][:, :2].astype(np.float64))
            off = to_frame @ pixels[:, :2] @ stored @ np.linalg.inv(to_frame)
            turn = complex(off[0, 0] + off[1, 1], off[1, 0] - off[0, 1]) / 2
            shift = to_frame @ ((pixels - shard.warp[row]) @ [*middle, 1.0])
            yield {
                "style": shard.style[row].decode(),
                "face": shard.face[row].decode(),
                "identity": int(shard.identity[row]),
                "angle_error_deg": abs(np.degrees(np.angle(turn))),
                "scale_error": abs(abs(turn) - 1),
                "shift_error_px": float(np.hypot(*shift)),
            }


def in_pixels(matrix: np.ndarray, size_px: int = FACE_PX) -> np.ndarray:
    """A (2, 3) map of coordinates in [-1, 1] as one of pixel coordinates."""
    half = (size_px - 1) / 2
    linear = matrix[:, :2]
    return np.column_stack([linear, half * (matrix[:, 2] + 1) - linear.sum(1) * half])

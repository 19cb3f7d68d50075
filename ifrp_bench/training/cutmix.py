"""Pairs put together from two: CutMix (Yun et al. 2019) along a soft line, an option of this project for
trainings that see few faces often.

Of two pairs of one style the one SF is laid where the other lies, by their stored maps, and both SFs and both
RFs are cut along the same line. What comes of it is the pair of a face that nobody has, at the price of one
resampling; a network cannot know it by heart.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.methods import Pairs
from ifrp_bench.nets.stn import composed, inverse

REACH = 0.6   # half-sides from the middle, at most, that a line passes it by
SOFTNESS = (0.02, 0.1)   # half-sides over which one face becomes the other, least and most
DRAWS = 4   # uniform numbers that a pair takes: whether it is cut, the line's angle, place and softness


def partners(styles: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """For each of (N,) styles the number of another one of its kind, itself where there is none."""
    other = np.arange(len(styles))
    for style in np.unique(styles):
        alike = draws.permutation(np.flatnonzero(styles == style))
        other[alike] = np.roll(alike, 1)
    return other


def put_together(pairs: Pairs, others: Pairs, share: float, draws: Tensor) -> Pairs:
    """N pairs, each with the probability ``share`` continued by the other beyond a line; it stays misaligned
    as it was. ``draws`` is float32 (N, DRAWS), uniform in [0, 1).
    """
    chosen = (draws[:, 0] < share)[:, None, None]
    size = list(pairs.stylized.shape)

    # where the other one's SF is read from, and where the line lies, for an SF that is misaligned
    back = inverse(pairs.warp)
    there = F.affine_grid(composed(others.warp, back), size, align_corners=True)
    laid = F.grid_sample(others.stylized, there, "bilinear", "reflection", align_corners=True)
    upright = F.affine_grid(torch.eye(2, 3, device=back.device).expand_as(back), size, align_corners=True)
    misaligned = F.affine_grid(back, size, align_corners=True)

    def mixed(face: Tensor, other: Tensor, points: Tensor) -> Tensor:
        kept = torch.where(chosen, _side(points, draws), 1.0)[:, None]   # (N, 1, H, W)
        return torch.lerp(other, face, kept).contiguous(memory_format=torch.channels_last)

    stylized = mixed(pairs.stylized, laid, misaligned)
    return Pairs(stylized, mixed(pairs.real, others.real, upright), pairs.warp)


def _side(points: Tensor, draws: Tensor) -> Tensor:
    """How far on the one side of each pair's line points (N, H, W, 2) are: 0 to 1, (N, H, W)."""
    _, angle, place, softness = draws[:, :, None, None].unbind(1)
    angle = 2 * math.pi * angle
    away = points[..., 0] * angle.cos() + points[..., 1] * angle.sin() - REACH * (2 * place - 1)
    least, most = SOFTNESS
    return torch.sigmoid(away / (least + (most - least) * softness))

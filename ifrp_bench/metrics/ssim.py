"""Structural similarity (Wang et al. 2004), one value per face. Averaging over a split is for the tables.

The protocol is scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255``: an 11x11 Gaussian, K 0.01 and 0.03, population covariance, the
border of 5 px left out. All planes of a face, luma and RGB, go through the filter together, as products with
blocks of its banded matrix; face by face, so that no value depends on the batch.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.metrics import Column, Columns, Metric

RADIUS = 5   # scikit-image truncates at 3.5 sigma
_TAPS = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / 1.5) ** 2)
TAPS = _TAPS / _TAPS.sum()
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LUMA = (0.299, 0.587, 0.114)   # BT.601
MIDDLE = 128.0   # planes are taken around it: squares lose fewer digits
PLANES = 4   # red, green, blue, luma
BLOCK = 24   # filtered rows at a time: 11 of 34 entries of a block are not 0, of the whole band 11 of 128


def ssim(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """SSIM of the luma of uint8 (N, H, W, 3) RGB faces, float64 (N,)."""
    return ssim_of_planes(recovered, real, dtype)[:, 3]


def ssim_rgb(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same on each of the three channels, averaged: float64 (N,)."""
    return ssim_of_planes(recovered, real, dtype)[:, :3].mean(1)


def ssim_of_planes(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """SSIM of red, green, blue and luma, float64 (N, 4), computed in ``dtype`` on the CPU."""
    return torch.stack([_ssim(one, other, dtype) for one, other in zip(recovered.cpu(), real.cpu())]).double()


def _ssim(face: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    """Of two uint8 (H, W, 3) faces: (4,), averaged over the inner positions."""
    height, width = face.shape[:2]
    planes = torch.empty(height, 4, PLANES, width, dtype=dtype)   # x, y, x² + y², xy
    x, y, squares, products = planes.unbind(1)
    _planes(face, x)
    _planes(other, y)
    torch.mul(x, x, out=squares).addcmul_(y, y)
    torch.mul(x, y, out=products)

    mean_x, mean_y, squares, products = _filtered(planes).unbind(1)
    both, each = mean_x * mean_y, (mean_x * mean_x).addcmul_(mean_y, mean_y)
    covariance, variances = products - both, squares - each
    total = mean_x + mean_y
    both.add_(total, alpha=MIDDLE).add_(MIDDLE**2)   # means moved back
    each.add_(total, alpha=2 * MIDDLE).add_(2 * MIDDLE**2)
    alike = both.mul_(2).add_(C1).mul_(covariance.mul_(2).add_(C2))
    return alike.div_(each.add_(C1).mul_(variances.add_(C2))).mean((0, 2))


def _planes(face: Tensor, out: Tensor) -> None:
    """RGB and luma around mid-grey, into (H, 4, W)."""
    out[:, :3] = face.transpose(1, 2)
    torch.mul(out[:, 0], LUMA[0], out=out[:, 3]).add_(out[:, 1], alpha=LUMA[1]).add_(out[:, 2], alpha=LUMA[2])
    out -= MIDDLE


def _filtered(planes: Tensor) -> Tensor:
    """(H, ..., W) planes through the Gaussian, the inner positions alone: (H - 10, ..., W - 10)."""
    height, *others, width = planes.shape
    down = planes.new_empty(height - 2 * RADIUS, planes[0].numel())
    for start in range(0, len(down), BLOCK):
        out = down[start:start + BLOCK]
        torch.mm(
            band(len(out), planes.dtype),
            planes.view(height, -1)[start : start + len(out) + 2 * RADIUS],
            out=out,
        )
    rows = down.view(-1, width)
    across = rows.new_empty(len(rows), width - 2 * RADIUS)
    for start in range(0, across.shape[1], BLOCK):
        out = across[:, start:start + BLOCK]
        out.copy_(rows[:, start:start + out.shape[1] + 2 * RADIUS] @ band(out.shape[1], planes.dtype).T)
    return across.view(len(down), *others, -1)


@lru_cache
def band(rows: int, dtype: torch.dtype) -> Tensor:
    """The Gaussian as a matrix (rows, rows + 10): each row has the taps one place further on."""
    matrix = torch.zeros(rows, rows + 2 * RADIUS, dtype=dtype)
    for row in range(rows):
        matrix[row, row:row + len(TAPS)] = torch.from_numpy(TAPS)
    return matrix


def score(recovered: np.ndarray, real: np.ndarray) -> Columns:
    """``ssim`` of luma, and ``ssim_rgb``, the mean of the three channels', in float64."""
    by_plane = ssim_of_planes(torch.from_numpy(recovered), torch.from_numpy(real)).numpy()
    return {"ssim": by_plane[:, 3], "ssim_rgb": by_plane[:, :3].mean(1)}


METRIC = Metric(
    "picture", (Column("ssim", "ssim", digits=3), Column("ssim_rgb", digits=3)),
    score=score, default=True, table="table1", place=20,
)

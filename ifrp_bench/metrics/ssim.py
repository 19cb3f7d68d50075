"""Structural similarity (Wang et al. 2004), one value per face. Averaging over a split is tables.py's job.

The protocol is scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255``: an 11x11
Gaussian, K 0.01 and 0.03, population covariance, the border of 5 px left out. The filter is two products with a banded matrix, which is exact
and many times faster than filtering picture by picture.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

SIGMA = 1.5
RADIUS = 5   # scikit-image truncates at 3.5 sigma
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LUMA = (0.299, 0.587, 0.114)   # BT.601
BATCH = 64   # faces at a time: memory stays small


def ssim(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """SSIM of the luma of uint8 (N, H, W, 3) RGB faces, float64 (N,). In float64 the answer does not depend on batch or device."""
    weights = torch.tensor(LUMA, dtype=dtype, device=real.device)
    return _in_batches(recovered, real, lambda faces: (faces.to(dtype) @ weights)[:, None])


def ssim_rgb(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same on each of the three channels, averaged: float64 (N,)."""
    return _in_batches(recovered, real, lambda faces: faces.to(dtype).permute(0, 3, 1, 2))


def _in_batches(recovered: Tensor, real: Tensor, planes: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([_ssim(planes(x), planes(y)).double() for x, y in zip(recovered.split(BATCH), real.split(BATCH))])


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """Of (N, C, H, W) planes in 0..255: (N,), averaged over planes and the inner positions."""
    height, width = x.shape[2:]
    rows, columns = _gaussian(height).to(x), _gaussian(width).to(x)
    x, y = x - 128, y - 128   # squares lose fewer digits; means are moved back below
    maps = rows @ torch.stack([x, y, x * x, y * y, x * y]) @ columns.T   # (5, N, C, H - 10, W - 10)
    mean_x, mean_y, xx, yy, xy = maps
    variances, covariance = xx - mean_x**2 + yy - mean_y**2, xy - mean_x * mean_y
    mean_x, mean_y = mean_x + 128, mean_y + 128
    similarity = (2 * mean_x * mean_y + C1) * (2 * covariance + C2) / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))
    return similarity.mean((1, 2, 3))


@cache
def _gaussian(size: int) -> Tensor:
    """(size - 10, size): row i weighs the 11 values from i on."""
    taps = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64) / SIGMA) ** 2)
    taps /= taps.sum()
    matrix = torch.zeros(size - 2 * RADIUS, size, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row:row + 2 * RADIUS + 1] = taps
    return matrix

"""Structural similarity (Wang et al. 2004), one value per face. Averaging over a split is tables.py's job.

The protocol is scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255``: an 11x11
Gaussian, K 0.01 and 0.03, population covariance, the border of 5 px left out. All planes of a face, luma and RGB, go through one separable filter (OpenCV's),
face by face, so that no value depends on the batch.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

RADIUS = 5   # scikit-image truncates at 3.5 sigma
_TAPS = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / 1.5) ** 2)
TAPS = _TAPS / _TAPS.sum()
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LUMA = np.array([0.299, 0.587, 0.114])   # BT.601
MIDDLE = 128.0   # planes are taken around it: squares lose fewer digits


def ssim(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """SSIM of the luma of uint8 (N, H, W, 3) RGB faces, float64 (N,)."""
    return ssim_of_planes(recovered, real, dtype)[:, 3]


def ssim_rgb(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same on each of the three channels, averaged: float64 (N,)."""
    return ssim_of_planes(recovered, real, dtype)[:, :3].mean(1)


def ssim_of_planes(recovered: Tensor, real: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """SSIM of red, green, blue and luma, float64 (N, 4), computed in ``dtype`` on the CPU."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    found = [_ssim(_planes(one, kind), _planes(other, kind)) for one, other in zip(recovered.cpu().numpy(), real.cpu().numpy())]
    return torch.from_numpy(np.stack(found)).double()


def _planes(face: np.ndarray, kind: type) -> np.ndarray:
    """(H, W, 4): RGB and luma around mid-grey."""
    values: np.ndarray = face.astype(kind)
    return np.concatenate([values, (values @ LUMA.astype(kind))[..., None]], 2) - kind(MIDDLE)


def _ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of (H, W, C) planes around mid-grey: (C,), averaged over the inner positions."""
    count = x.shape[2]
    maps = cv2.sepFilter2D(np.concatenate([x, y, x * x + y * y, x * y], 2), -1, TAPS, TAPS, borderType=cv2.BORDER_REFLECT)[RADIUS:-RADIUS, RADIUS:-RADIUS]
    mean_x, mean_y, squares, products = (maps[..., start:start + count] for start in range(0, 4 * count, count))
    both, each = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = products - both, squares - each
    total = mean_x + mean_y
    both, each = both + MIDDLE * total + MIDDLE**2, each + 2 * MIDDLE * total + 2 * MIDDLE**2   # means moved back
    return ((2 * both + C1) * (2 * covariance + C2) / ((each + C1) * (variances + C2))).mean((0, 1))

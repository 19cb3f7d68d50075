"""Peak signal-to-noise ratio of 8-bit RGB faces, one value per face. Averaging over a split is for those who ask: the mean of PSNRs is not
the PSNR of the mean.
"""

import torch
from torch import Tensor


def psnr_db(recovered: Tensor, real: Tensor) -> Tensor:
    """PSNR in dB of uint8 (N, H, W, 3) faces against ``real``, float64 (N,): over all pixels and channels, peak 255; inf for equal faces."""
    difference = recovered.to(torch.int32) - real.to(torch.int32)
    squares = difference.square_().flatten(1).sum(1).double()   # exact: below 2**31 for up to 33,000 values a face
    return 10 * torch.log10(255.0**2 * difference[0].numel() / squares)

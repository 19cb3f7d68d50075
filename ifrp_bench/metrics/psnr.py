"""Peak signal-to-noise ratio of 8-bit RGB faces, one value per face.

Averaging over a split is for those who ask: the mean of PSNRs is not the PSNR of the mean.
"""

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.metrics import Column, Columns, Metric


def psnr_db(recovered: Tensor, real: Tensor) -> Tensor:
    """PSNR in dB of uint8 (N, H, W, 3) faces against ``real``, float64 (N,).

    Over all pixels and channels, peak 255; inf for equal faces.
    """
    difference = recovered.to(torch.int32) - real.to(torch.int32)
    # exact: below 2**31 for up to 33,000 values a face
    squares = difference.square_().flatten(1).sum(1).double()
    return 10 * torch.log10(255.0**2 * difference[0].numel() / squares)


def score(recovered: np.ndarray, real: np.ndarray) -> Columns:
    """``psnr_db``."""
    return {"psnr_db": psnr_db(torch.from_numpy(recovered), torch.from_numpy(real)).numpy()}


METRIC = Metric(
    "picture", (Column("psnr_db", "psnr", unit="dB"),), score=score, default=True, table="table1", place=10,
)

"""The RF of the nearest training SF: what remembering the training set comes to. A difficulty row of every
table.

Nearest is by mean squared difference of the stylized faces at 16x16, which forgives small misalignments
(inferred: no paper prints this row).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.ground.settings import Count
from ifrp_bench.ground.images import as_faces
from ifrp_bench.methods import Fixed, Method, Setup, training_of


@dataclass(frozen=True)
class Config:
    """``size_px``: the side at which stylized faces are compared."""

    size_px: Count = 16


def build(config: Config, setup: Setup) -> Fixed:
    """The method; it needs the training split."""
    training = training_of(setup, "nearest-face")

    def small(faces: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(faces, config.size_px).flatten(1)

    # the training SFs, small, (n, 3 * size_px^2), and their lengths, for distances by one matrix product
    known = torch.cat([small(as_faces(part)) for part in training.stylized_parts()])
    norms = known.square().sum(1)

    def recover(stylized: Tensor) -> Tensor:
        distances = norms - 2 * small(stylized) @ known.T   # up to a constant for each query
        return as_faces(training.real[training.real_index[distances.argmin(1)]])

    return Fixed(recover)


METHOD = Method(Config, build, use="fixed", needs_training=True)

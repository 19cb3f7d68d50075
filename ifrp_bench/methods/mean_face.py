"""The mean training RF, whatever the portrait: the first thing that a network learns.

A difficulty row of every table.
"""

from dataclasses import dataclass

from ifrp_bench.ground.images import as_faces
from ifrp_bench.methods import Fixed, Method, Setup, training_of


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, setup: Setup) -> Fixed:
    """The method; it needs the training split."""
    mean = as_faces(training_of(setup, "mean-face").mean_face[None])   # (1, 3, H, W)
    return Fixed(lambda stylized: mean.expand(len(stylized), -1, -1, -1))


METHOD = Method(Config, build, use="fixed", needs_training=True)

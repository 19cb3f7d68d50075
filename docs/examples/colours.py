"""A method of one's own: per-pixel linear colours, the least that can be learned.

ifrp-bench train --method docs/examples/colours.py --data data/demo --set steps=200 --out runs/demo/colours
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ifrp_bench.methods import Learner, Method


@dataclass(frozen=True)
class Config:
    """What ``--set`` reaches."""

    learning_rate: float = 0.05


class Colours(Learner):
    """Three by three colours and an offset, learned by Adam."""

    def __init__(self, config, setup):
        torch.manual_seed(setup.seed)
        self.network = setup.place(torch.nn.Conv2d(3, 3, 1))
        optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate)
        super().__init__(setup, {"colours": self.network}, {"colours": optimizer})

    def step(self, batch):   # faces are float32 (N, 3, 128, 128) in [0, 1]
        """One update; the losses stand in the log under their names."""
        loss = F.mse_loss(self.network(batch.stylized), batch.real)
        self.update("colours", loss)
        self.done += 1
        return {"pixel": loss.detach()}

    @torch.no_grad()
    def recover(self, stylized, real=None):
        """Recovered faces, clamped."""
        return self.network(stylized).clamp(0, 1)


METHOD = Method(
    Config, Colours,
    sees="upright",   # it is trained on SFs brought upright with their stored warps
    headline="oracle",   # and stands in the tables under this condition
)

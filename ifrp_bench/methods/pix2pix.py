"""pix2pix (Isola, Zhu, Zhou, Efros, CVPR 2017), retrained for destylization: a U-Net against a 70x70 PatchGAN that sees the stylized face too.

The paper that is reproduced retrains it on aligned pairs. Marks as in ``ifrp.py``: [P] pix2pix's paper, [C] its release, [I] inferred, [O] our option.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.methods import Learner, Pairs, Setup, to_unit
from ifrp_bench.nets.patchgan import PatchGAN, cross_entropy, linear_decay
from ifrp_bench.nets.unet import UNet

PAIRED = TRAINABLE = ALIGNED = True
HEADLINE = "stn"


@dataclass(frozen=True)
class Config:
    """What pix2pix is trained with."""

    l1_weight: float = 100.0   # [P]
    learning_rate: float = 2e-4   # [P]; constant for half of the training, then along a line to 0 [C]
    beta1: float = 0.5   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 30, "batch_size": 16},   # 15 constant, 15 falling
    "short": {"epochs": 6, "batch_size": 16},
    "cpu": {"steps": 1200, "batch_size": 8, "ema": 0.99},
    "smoke": {"steps": 120, "batch_size": 8, "ema": 0.9, "validations": 2},
}


class Pix2Pix(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.network = setup.place(UNet())
        self.critic = setup.place(PatchGAN(6))
        networks = {"generator": self.network, "critic": self.critic}
        super().__init__(setup, networks, {
            name: torch.optim.Adam(network.parameters(), config.learning_rate, (config.beta1, 0.999), fused=True) for name, network in networks.items()
        })
        self.generate, self.judge = setup.compile(self.network), setup.compile(self.critic)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of the critic, then one of the generator [P]. Dropout is active, its draws a function of seed and step."""
        self.set_learning_rate(self.config.learning_rate * linear_decay(self.part))
        torch.manual_seed(self.setup.seed * 1_000_003 + self.done)   # dropout is pix2pix's noise: resumed, it goes on the same
        stylized, real = 2 * batch.stylized - 1, 2 * batch.real - 1
        self.network.train()
        with self.setup.autocast():
            made = self.generate(stylized)
        losses = {"pixel": F.mse_loss(made.detach(), real)}   # for the log, in the terms of the other methods
        with self.setup.autocast():
            on_made = self.judge(torch.cat([stylized, made.detach()], 1)).float()
            on_real = self.judge(torch.cat([stylized, real], 1)).float()
        losses["critic"] = (cross_entropy(on_made, False) + cross_entropy(on_real, True)) / 2   # the critic learns at half the speed [P]
        self.update("critic", losses["critic"])
        self.critic.requires_grad_(False)
        with self.setup.autocast():
            on_made = self.judge(torch.cat([stylized, made], 1)).float()
        self.critic.requires_grad_(True)
        losses |= {"adversarial": cross_entropy(on_made, True), "l1": F.l1_loss(made, real)}
        self.update("generator", losses["adversarial"] + self.config.l1_weight * losses["l1"])
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def destylize(self, stylized: Tensor) -> Tensor:
        """By running statistics and without dropout [O]: pix2pix's paper keeps both as in training, and then a face depends on its batch and a draw."""
        return to_unit(self.network.eval()(2 * stylized - 1))


def build(config: Config, setup: Setup) -> Pix2Pix:
    """The method, ready for its first step."""
    return Pix2Pix(config, setup)

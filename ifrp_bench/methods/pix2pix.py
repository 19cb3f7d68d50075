"""pix2pix (Isola, Zhu, Zhou, Efros, CVPR 2017), retrained for destylization: a U-Net against a 70x70 PatchGAN
that sees the SF too.

The paper that is reproduced retrains it on aligned pairs. Marks: [P] pix2pix's paper, [C] its release, [I]
inferred, [O] our option.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.settings import Count, Decay, NotNegative, Positive
from ifrp_bench.methods import Learner, Method, Pairs, Setup, adam, reported, to_unit
from ifrp_bench.nets.patchgan import SLOPE, PatchGAN, cross_entropy, linear_decay, normal_weights

DOWN = (1, 2, 4, 8, 8, 8, 8)   # channels from 64 px to 1 px, in first widths [P]
UP = (8, 8, 8, 4, 2, 1)   # from 2 px to 64 px [P]
DROPOUT = 0.5   # [P] in the second and third upward layer, as the release has it for 128 px [C]


@dataclass(frozen=True)
class Config:
    """What pix2pix is trained with."""

    width: Count = 64   # [P] the first layer's channels
    l1_weight: NotNegative = 100.0   # [P]
    learning_rate: Positive = 2e-4   # [P]; constant for half of the training, then along a line to 0 [C]
    beta1: Decay = 0.5   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 30, "batch_size": 16},   # 15 constant, 15 falling
    "short": {"epochs": 6, "batch_size": 16},
    "cpu": {"steps": 1200, "batch_size": 8, "ema": 0.99},
    "smoke": {"steps": 120, "batch_size": 8, "ema": 0.9, "validations": 2},
}


class UNet(nn.Module):
    """Pictures (N, 3, 128, 128) in [-1, 1] to pictures in [-1, 1]: seven halvings and back, with skip
    connections.

    Isola et al. 2017, Section 6.1.1. 41.8 M parameters.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        down, up = [width * times for times in DOWN], [width * times for times in UP]
        inputs = (3, *down)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip(inputs, down))
        # none after the first and the last
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in down[1:-1])
        below = (down[-1], *up)   # what comes up to a layer
        beside = (0, *down[-2::-1])   # and what its skip connection brings
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a + skip, b, 4, 2, 1, bias=False) for a, skip, b in zip(below, beside, up)
        )
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in up)
        self.last = nn.ConvTranspose2d(up[-1] + down[0], 3, 4, 2, 1)
        self.apply(partial(normal_weights, spread=0.02))

    def forward(self, pictures: Tensor) -> Tensor:
        # down to one place; what each layer returns is kept for the way up
        skips = [self.down[0](pictures)]
        for number, conv in enumerate(self.down[1:]):
            x = conv(F.leaky_relu(skips[-1], SLOPE))
            skips.append(self.down_norms[number](x) if number < len(self.down_norms) else x)

        # up again, each time beside what was kept; dropout in two deep layers is the noise [P]
        x = skips.pop()   # (N, 512, 1, 1)
        for number, (conv, norm) in enumerate(zip(self.up, self.up_norms)):
            x = norm(conv(F.relu(x)))
            if number in (1, 2):
                x = F.dropout(x, DROPOUT, self.training)
            x = torch.cat([x, skips.pop()], 1)
        return torch.tanh(self.last(F.relu(x)).float())


class Pix2Pix(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.network = setup.place(UNet(config.width))
        self.critic = setup.place(PatchGAN(6))

        networks = {"generator": self.network, "critic": self.critic}
        super().__init__(setup, networks, lambda: {
            name: adam(network, config.learning_rate, config.beta1) for name, network in networks.items()
        })
        self.generate, self.judge = setup.compile(self.network), setup.compile(self.critic)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of the critic, then one of the generator [P].

        Dropout is active, its draws a function of seed and step.
        """
        self.set_learning_rate(self.config.learning_rate * linear_decay(self.part))
        # dropout is pix2pix's noise: resumed, it is drawn on the same
        torch.manual_seed(self.setup.step_seed(self.done))
        stylized, real = 2 * batch.stylized - 1, 2 * batch.real - 1
        self.network.train()
        with self.setup.autocast():
            made = self.generate(stylized)
        losses = {"pixel": F.mse_loss(made.detach(), real)}   # for the log, in the terms of the other methods

        # the critic sees the stylized face beside the made and beside the real one
        with self.setup.autocast():
            on_made = self.judge(torch.cat([stylized, made.detach()], 1)).float()
            on_real = self.judge(torch.cat([stylized, real], 1)).float()
        # half the speed of the generator [P]
        losses["critic"] = (cross_entropy(on_made, False) + cross_entropy(on_real, True)) / 2
        self.update("critic", losses["critic"])

        # the generator is judged by the critic that has just learned, whose weights need no gradient now
        self.critic.requires_grad_(False)
        with self.setup.autocast():
            on_made = self.judge(torch.cat([stylized, made], 1)).float()
        self.critic.requires_grad_(True)
        losses |= {"adversarial": cross_entropy(on_made, True), "l1": F.l1_loss(made, real)}
        self.update("generator", losses["adversarial"] + self.config.l1_weight * losses["l1"])
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces, by running statistics and without dropout [O].

        pix2pix's paper keeps both as in training, and then a face depends on its batch and a draw.
        """
        return to_unit(self.network.eval()(2 * stylized - 1))


def build(config: Config, setup: Setup) -> Pix2Pix:
    """The method, ready for its first step."""
    return Pix2Pix(config, setup)


METHOD = Method(
    Config, build,
    sees="upright",
    headline="stn",
    presets=PRESETS,
    row=50,
    reported=reported(25.28, 0.89, 23.10, 0.85, 23.88, 0.86, 75.13, 59.98, 61.63, 87.73),
)

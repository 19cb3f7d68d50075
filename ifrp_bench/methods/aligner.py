"""The aligner of the condition ``stn``: an STN1 that is told the misalignment, trained on the same pairs.

It gives methods without STNs upright faces. The paper aligns the baselines' inputs "via STN network" and says
no more; the network and its loss are inferred. What it "recovers" is the SF upright.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ifrp_bench.ground.settings import Count, Positive
from ifrp_bench.methods import Aligner, Learner, Pairs, Setup, adam
from ifrp_bench.nets.stn import LOCALISATION, SpatialTransformer, frame_maps, misplacement, transform

SLOPE = 0.2


@dataclass(frozen=True)
class Config:
    """What the aligner is trained with; all of it is inferred."""

    learning_rate: Positive = 1e-3   # falls along a line to 0 in the second half
    channels: Count = 32   # of the features that STN1 reads, at 64x64 as in SRN


TOGETHER = {"mirror": True, "colour_maps": 0.5}   # [O] augmentation of every preset
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 20} | TOGETHER,
    "short": {"epochs": 10} | TOGETHER,
    "cpu": {"steps": 2500, "batch_size": 32} | TOGETHER,
    "smoke": {"steps": 300, "batch_size": 32, "validations": 2} | TOGETHER,
}


class Network(nn.Module):
    """SFs (N, 3, 128, 128) in [0, 1] to the map that brings each upright, (N, 2, 3) as ``Pairs.warp``.

    SRN's first two layers (5x5, batch normalisation, LeakyReLU) and STN1's localisation net, whose angle,
    scale and shifts are those of a similarity in CelebA's frame, where the window is 107x133.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # e1 and e2 of SRN, to the features that STN1 reads
        self.first = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2), nn.BatchNorm2d(16), nn.LeakyReLU(SLOPE), nn.MaxPool2d(2),
        )   # (N, 16, 64, 64)
        self.second = nn.Sequential(
            nn.Conv2d(16, channels, 5, padding=2), nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE),
        )   # (N, channels, 64, 64)
        self.stn = SpatialTransformer(channels, LOCALISATION[32, 64])

    def forward(self, stylized: Tensor) -> Tensor:
        return frame_maps(self.stn.parameters_of(self.second(self.first(2 * stylized - 1))))


class AligningSTN(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.network = setup.place(Network(config.channels))
        networks = {"aligner": self.network}
        super().__init__(setup, networks, lambda: {"aligner": adam(self.network, config.learning_rate)})
        self.find = setup.compile(self.network)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update towards the stored misalignment."""
        # constant for half of the training, then along a line to 0
        self.set_learning_rate(self.config.learning_rate * min(1.0, 2 * (1 - self.part)))
        self.network.train()

        # where it would take the points of the picture, against where they belong
        with self.setup.autocast():
            found = self.find(batch.stylized)
        loss = misplacement(found, batch.warp)
        self.update("aligner", loss)
        self.done += 1
        return {"misplacement": loss.detach()}

    @torch.no_grad()
    def maps(self, stylized: Tensor) -> Tensor:
        """The maps found, (N, 2, 3) as ``Pairs.warp``."""
        return self.network.eval()(stylized).float()   # type: ignore[no-any-return]

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """The SFs brought upright, black where they show nothing."""
        return transform(stylized, self.maps(stylized)).clamp(0, 1)


def build(config: Config, setup: Setup) -> AligningSTN:
    """The aligner, ready for its first step."""
    return AligningSTN(config, setup)


ALIGNER = Aligner(Config, build, presets=PRESETS, shown_loss="misplacement", maps=AligningSTN.maps)

"""MGAN (Li and Wand, ECCV 2016: Markovian generative adversarial networks), retrained for destylization.

A decoder on fixed VGG features against a discriminator of feature patches. Marks: [P] MGAN's paper, [C] its
release, [I] inferred, [O] our option.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.settings import Decay, NotNegative, Positive
from ifrp_bench.methods import Learner, Method, Pairs, Setup, adam, reported, to_unit
from ifrp_bench.nets.patchgan import hinge
from ifrp_bench.nets.vgg import Features, is_whole, open_features
from ifrp_bench.nets.winograd import Conv2d

NOTE = (
    "encoder at the deepest VGG layer up to relu4_1 that the features at hand have: "
    "relu3_1 unless a whole VGG was given"
)
ENCODED = ("relu4_1", "relu3_1")   # [P], and what a file without it has
JUDGED = "relu3_1"   # [P]
SLOPE = 0.2


@dataclass(frozen=True)
class Config:
    """What MGAN is trained with."""

    features: str = "builtin"   # [O]; vgg19 [P]
    pixel_weight: NotNegative = 1.0   # [I] for pairs
    adversarial_weight: NotNegative = 0.01   # [I]
    learning_rate: Positive = 2e-3   # [C] has 0.02, which diverges
    beta1: Decay = 0.5   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 5, "batch_size": 64},   # [P]
    "short": {"epochs": 5, "batch_size": 64},
    "cpu": {"steps": 1500, "batch_size": 16, "ema": 0.99},
    "smoke": {"steps": 150, "batch_size": 8, "ema": 0.9, "validations": 2},
}


class Decoder(nn.Module):
    """Features (N, C, h, w) to pictures in [-1, 1]: a 3x3 convolution to ``width``, then doublings (4x4,
    stride 2) to 3 channels.

    Batch normalisation and ReLU between, tanh at the end. From relu4_1: 512, 256, 128, 3 [P].
    """

    def __init__(self, inputs: int, doublings: int) -> None:
        super().__init__()
        width = 64 * 2 ** doublings   # 512 from relu4_1, 256 from relu3_1
        # one convolution at the features' own size
        layers: list[nn.Module] = [Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]

        # doublings but for the last, which makes the colours
        for _ in range(doublings - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.BatchNorm2d(width // 2), nn.ReLU()]
            width //= 2
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1))

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.layers(features).float())


class Network(nn.Module):
    """The frozen encoder and the decoder: pictures in [-1, 1] to pictures in [-1, 1]."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = [features]   # in a list: frozen, not part of the state
        # the paper's layer, or the deepest that the features have
        self.layer = next(layer for layer in ENCODED if layer in features.layers)
        doublings = int(self.layer[4]) - 1   # relu3_1 stands after two pools
        self.decoder = Decoder(channels_of(features, self.layer), doublings)

    def forward(self, pictures: Tensor) -> Tensor:
        # the encoder is fixed: nothing is learned behind it
        with torch.no_grad():
            encoded = self.features[0]((pictures + 1) / 2, (self.layer,))[self.layer]
        return self.decoder(encoded)   # type: ignore[no-any-return]


def channels_of(features: Features, layer: str) -> int:
    """How many channels a layer of the features has."""
    return features.convs[features.layers.index(layer)].out_channels   # type: ignore[return-value]


def patch_critic(inputs: int) -> nn.Module:
    """relu3_1 features (N, inputs, h, w) to a score for each patch [P].

    LReLU, 4x4 s2 256, BN, LReLU, 4x4 s2 512, BN, LReLU, 1x1.
    """
    return nn.Sequential(
        nn.LeakyReLU(SLOPE), nn.Conv2d(inputs, 256, 4, 2, 1), nn.BatchNorm2d(256), nn.LeakyReLU(SLOPE),
        nn.Conv2d(256, 512, 4, 2, 1), nn.BatchNorm2d(512), nn.LeakyReLU(SLOPE), nn.Conv2d(512, 1, 1),
    )


class MGAN(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.features = open_features(config.features).to(setup.device)
        self.network = setup.place(Network(self.features))
        self.critic = setup.place(patch_critic(channels_of(self.features, JUDGED)))

        networks = {"decoder": self.network, "critic": self.critic}
        super().__init__(setup, networks, lambda: {
            name: adam(network, config.learning_rate, config.beta1) for name, network in networks.items()
        })
        self.decode, self.judge = setup.compile(self.network), setup.compile(self.critic)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of the critic, one of the decoder."""
        config = self.config
        real = 2 * batch.real - 1
        self.network.train()
        with self.setup.autocast():
            recovered = self.decode(2 * batch.stylized - 1)

            # the critic looks at features of real and of recovered faces, patch by patch
            with torch.no_grad():
                of_real = self._judged(real)
            of_recovered = self._judged(recovered)
            on_real, on_recovered = self.judge(of_real).float(), self.judge(of_recovered.detach()).float()
        losses = {
            "critic": hinge(on_real, True) + hinge(on_recovered, False),
            "pixel": F.mse_loss(recovered, real),
        }
        self.update("critic", losses["critic"])

        # the decoder is judged by the critic that has just learned, whose weights need no gradient now
        self.critic.requires_grad_(False)
        with self.setup.autocast():
            losses["adversarial"] = -self.judge(of_recovered).float().mean()
        self.critic.requires_grad_(True)
        self.update(
            "decoder",
            config.pixel_weight * losses["pixel"] + config.adversarial_weight * losses["adversarial"],
        )
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    def _judged(self, pictures: Tensor) -> Tensor:
        """What the critic looks at, (N, C, 32, 32)."""
        return self.features((pictures + 1) / 2, (JUDGED,))[JUDGED]

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces."""
        return to_unit(self.network.eval()(2 * stylized - 1))


def build(config: Config, setup: Setup) -> MGAN:
    """The method, ready for its first step."""
    return MGAN(config, setup)


METHOD = Method(
    Config, build,
    sees="upright",
    headline="stn",
    presets=PRESETS,
    notes=lambda config: () if is_whole(config.features) else (NOTE,),
    row=40,
    reported=reported(20.87, 0.79, 20.21, 0.66, 21.01, 0.71, 6.97, 12.52, 17.99, 38.24),
)

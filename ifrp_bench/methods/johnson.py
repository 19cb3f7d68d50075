"""Perceptual losses (Johnson, Alahi, Fei-Fei, ECCV 2016), retrained for destylization.

One transformer for the three seen styles, content and Gram targets from the real face of each pair. Marks:
[P] Johnson's paper and its supplement, [I] inferred, [O] our option.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.ground.settings import Count, NotNegative, Positive
from ifrp_bench.methods import Learner, Method, Pairs, Setup, adam, reported
from ifrp_bench.nets.transformer import Transformer
from ifrp_bench.nets.vgg import content_distance, grams, is_whole, loss_layers, open_features, style_distance

# [I] a relative Gram distance of 1 beside a relative feature distance of 1; at 1 the style drowns the face
STYLE_UNIT = 0.04
NOTE = (
    "content and style losses at the deepest VGG layers that the features at hand have: "
    "up to relu3_1 unless a whole VGG was given"
)


@dataclass(frozen=True)
class Config:
    """What Johnson's transformer is trained with.

    Both losses are taken relative to the real faces' own features and Gram matrices [I], so that a weight
    means the same for any feature file; the paper's 1 and 5 belong to Caffe's VGG-16 on 0 to 255, where Gram
    distances are far smaller than feature distances: hence ``STYLE_UNIT``.
    """

    width: Count = 32   # [P]
    features: str = "builtin"   # [O]; vgg16 [P]
    content_weight: NotNegative = 1.0   # [P]
    style_weight: NotNegative = 5.0   # [P]
    # [P] of squared differences on 0..255, summed over a face and averaged over its pixels [I]
    tv_weight: NotNegative = 1e-6
    learning_rate: Positive = 1e-3   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"steps": 40_000, "batch_size": 4},   # [P]
    "short": {"steps": 8_000, "batch_size": 8},
    "cpu": {"steps": 1500, "batch_size": 8, "ema": 0.99, "validations": 8},
    # half the width, for time
    "smoke": {"steps": 100, "batch_size": 8, "ema": 0.9, "width": 16, "validations": 2},
}


class Johnson(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        # instance normalisation is slow on channels_last
        self.network = setup.place(Transformer(config.width), torch.contiguous_format)
        if setup.trains:
            self.features = open_features(config.features).to(setup.device)
            self.content_layers, self.style_layers = loss_layers(self.features)
        networks = {"transformer": self.network}
        super().__init__(setup, networks, lambda: {"transformer": adam(self.network, config.learning_rate)})
        self.transform = setup.compile(self.network)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update."""
        # every layer once, whichever of the losses wants it
        config = self.config
        layers = tuple(dict.fromkeys(self.content_layers + self.style_layers))
        with self.setup.autocast():
            recovered = self.transform(batch.stylized.contiguous())

            # what the paired real face has in every layer: its features are the content, their Gram matrices
            # the style
            with torch.no_grad():
                wanted = self.features(batch.real, layers)
                styled = grams(wanted, self.style_layers)
            got = self.features(recovered, layers)
            losses = {
                "content": content_distance(got, wanted, self.content_layers),
                "style": STYLE_UNIT * style_distance(got, styled, self.style_layers),
                "tv": total_variation(recovered.float()),
            }

        # the pixel loss is for the log alone, in the terms of the other methods: faces in [-1, 1]
        losses["pixel"] = 4 * F.mse_loss(recovered.detach(), batch.real)
        weights = {"content": config.content_weight, "style": config.style_weight, "tv": config.tv_weight}
        self.update("transformer", torch.stack([weights[name] * losses[name] for name in weights]).sum())
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces, clamped."""
        return self.network(stylized.contiguous()).clamp(0, 1)


def total_variation(faces: Tensor) -> Tensor:
    """Squared differences of neighbours on 0..255, summed over a
    face, averaged over its pixels and the batch.
    """
    down, across = (faces.diff(dim=dim).square().sum((1, 2, 3)).mean() for dim in (2, 3))
    return 255**2 * (down + across) / faces[0, 0].numel()


def build(config: Config, setup: Setup) -> Johnson:
    """The method, ready for its first step."""
    return Johnson(config, setup)


METHOD = Method(
    Config, build,
    sees="upright",
    headline="stn",
    presets=PRESETS,
    notes=lambda config: () if is_whole(config.features) else (NOTE,),
    row=30,
    reported=reported(19.65, 0.82, 19.81, 0.81, 19.77, 0.82, 50.54, 38.87, 40.27, 44.99),
)

"""Perceptual losses (Johnson, Alahi, Fei-Fei, ECCV 2016), retrained for destylization: one transformer for the three seen styles, content and Gram targets
from the real face of each pair. Marks: [P] Johnson's paper and its supplement, [I] inferred, [O] our option.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.methods import Learner, Pairs, Setup
from ifrp_bench.nets.transformer import Transformer
from ifrp_bench.nets.vgg import content_distance, grams, loss_layers, open_features, style_distance

PAIRED = TRAINABLE = ALIGNED = True
HEADLINE = "stn"
STYLE_UNIT = 0.04   # [I] what a relative Gram distance of 1 counts beside a relative feature distance of 1; at 1 the style drowns the face
NOTE = "content and style losses at the deepest VGG layers that the features at hand have: up to relu3_1 unless a whole VGG was given"


@dataclass(frozen=True)
class Config:
    """What Johnson's transformer is trained with.

    Both losses are taken relative to the real faces' own features and Gram matrices [I], so that a weight means the same for any feature file; the paper's
    1 and 5 belong to Caffe's VGG-16 on 0 to 255, where Gram distances are far smaller than feature distances: hence ``STYLE_UNIT``.
    """

    width: int = 32   # [P]
    features: str = "builtin"   # [O]; vgg16 [P]
    content_weight: float = 1.0   # [P]
    style_weight: float = 5.0   # [P]
    tv_weight: float = 1e-6   # [P] of squared differences on 0..255, summed over a face and averaged over its pixels [I]
    learning_rate: float = 1e-3   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"steps": 40_000, "batch_size": 4},   # [P]
    "short": {"steps": 8_000, "batch_size": 8},
    "cpu": {"steps": 1500, "batch_size": 8, "ema": 0.99, "validations": 8},
    "smoke": {"steps": 100, "batch_size": 8, "ema": 0.9, "width": 16, "validations": 2},   # half the width, for the demo's time
}


class Johnson(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.network = setup.place(Transformer(config.width), torch.contiguous_format)   # instance normalisation is slow on channels_last
        self.features = open_features(config.features).to(setup.device)
        self.content_layers, self.style_layers = loss_layers(self.features)
        optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate, fused=True)
        super().__init__(setup, {"transformer": self.network}, {"transformer": optimizer})
        self.recover = setup.compile(self.network)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update."""
        config = self.config
        layers = tuple(dict.fromkeys(self.content_layers + self.style_layers))
        with self.setup.autocast():
            recovered = self.recover(batch.stylized.contiguous())
            with torch.no_grad():
                wanted = self.features(batch.real, layers)
                styled = grams(wanted, self.style_layers)
            got = self.features(recovered, layers)
            losses = {
                "content": content_distance(got, wanted, self.content_layers), "style": STYLE_UNIT * style_distance(got, styled, self.style_layers),
                "tv": 255**2 * sum(recovered.float().diff(dim=dim).square().sum((1, 2, 3)).mean() for dim in (2, 3)) / recovered[0, 0].numel(),
            }
        losses["pixel"] = 4 * F.mse_loss(recovered.detach(), batch.real)   # for the log, in the terms of the other methods: faces in [-1, 1]
        weights = {"content": config.content_weight, "style": config.style_weight, "tv": config.tv_weight}
        self.update("transformer", torch.stack([weights[name] * losses[name] for name in weights]).sum())
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def destylize(self, stylized: Tensor) -> Tensor:
        """Recovered faces, clamped."""
        return self.network(stylized.contiguous()).clamp(0, 1)


def build(config: Config, setup: Setup) -> Johnson:
    """The method, ready for its first step."""
    return Johnson(config, setup)

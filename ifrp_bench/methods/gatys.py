"""Neural style transfer by optimisation (Gatys, Ecker, Bethge, CVPR 2016), turned around for destylization.

The content is the stylized face, the style a real one. Nothing is trained; each face is optimised when it is
used, many in one optimiser. Marks: [P] Gatys' paper, [I] inferred, [O] our option.

``gatys`` takes the style from the training RF that is nearest to the SF in the content layer's features;
``gatys-oracle`` from the face's own RF, which no real use has.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ifrp_bench.ground.settings import Count, NotNegative, Positive
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import as_faces
from ifrp_bench.methods import Method, Setup, Untrained, Variant, reported, training_of
from ifrp_bench.nets.vgg import content_distance, grams, is_whole, loss_layers, open_features, style_distance

NOTE = (
    "style and content at the deepest VGG layers that the features at hand have: up to relu3_1 unless a whole"
    " VGG was given"
)
LEAK = "leaks: the style is taken from the very face that is to be recovered"
STYLES = ("nearest", "own")
CHUNK = 64   # training faces whose features are taken at a time


@dataclass(frozen=True)
class Config:
    """How a face is optimised.

    Both losses are relative to what they aim at [I], so that weights mean the same for any feature file, and
    each face has its own: what comes out does not depend on which faces share the optimiser.
    """

    style: str = "nearest"   # [I] where the style comes from; own: the face's own RF, a leak
    features: str = "builtin"   # [O]; vgg19 [P]
    steps_per_face: Count = 500   # [P] about as many
    content_weight: NotNegative = 1.0
    style_weight: NotNegative = 10.0   # [I]; the paper's ratios are 1e3 to 1e4 on unnormalised Gram matrices
    learning_rate: Positive = 0.02   # [O] of Adam, on [0, 1]; the paper's L-BFGS couples the faces of a batch
    training_faces: Count = 2000   # [O] at most so many training RFs are searched for the nearest

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(f"style {self.style!r} is none of {', '.join(STYLES)}")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "short": {"steps_per_face": 200},
    "cpu": {"steps_per_face": 60, "learning_rate": 0.05},
    "smoke": {"steps_per_face": 15, "learning_rate": 0.08},
}


class Gatys(Untrained):
    """The method. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config, self.setup = config, setup
        self.features = open_features(config.features).to(setup.device)
        self.content_layers, self.style_layers = loss_layers(self.features)
        self.layers = tuple(dict.fromkeys(self.content_layers + self.style_layers))   # each once
        self._index: tuple[Tensor, Tensor] | None = None   # features (n, D) of training RFs, and the RFs

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces, each optimised.

        ``gatys-oracle`` takes the style of ``real``; ``gatys`` does not look at it.
        """
        # the style of somebody else, or, a leak, of the very face that is to be recovered
        if self.config.style == "nearest":
            return self.transfer(stylized, self._nearest(stylized))
        if real is None:
            raise InputError(
                "gatys-oracle wants the real face that it is to recover: it is evaluated on a data set only"
            )
        return self.transfer(stylized, real)

    def transfer(self, content: Tensor, style: Tensor) -> Tensor:
        """Faces (N, 3, H, W) in [0, 1] with the content of one and the
        style of the other, from the content on.
        """
        config = self.config
        with torch.inference_mode(False), torch.enable_grad():
            # what is aimed at, once a face: the content's features, the style's Gram matrices
            content, style = content.clone(), style.clone()   # as tensors that take part in gradients
            with torch.no_grad(), self.setup.autocast():
                wanted, styled = self._targets(content, style)

            # the pixels themselves are learned, from the content on; every face has its own loss, so that
            # their sum couples none
            faces = content.clone().requires_grad_()
            optimizer = torch.optim.Adam([faces], config.learning_rate)
            for _ in range(config.steps_per_face):
                loss = self._losses(faces, wanted, styled).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():   # what no picture can hold is cut off at every step
                    faces.clamp_(0, 1)
            return faces.detach()

    def _losses(self, faces: Tensor, wanted: dict[str, Tensor], styled: dict[str, Tensor]) -> Tensor:
        """Of each face, (N,)."""
        with self.setup.autocast():
            got = self.features(faces, self.layers)
        # both are relative to what they aim at [I]
        content = content_distance(got, wanted, self.content_layers, each=True)
        style = style_distance(got, styled, self.style_layers, each=True)
        return self.config.content_weight * content + self.config.style_weight * style

    def losses_of(self, faces: Tensor, content: Tensor, style: Tensor) -> Tensor:
        """The loss that ``transfer`` lowers, of each face, (N,)."""
        with torch.no_grad():
            return self._losses(faces, *self._targets(content, style))

    def _targets(self, content: Tensor, style: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The content's features in float32 and the style's Gram matrices, by layer."""
        features = self.features(content, self.content_layers)
        wanted = {name: value.float() for name, value in features.items()}
        return wanted, grams(self.features(style, self.style_layers), self.style_layers)

    @torch.no_grad()
    def _nearest(self, stylized: Tensor) -> Tensor:
        """The training RF nearest to each SF by the mean over places of the content layer's features."""
        known, pictures = self._known()
        queries = self._pooled(stylized)
        return as_faces(pictures[torch.cdist(queries, known).argmin(1)])

    def _known(self) -> tuple[Tensor, Tensor]:
        # taken when the first face asks: a few features a training face, evenly over the split
        if self._index is None:
            real = training_of(self.setup, "gatys").real
            chosen = real[
                torch.linspace(
                    0, len(real) - 1, min(len(real), self.config.training_faces), device=real.device
                ).long()
            ]
            self._index = torch.cat([self._pooled(as_faces(part)) for part in chosen.split(CHUNK)]), chosen
        return self._index

    def _pooled(self, faces: Tensor) -> Tensor:
        """Content features on a 4x4 grid of places, (N, 16 C): what the face looks like, not exactly where.
        """
        layer = self.content_layers[-1]
        return torch.nn.functional.adaptive_avg_pool2d(
            self.features(faces, (layer,))[layer].float(), 4
        ).flatten(1)


def build(config: Config, setup: Setup) -> Gatys:
    """The method; to find the nearest training RF it needs the training split."""
    return Gatys(config, setup)


def notes_of(config: Config) -> list[str]:
    """What a reader of the tables must know."""
    leaks = [LEAK] if config.style == "own" else []
    return leaks if is_whole(config.features) else [*leaks, NOTE]


METHOD = Method(
    Config,
    build,
    use="optimised",
    sees="upright",
    headline="stn",
    steps_setting="steps_per_face",
    presets=PRESETS,
    needs_training=True,
    leaks=lambda config: config.style == "own",
    notes=notes_of,
    variants={
        "gatys-oracle": Variant(
            "Gatys with the style of the very face that is to be recovered: a leak", {"style": "own"}, row=20
        ),
    },
    row=10,
    reported=reported(23.88, 0.84, 23.25, 0.83, 23.33, 0.82, 64.67, 60.28, 68.36, 72.89),
)

"""Align, then restore: a method of this project. One network finds the misalignment, undoes it once, restores
the face place by place.

The paper's network squeezes a turned face through 2x2 places, its baselines need an upright one. Here an
aligner reads the picture small, with its mean and contrast taken out, so that an unseen palette does not
matter to it; the picture is resampled once; a residual network at 32x32, 16x16 and 8x8 with a global context
restores it. Marks: [O] option of this project, measured in ``docs/align-restore.md`` where it says so.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import Count, NotNegative, Positive, Share
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.methods import Learner, Method, Pairs, Setup, Stage
from ifrp_bench.nets.identity import open_identity
from ifrp_bench.nets.stn import IDENTITY, composed, frame_maps, inverse, jittered, misplacement, transform

ALIGNER_WIDTHS = (32, 64, 96, 96)   # channels of its halvings, from 64x64 to 4x4
WIDTHS = (64, 144, 288)   # channels at 32x32, 16x16 and 8x8
DETAIL = 16   # channels at 64x64 that pass the trunk by
TAIL = 24   # channels at 64x64 before the colours
HEADS = 6   # of the attention at 8x8
WARM_UP = 50   # steps
LEAST_RATE = 0.02   # of the learning rate, at the first step
LATTICE_PX = 4   # the period of the grid that a trunk at a quarter of the size leaves
EPS = 1e-5   # added to variances


@dataclass(frozen=True)
class Config:
    """What the method is trained with. All of it is ours [O]."""

    learning_rate: Positive = 2e-3   # warmed up over 50 steps, then along a cosine to 0
    weight_decay: NotNegative = 1e-4
    pixel_weight: NotNegative = 1.0   # of the mean absolute difference
    squared_weight: NotNegative = 2.0   # of the mean squared difference
    align_weight: NotNegative = 1.0   # of the distance between the map of each look and the stored one
    # at how a face lies; a second one halves the error of a short training. Runs begun before had one
    looks: Count = 1
    # parts that tell places of each other: every place of the 8x8 map looks at every other; the whole map's
    # mean and contrast scale every channel. A third of a step; a training of minutes is better without
    # (docs/align-restore.md), and the preset ``smoke`` is
    attention: bool = True
    context: bool = True
    # of the error that every fourth pixel has in common: the grid of the pixel-shuffles
    lattice_weight: NotNegative = 200.0
    # within squares of so many pixels: a grid that turns over from cheek to cheek is none in a whole face.
    # A multiple of four by which 128 can be divided; runs begun before had whole faces
    lattice_px: Count = FACE_PX
    # of what an error differs from its mean over 2x2 pixels: the features, taken at half size, do not see it,
    # and a short training fills it with a grid. Runs begun before had none
    fine_weight: NotNegative = 0.0
    features: str = "builtin"   # which perceptual features (nets/identity.py) the feature term compares
    # of their relative squared difference, on half of each batch: at 0.5 from the first step on a short
    # training has the person more often and no pixel worse than at 0.1 from two fifths of it
    # (docs/align-restore.md)
    feature_weight: NotNegative = 0.5
    features_from: Share = 0.0   # the part of the training from which it counts: it costs a sixth of a step
    # whether it compares with the real face moved to where the undone SF shows it: where the map is off,
    # features that are asked for elsewhere teach a blur (docs/align-restore.md). Runs begun before did not
    registered: bool = False
    # whether pixels are compared there, too, and features with them: sharper faces, a little beside where the
    # real ones lie (docs/align-restore.md)
    registered_pixels: bool = False
    jitter: NotNegative = 0.03   # spread of the noise on stored maps, in half-sides
    # the part of the training from which the restorer sees SFs undone by the network's own map
    own_from: Share = 0.2
    own_until: Share = 0.5   # and the part from which it sees no others

    def __post_init__(self) -> None:
        """Raises InputError for squares that do not tile a face and parts of a training out of order."""
        if self.lattice_px % LATTICE_PX or FACE_PX % self.lattice_px:
            raise InputError(f"lattice_px {self.lattice_px}: one of 4, 8, 16, 32, 64, 128")
        if not 0 <= self.own_from < self.own_until <= 1:
            raise InputError(
                f"own_from {self.own_from} and own_until {self.own_until}: two parts of a training, in order"
            )


OURS = {
    "mirror": True, "colour_maps": 0.5, "looks": 2, "fine_weight": 20.0, "registered": True,
    "feature_weight": 1.0,   # registered, twice as much hardly costs pixels
    "lattice_px": 16,   # in whole faces grids of either sign cancel (docs/align-restore.md)
}
# in minutes a quarter of mapped colours is nearer to the person on seen styles, half on unseen ones
# (docs/align-restore.md)
IN_MINUTES = OURS | {"batch_size": 16, "colour_maps": 0.25}
# distorted SFs are for unseen styles; what they cost on seen ones a training of minutes does not make up for
# (docs/align-restore.md). Attention and context learn slowly: without them as many steps as a busy host has
# time for in the demo's three minutes end a decibel nearer (docs/align-restore.md)
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 60, "batch_size": 64, "ema": 0.999, "distort": 0.5} | OURS,
    "short": {"epochs": 15, "batch_size": 64, "ema": 0.999, "distort": 0.5} | OURS,
    "cpu": {"steps": 3000, "ema": 0.998, "validations": 10} | IN_MINUTES,
    "smoke": (
        {"steps": 200, "ema": 0.95, "validations": 4, "attention": False, "context": False} | IN_MINUTES
    ),
}


def standardized(pictures: Tensor) -> Tensor:
    """Each picture (N, C, H, W) with its own mean and contrast taken out, channel by channel."""
    mean = pictures.mean((2, 3), keepdim=True)
    # by mean squares: a variance over channels_last maps is many times slower on a CPU
    variance = pictures.square().mean((2, 3), keepdim=True) - mean.square()
    return (pictures - mean) * (variance.clamp_min(0) + EPS).rsqrt()


class Aligning(nn.Module):
    """SFs (N, 3, 128, 128) in [0, 1] to the maps that bring each upright, as ``Pairs.warp``: what is found
    after each look, (looks, N, 2, 3).

    A further look, by a network of its own, sees the SF as the look before would have it and corrects that.
    Each is taught for itself: no gradient reaches the looks before.
    """

    def __init__(self, looks: int = 1) -> None:
        super().__init__()
        widths = (3, *ALIGNER_WIDTHS)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in ALIGNER_WIDTHS)
        self.hidden = nn.Linear(ALIGNER_WIDTHS[-1] * 4 * 4, ALIGNER_WIDTHS[-1])
        self.out = nn.Linear(ALIGNER_WIDTHS[-1], 4)

        # it starts from the upright face
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor(IDENTITY))
        self.further = Aligning(looks - 1) if looks > 1 else None

    def forward(self, stylized: Tensor) -> Tensor:
        # half the size suffices to see how a face lies
        return torch.stack(self.looks(F.avg_pool2d(stylized, 2)))

    def looks(self, small: Tensor) -> list[Tensor]:
        """The maps of pictures of half the size, (N, 3, 64, 64), after each look."""
        found = self.look(small)
        if self.further is None:
            return [found]
        before = found.detach()
        corrections = self.further.looks(transform(small, before))
        return [found, *(composed(before, correction) for correction in corrections)]

    def look(self, small: Tensor) -> Tensor:
        """The maps that this look finds by itself, (N, 2, 3)."""
        x = standardized(small)
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x)))
        x = F.relu(self.hidden(x.contiguous().flatten(1)))   # (N, 96)

        # coordinates in float32: bfloat16 moves in steps of a quarter of a pixel
        with torch.autocast(x.device.type, enabled=False):
            return frame_maps(F.linear(x.float(), self.out.weight.float(), self.out.bias.float()))


class Mixing(nn.Module):
    """What a place and its neighbours say, then what its channels make of it, around a shortcut; then the
    global context. Depthwise 5x5, batch normalisation, 1x1 to twice the width and back (ConvNeXt, Liu et al.
    2022, with the normalisation that folds away).

    Two dense 3x3 convolutions in its place take 2.4 times as long in training at 64 channels and 32x32.
    """

    def __init__(self, width: int, *, context: bool = True) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, 1, 2, groups=width)
        self.norm: nn.Module = nn.BatchNorm2d(width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.context = Context(width) if context else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside = self.narrow(F.relu(self.widen(self.norm(self._near(x)))))
        return self.context(x + inside)   # type: ignore[no-any-return]

    def _near(self, x: Tensor) -> Tensor:
        """The depthwise convolution; on a GPU as a dense one whose kernel is zero between channels: a hundred
        times the multiplications, which tensor cores do in a fraction of what its gradients take otherwise.
        """
        if not x.is_cuda:
            return self.near(x)
        dense = torch.diag_embed(self.near.weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)   # (C, C, 5, 5)
        return F.conv2d(x, dense.contiguous(memory_format=torch.channels_last), self.near.bias, padding=2)


class Context(nn.Module):
    """Mean and contrast of the whole map to a scale and an offset of every channel: what places know of each
    other.

    What is read is normalised and the scale is bounded by 0 and 2: a scale that follows the map's own size
    squares it in every block, and a training ended with infinities after 168 steps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.read, self.write = nn.Linear(2 * width, width // 2), nn.Linear(width // 2, 2 * width)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3))
        contrast = (x.square().mean((2, 3)) - mean.square()).clamp_min(0).add(EPS).sqrt()
        told = self.norm(torch.cat([mean, contrast], 1))   # (N, 2 C)
        scale, offset = self.write(F.relu(self.read(told))).chunk(2, 1)
        scaled = x * (1 + torch.tanh(scale))[:, :, None, None]
        return scaled + offset[:, :, None, None]   # type: ignore[no-any-return]


class Attention(nn.Module):
    """Every place of an 8x8 map looks at every other: a hidden eye is restored from the one that shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.place = nn.Parameter(torch.zeros(1, 8 * 8, width))
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, width, height, _ = x.shape
        tokens = self.norm(x.permute(0, 2, 3, 1).reshape(n, -1, width) + self.place)   # (N, 64, C)
        query, key, value = (
            part.view(n, -1, HEADS, width // HEADS).transpose(1, 2)
            for part in self.read(tokens).chunk(3, 2)
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, -1, width)
        said = self.write(seen).view(n, height, -1, width).permute(0, 3, 1, 2)
        return x + said   # type: ignore[no-any-return]


class Restorer(nn.Module):
    """Upright SFs (N, 3, 128, 128) in [0, 1] to faces, linear at the end, so they may leave the range.

    The trunk works at 32x32 after a pixel-unshuffle by four: a U-Net from 64x64 down takes ten times as long
    on a CPU. What passes it by at 64x64, and two convolutions there, keep the grid of the shuffles out of the
    faces. ``attention`` and ``context`` say whether it has those parts.
    """

    def __init__(self, *, attention: bool = True, context: bool = True) -> None:
        super().__init__()
        small, middle, large = WIDTHS

        def mixing(width: int, count: int = 2) -> list[nn.Module]:
            return [Mixing(width, context=context) for _ in range(count)]

        def looking() -> nn.Module:
            # in its place nothing, so that what follows keeps its name
            return Attention(large) if attention else nn.Identity()

        self.head = nn.Conv2d(6 * 16, small, 3, 1, 1)
        self.at_32 = nn.Sequential(*mixing(small))
        self.to_16 = nn.Conv2d(small, middle, 2, 2)
        self.at_16 = nn.Sequential(*mixing(middle))
        self.to_8 = nn.Conv2d(middle, large, 2, 2)
        self.at_8 = nn.Sequential(*mixing(large, 1), looking(), *mixing(large), looking(), *mixing(large, 1))
        self.from_8 = nn.Conv2d(large, middle, 1)
        self.back_at_16 = nn.Sequential(*mixing(middle))
        self.from_16 = nn.Conv2d(middle, small, 1)
        self.back_at_32 = nn.Sequential(*mixing(small))
        self.detail = nn.Conv2d(6 * 4, DETAIL, 3, 1, 1)
        self.to_64 = nn.Conv2d(small, 4 * TAIL, 3, 1, 1)
        self.tail = nn.Conv2d(TAIL + DETAIL, TAIL, 3, 1, 1)
        self.colours = nn.Conv2d(TAIL, 3 * 4, 3, 1, 1)

    def forward(self, upright: Tensor) -> Tensor:
        both = self.inputs(upright)   # (N, 6, 128, 128)
        at_32 = self.trunk(self.head(F.pixel_unshuffle(both, 4)))

        # detail beside the trunk's features, then colours
        detail = F.relu(self.detail(F.pixel_unshuffle(both, 2)))
        at_64 = torch.cat([F.relu(F.pixel_shuffle(self.to_64(at_32), 2)), detail], 1)
        colours = self.colours(F.relu(self.tail(at_64)))
        return F.pixel_shuffle(colours, 2) / 2 + 0.5   # (N, 3, 128, 128)

    def inputs(self, upright: Tensor) -> Tensor:
        """The SF as it is, in [-1, 1], and with its mean and contrast taken out: (N, 6, H, W)."""
        return torch.cat([2 * upright - 1, standardized(upright)], 1)

    def trunk(self, read: Tensor) -> Tensor:
        """Maps at 32x32 down to 8x8 and up again, with shortcuts by addition."""
        at_32 = self.at_32(read)
        at_16 = self.at_16(self.to_16(at_32))
        at_8 = self.at_8(self.to_8(at_16))
        at_16 = self.back_at_16(at_16 + doubled(self.from_8(at_8)))
        return self.back_at_32(at_32 + doubled(self.from_16(at_16)))   # type: ignore[no-any-return]


def as_shown(real: Tensor, stored: Tensor, maps: Tensor) -> Tensor:
    """Real faces (N, 3, H, W) moved to where SFs that ``maps`` undo in place of the ``stored`` ones, both
    (N, 2, 3), show them.
    """
    return transform(real, composed(inverse(stored), maps), outside="border")


def lattice(error: Tensor, square_px: int = FACE_PX) -> Tensor:
    """How much of an error (N, C, H, W) repeats every four pixels within squares of ``square_px``, which tile
    it: the mean square, over squares, channels and the sixteen places of a 4x4 block, of what a place's mean
    error differs from the square's.

    A trunk at a quarter of the size leaves such a grid: a place of its map makes 16 pixels, each by weights
    of its own. Real faces have nothing of it, so it is seen long before it counts in any pixel loss.
    """
    n, c, h, w = error.shape
    blocks = square_px // LATTICE_PX
    by_place = error.reshape(
        n, c, h // square_px, blocks, LATTICE_PX, w // square_px, blocks, LATTICE_PX
    ).mean((3, 6))   # (N, C, squares, 4, squares, 4)
    return (by_place - by_place.mean((3, 5), keepdim=True)).square().mean()


def fine(error: Tensor) -> Tensor:
    """The mean square of what an error (N, C, H, W) differs from its mean over each 2x2 pixels."""
    return (error - doubled(F.avg_pool2d(error, 2))).square().mean()


def doubled(x: Tensor) -> Tensor:
    """Twice as large, each place repeated."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Network(nn.Module):
    """SFs (N, 3, 128, 128) in [0, 1] to recovered faces, which may leave the range."""

    def __init__(self, looks: int = 1, *, attention: bool = True, context: bool = True) -> None:
        super().__init__()
        self.aligner = Aligning(looks)
        self.restorer = Restorer(attention=attention, context=context)

    def forward(self, stylized: Tensor) -> Tensor:
        return self.restorer(transform(stylized, self.aligner(stylized)[-1]))   # type: ignore[no-any-return]


class Recovering(nn.Module):
    """The network for use: frozen, normalisation folded into the convolutions, faces clamped to [0, 1]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, Aligning):
                for number, pair in enumerate(zip(module.convs, module.norms)):
                    conv, norm = cast(tuple[nn.Conv2d, nn.BatchNorm2d], pair)
                    module.convs[number] = fuse_conv_bn_eval(conv, norm)
                    module.norms[number] = nn.Identity()
            if isinstance(module, Mixing):
                module.near = fuse_conv_bn_eval(module.near, cast(nn.BatchNorm2d, module.norm))
                module.norm = nn.Identity()
        self.eval().requires_grad_(False)

    def forward(self, stylized: Tensor) -> Tensor:
        return self.network(stylized).float().clamp(0, 1)   # type: ignore[no-any-return]


class AlignRestore(Learner):
    """The method in training. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        self.network: nn.Module = setup.place(self.make_network(config, setup))
        super().__init__(setup, {"network": self.network}, self._optimizers)
        compares = setup.trains and config.feature_weight
        self.identity = open_identity(config.features, setup.device) if compares else None
        self.find = setup.compile(cast(Network, self.network).aligner)
        self.restore_face = setup.compile(cast(Network, self.network).restorer)
        # and the version of the weights that it was made of; listed here, as listing them takes a fiftieth
        # of a face
        self._for_use: tuple[int, Recovering] | None = None
        self._weights = [*self.network.parameters(), *self.network.buffers()]

    def make_network(self, config: Config, setup: Setup) -> Network:
        """Its weights are drawn by the seed that was just set."""
        return Network(config.looks, attention=config.attention, context=config.context)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            self.config.learning_rate,
            (0.9, 0.99),
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        return {"network": optimizer}

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of both networks."""
        config = self.config
        self.set_learning_rate(self.learning_rate())
        self.network.train()

        # the aligner is told the stored map at each look; the last one counts in the end
        with self.setup.autocast():
            found = self.find(batch.stylized)   # (looks, N, 2, 3)
        apart = [misplacement(maps, batch.warp) for maps in found]
        losses = {"align": apart[-1]}

        # the restorer sees the SF undone once: early by the stored map with some noise, later by the
        # network's own
        maps = self._maps(found[-1].detach(), batch.warp)
        with self.setup.autocast():
            recovered = self.restore_face(transform(batch.stylized, maps)).float()

        # the undone SF shows each face beside where the real one lies, by as much as that map is off;
        # features are of half of the faces
        real, half = batch.real, (len(maps) + 1) // 2
        if config.registered_pixels:
            real = as_shown(real, batch.warp, maps)
        shown = real[:half]
        if config.registered and not config.registered_pixels:
            shown = as_shown(shown, batch.warp[:half], maps[:half])
        of_faces, total = self.compare(recovered, real, shown)
        losses |= of_faces
        total = total + config.align_weight * torch.stack(apart).sum()
        self.update("network", total)
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    def compare(
        self, recovered: Tensor, real: Tensor, shown: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms that teach the restorer, and their weighted sum; faces are (N, 3, 128, 128) in [0, 1],
        ``shown`` the real ones, of the first faces alone, that the features are to be of.
        """
        config = self.config
        # absolute differences keep edges, squared ones the mean colour; the latter in the terms of the other
        # methods: faces in [-1, 1]
        losses = {"l1": F.l1_loss(recovered, real), "pixel": 4 * F.mse_loss(recovered, real)}
        total = config.pixel_weight * losses["l1"] + config.squared_weight / 4 * losses["pixel"]
        error = recovered - real
        if config.lattice_weight:
            losses["lattice"] = lattice(error, config.lattice_px)
            total = total + config.lattice_weight * losses["lattice"]
        if config.fine_weight:
            losses["fine"] = fine(error)
            total = total + config.fine_weight * losses["fine"]

        # features keep what makes a person, which squared differences smooth away
        if self.identity and self.part >= config.features_from:
            losses["features"] = self._feature_loss(recovered, shown)
            total = total + config.feature_weight * losses["features"]
        return losses, total

    def _maps(self, found: Tensor, stored: Tensor) -> Tensor:
        """What undoes each SF of a batch, (N, 2, 3); its draws are a function of seed and step."""
        config = self.config
        torch.manual_seed(self.setup.step_seed(self.done))
        noisy = jittered(stored, config.jitter)
        # of SFs undone by the network's own map
        share = (self.part - config.own_from) / (config.own_until - config.own_from)
        own = (torch.rand(len(stored), 1, 1) < share).to(stored.device)
        return torch.where(own, found, noisy)

    def _feature_loss(self, recovered: Tensor, shown: Tensor) -> Tensor:
        """Squared difference of the features of the first faces, as many as are ``shown``, at half size, by
        the square of the real ones: between 0 and about 1.
        """
        assert self.identity
        with self.setup.autocast():
            with torch.no_grad():
                wanted = self.identity(F.avg_pool2d(shown, 2)).float()
            got = self.identity(F.avg_pool2d(recovered[:len(shown)], 2)).float()
        return F.mse_loss(got, wanted) / wanted.square().mean()

    def learning_rate(self) -> float:
        """Of this step: warmed up, then along a cosine to 0."""
        warm = min(1.0, self.done / WARM_UP + LEAST_RATE)
        return self.config.learning_rate * warm * (1 + math.cos(math.pi * min(1.0, self.part))) / 2

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces, clamped."""
        return self.inference()(stylized)   # type: ignore[no-any-return]

    def inference(self) -> Recovering:
        """A frozen network for use, folded; made anew when a weight has changed."""
        version = sum(tensor._version for tensor in self._weights)
        if self._for_use is None or self._for_use[0] != version:
            self._for_use = version, Recovering(cast(Network, self.network))
        return self._for_use[1]


def stages(config: Config, steps: int) -> list[Stage]:
    """Before the feature term and with it."""
    first = config.features_from if config.feature_weight else 1.0
    middles = (first / 2, (1 + first) / 2)
    shares = (first, 1 - first)
    return [Stage(int(middle * steps), share) for middle, share in zip(middles, shares) if share]


def build(config: Config, setup: Setup) -> AlignRestore:
    """The method, ready for its first step."""
    return AlignRestore(config, setup)


METHOD = Method(
    Config, build, presets=PRESETS, stages=stages, exports=AlignRestore.inference, row=100
)

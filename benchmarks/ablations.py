"""What each part of `align-restore` is worth: the method with one part taken out or put in.

    ifrp-bench train --method benchmarks/ablations.py --set change=ssim --data data/lfw --preset cpu
    python -m benchmarks.ablations   # what each change makes of a step's time, by turns

Changes that a setting makes (attention, losses, mirrored pairs, rates) are made by that setting. The table of
``docs/align-restore.md`` has both kinds.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import Positive, Share
from ifrp_bench.methods import Method, Pairs, Setup, adam
from ifrp_bench.methods.align_restore import (
    PRESETS, TAIL, WIDTHS, AlignRestore, Mixing, Network, Restorer, doubled, stages, standardized,
)
from ifrp_bench.methods.align_restore import Config as OfAlignRestore
from ifrp_bench.methods.ifrp.method import pull
from ifrp_bench.metrics.ssim import C1, C2, RADIUS, band
from ifrp_bench.nets.patchgan import least_squares

FINE = (12, 24)   # channels at 128x128 and at 64x64 of the path at full size
CRITIC = (32, 64, 128)   # channels of its halvings
CRITIC_RATE = 2e-4
STEPS = 12   # timed of each change
CHANGES = ("standardized", "detail", "shortcuts", "full-size", "instance", "ssim", "critic")


@dataclass(frozen=True)
class Config(OfAlignRestore):
    """Of `align-restore`, and what is changed."""

    # taken out: standardized, detail, shortcuts; put in: full-size, instance, ssim, critic
    change: str = ""
    ssim_weight: Positive = 0.1   # of 1 - SSIM
    critic_from: Share = 0.7   # the part of the training from which the critic counts
    critic_share: Positive = 0.1   # of the other terms' gradient into the faces, which is how hard it pulls

    def __post_init__(self) -> None:
        """Raises InputError for a change that there is none of."""
        super().__post_init__()
        if self.change and self.change not in CHANGES:
            raise InputError(f"change {self.change!r}: one of {', '.join(CHANGES)}")


class AsItIs(Restorer):
    """It sees the SF alone; what has its mean and contrast taken out is the SF again."""

    def inputs(self, upright: Tensor) -> Tensor:
        return (2 * upright - 1).repeat(1, 2, 1, 1)


class FullSize(Restorer):
    """With a path at 128x128: convolutions there and at 64x64 read the SF beside the pixel-unshuffles, and
    colours are made at full size.
    """

    def __init__(self, **parts: bool) -> None:
        super().__init__(**parts)
        at_128, at_64 = FINE
        self.at_full = nn.Conv2d(6, at_128, 3, 1, 1)
        self.halving = nn.Conv2d(at_128, at_64, 3, 2, 1)
        self.head = nn.Conv2d(6 * 16 + 4 * at_64, WIDTHS[0], 3, 1, 1)
        self.tail = nn.Conv2d(TAIL + at_64, 4 * at_128, 3, 1, 1)
        self.colours = nn.Conv2d(2 * at_128, 3, 3, 1, 1)

    def forward(self, upright: Tensor) -> Tensor:
        both = self.inputs(upright)   # (N, 6, 128, 128)
        at_128 = F.relu(self.at_full(both))
        at_64 = F.relu(self.halving(at_128))
        read = torch.cat([F.pixel_unshuffle(both, 4), F.pixel_unshuffle(at_64, 2)], 1)
        at_32 = self.trunk(self.head(read))
        at_64 = torch.cat([F.relu(F.pixel_shuffle(self.to_64(at_32), 2)), at_64], 1)
        at_128 = torch.cat([F.relu(F.pixel_shuffle(self.tail(at_64), 2)), at_128], 1)
        return self.colours(at_128) / 2 + 0.5   # type: ignore[no-any-return]


class NoShortcuts(Restorer):
    """Everything passes 8x8 places: nothing is added on the way up, no detail passes by."""

    def trunk(self, read: Tensor) -> Tensor:
        at_8 = self.at_8(self.to_8(self.at_16(self.to_16(self.at_32(read)))))
        at_16 = self.back_at_16(doubled(self.from_8(at_8)))
        return self.back_at_32(doubled(self.from_16(at_16)))   # type: ignore[no-any-return]


class Instance(nn.Module):
    """Maps (N, C, H, W) with the mean and contrast of each channel of each face taken out (Ulyanov et al.
    2016), as Johnson's network has it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.offset = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return standardized(x) * self.scale + self.offset


def changed(change: str, **parts: bool) -> Restorer:
    """The restorer, of the parts that ``Restorer`` is told of, with a change or as it is."""
    kinds = {"standardized": AsItIs, "full-size": FullSize, "shortcuts": NoShortcuts}
    restorer = kinds.get(change, Restorer)(**parts)
    if change == "instance":
        for module in restorer.modules():
            if isinstance(module, Mixing):
                # behind the normalisation that is folded away
                module.widen = nn.Sequential(Instance(module.widen.in_channels), module.widen)
    if change in ("detail", "shortcuts"):
        # it says nothing, ever
        for parameter in restorer.detail.parameters():
            nn.init.zeros_(parameter).requires_grad_(False)
    return restorer


class Ablation(AlignRestore):
    """The method with one change."""

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        if config.change == "critic":
            self.networks["critic"] = self.critic = setup.place(small_critic())
            if setup.trains:
                self.optimizers["critic"] = adam(self.critic, CRITIC_RATE, 0.5)

    def make_network(self, config: OfAlignRestore, setup: Setup) -> Network:
        assert isinstance(config, Config)
        network = super().make_network(config, setup)
        # each change from the draws that the whole restorer would have
        torch.manual_seed(setup.seed)
        network.restorer = changed(config.change, attention=config.attention, context=config.context)
        return network

    def compare(
        self, recovered: Tensor, real: Tensor, shown: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        losses, total = super().compare(recovered, real, shown)
        if self.config.change == "ssim":
            losses["ssim"] = 1 - similarity(recovered, real)
            total = total + self.config.ssim_weight * losses["ssim"]
        if self.config.change == "critic" and self.part >= self.config.critic_from:
            losses["critic"], losses["adversarial"], pulled = self._criticised(recovered, real, total)
            total = total + pulled
        return losses, total

    def _criticised(self, recovered: Tensor, real: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the critic loses, which learns first; what the faces lose by it; and a term whose gradient
        into the faces is that of the latter, of the size of ``critic_share`` of the other terms'.
        """
        with self.setup.autocast():
            on_made = self.critic(2 * recovered.detach() - 1).float()
            on_real = self.critic(2 * real - 1).float()
        learns = least_squares(on_made, False) + least_squares(on_real, True)
        # the schedule is the restorer's
        self.optimizers["critic"].param_groups[0]["lr"] = CRITIC_RATE
        self.update("critic", learns)

        def judged(faces: Tensor) -> Tensor:
            with self.setup.autocast():
                return least_squares(self.critic(2 * faces - 1).float(), True)

        loss, gradient = pull(judged, recovered)
        others, = torch.autograd.grad(total, recovered, retain_graph=True)
        weight = self.config.critic_share * others.norm() / gradient.norm().clamp_min(1e-12)
        return learns, loss, (recovered * (weight * gradient)).sum()


def small_critic() -> nn.Module:
    """Faces (N, 3, 128, 128) in [-1, 1] to a score for every patch of 22 px."""
    layers: list[nn.Module] = []
    for before, width in zip((3, *CRITIC), CRITIC):
        layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(CRITIC[-1], 1, 1))


def similarity(recovered: Tensor, real: Tensor) -> Tensor:
    """SSIM (metrics/ssim.py) of each channel of faces in [0, 1], averaged; it has a gradient."""
    planes = torch.stack([recovered, real, recovered**2, real**2, recovered * real])
    gaussian = band(planes.shape[-1] - 2 * RADIUS, planes.dtype).to(planes.device)
    x, y, xx, yy, xy = gaussian @ planes.contiguous() @ gaussian.T
    c1, c2 = C1 / 255**2, C2 / 255**2   # of faces in [0, 1]
    alike = (2 * x * y + c1) * (2 * (xy - x * y) + c2)
    return (alike / ((x**2 + y**2 + c1) * (xx - x**2 + yy - y**2 + c2))).mean()


def build(config: Config, setup: Setup) -> Ablation:
    return Ablation(config, setup)


METHOD = Method(Config, build, presets=PRESETS, stages=stages)


def main() -> None:
    """A step of 16 of each change against the method's own, timed by turns on one thread."""
    torch.set_num_threads(1)
    faces = torch.rand(16, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    pairs = Pairs(faces, faces.flip(3), torch.eye(2, 3).repeat(16, 1, 1))
    wanted: dict[str, dict[str, Any]] = {
        "as it is": {},
        "no attention": {"attention": False},
        "no context": {"context": False},
        "neither": {"attention": False, "context": False},
        **{change: {"change": change} for change in CHANGES},
    }
    made = {
        name: Ablation(Config(looks=2, fine_weight=20.0, critic_from=0.0, **settings), Setup(steps=1000))
        for name, settings in wanted.items()
    }
    seconds: dict[str, list[float]] = {change: [] for change in made}
    for turn in range(STEPS + 2):
        for name, method in made.items():
            begun = time.perf_counter()
            method.step(pairs)
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begun)
    whole = statistics.median(seconds["as it is"])
    for name, times in seconds.items():
        size = sum(parameter.numel() for parameter in made[name].network.parameters()) / 1e6
        step = statistics.median(times)
        print(f"{name:12} {1000 * step:5.0f} ms  x {step / whole:.2f}  {size:.2f} M")


if __name__ == "__main__":
    main()

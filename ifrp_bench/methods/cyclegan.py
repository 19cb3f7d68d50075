"""CycleGAN (Zhu, Park, Isola, Efros, ICCV 2017), retrained for destylization.

Unpaired by construction: the stylized faces of one half of the people and the real faces of the other. Marks:
[P] CycleGAN's paper, [C] its release, [I] inferred, [O] our option.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.settings import Count, Decay, NotNegative, Positive, Size
from ifrp_bench.ground.draws import generator
from ifrp_bench.methods import Learner, Method, Pairs, Setup, reported, to_unit
from ifrp_bench.nets.patchgan import PatchGAN, least_squares, linear_decay, normal_weights
from ifrp_bench.nets.transformer import ReflectConv


@dataclass(frozen=True)
class Config:
    """What CycleGAN is trained with."""

    width: Count = 64   # [P]
    blocks: Count = 6   # [P] for 128x128
    cycle_weight: NotNegative = 10.0   # [P]
    # [I] half of the cycle weight in the release's painting-to-photograph models
    identity_weight: NotNegative = 0.0
    pool: Size = 50   # [P]
    learning_rate: Positive = 2e-4   # [P]; constant for half of the training, then along a line to 0
    beta1: Decay = 0.5   # [P]


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 30, "batch_size": 1},   # [I] as long as pix2pix
    "short": {"epochs": 6, "batch_size": 4},
    # a validation takes as long as a dozen steps
    "cpu": {"steps": 500, "batch_size": 2, "ema": 0.99, "validations": 8},
    # half the width, for the demo's time
    "smoke": {"steps": 24, "batch_size": 2, "width": 32, "validations": 2},
}


class Padded(nn.Module):
    """Reflection padding, convolution, instance normalisation, ReLU where asked for."""

    def __init__(self, inputs: int, outputs: int, size: int, *, relu: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = ReflectConv(inputs, outputs, size), nn.InstanceNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Padded(width, width, 3), Padded(width, width, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)   # type: ignore[no-any-return]


class Generator(nn.Module):
    """c7s1-64, d128, d256, R256 x 6, u128, u64, c7s1-3 [P]: pictures in
    [-1, 1] to pictures in [-1, 1]. 7.84 M parameters.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        w = width

        def between(conv: nn.Module, outputs: int) -> list[nn.Module]:
            return [conv, nn.InstanceNorm2d(outputs), nn.ReLU()]

        # down to a quarter of the size, the residual blocks, and up again
        self.body = nn.Sequential(
            Padded(3, w, 7),
            *between(nn.Conv2d(w, 2 * w, 3, 2, 1), 2 * w),
            *between(nn.Conv2d(2 * w, 4 * w, 3, 2, 1), 4 * w),
            *(Residual(4 * w) for _ in range(blocks)),
            *between(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, output_padding=1), 2 * w),
            *between(nn.ConvTranspose2d(2 * w, w, 3, 2, 1, output_padding=1), w),
        )
        self.last = ReflectConv(w, 3, 7)
        self.apply(partial(normal_weights, spread=0.02))

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.tanh(self.last(self.body(pictures)).float())


class ImagePool:
    """Made pictures of the last steps (Shrivastava et al. 2017): a critic sees some that its generator made a
    while ago.

    Holds ``size`` pictures. Its draws are a function of the seed, its name and how many batches it has seen,
    so a resumed run draws on; it is part of the checkpoint.
    """

    def __init__(self, size: int, seed: int, name: str) -> None:
        self.size, self.seed, self.name = size, seed, name
        self.pictures: Tensor | None = None   # (up to size, C, H, W)
        self.seen = 0   # batches

    def exchange(self, made: Tensor) -> Tensor:
        """The batch (N, C, H, W) for the critic.

        Until the pool is full the pictures themselves; then each with probability 1/2 is put into the pool
        and an older one returned in its place.
        """
        if not self.size:
            return made
        draws = generator(self.seed, "pool", self.name, self.seen)
        self.seen += 1
        given = []
        for picture in made:
            # a pool that is not full takes every picture and shows it too
            if self.pictures is None or len(self.pictures) < self.size:
                new = picture[None].clone()
                self.pictures = new if self.pictures is None else torch.cat([self.pictures, new])
                given.append(picture)
            # a full one exchanges every other, at a random place
            elif draws.random() < 0.5:
                place = int(draws.integers(self.size))
                given.append(self.pictures[place].clone())
                self.pictures[place] = picture
            else:
                given.append(picture)
        return torch.stack(given)

    def state(self) -> dict[str, Any]:
        """Its pictures and its count."""
        return {"seen": self.seen} | (
            {"pictures": self.pictures.clone()} if self.pictures is not None else {}
        )

    def restore(self, state: dict[str, Any], device: str) -> None:
        """Take up a ``state``."""
        self.seen = state["seen"]
        self.pictures = state["pictures"].to(device, copy=True) if "pictures" in state else None


class CycleGAN(Learner):
    """The method in training: two generators, two critics with pools. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)

        def place(network: nn.Module) -> nn.Module:
            # instance normalisation is slow on channels_last
            return setup.place(network, torch.contiguous_format)

        # two generators that undo each other, and a critic of what each makes
        networks = {
            "to_real": place(Generator(config.width, config.blocks)),
            "to_stylized": place(Generator(config.width, config.blocks)),
            "real_critic": place(PatchGAN(3, instance=True)),
            "stylized_critic": place(PatchGAN(3, instance=True)),
        }
        self.network = networks["to_real"]

        def adam(*names: str) -> torch.optim.Optimizer:
            parameters = [p for name in names for p in networks[name].parameters()]
            return torch.optim.Adam(parameters, config.learning_rate, (config.beta1, 0.999), fused=True)

        super().__init__(setup, networks, lambda: {
            "generators": adam("to_real", "to_stylized"),
            "critics": adam("real_critic", "stylized_critic"),
        })
        self.call = {name: setup.compile(network) for name, network in networks.items()}
        # what each critic has been shown lately
        self.pools = {name: ImagePool(config.pool, setup.seed, name) for name in ("real", "stylized")}

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of both generators, then of both critics [C].

        The batch's faces are of different people.
        """
        config, call = self.config, self.call
        self.set_learning_rate(config.learning_rate * linear_decay(self.part))
        stylized, real = (2 * faces.contiguous() - 1 for faces in (batch.stylized, batch.real))
        critics = [self.networks["real_critic"], self.networks["stylized_critic"]]

        # there and back in both directions, each made picture judged; the critics' weights need no gradient
        # now
        for critic in critics:
            critic.requires_grad_(False)
        with self.setup.autocast():
            made_real, made_stylized = call["to_real"](stylized), call["to_stylized"](real)
            cycles = call["to_stylized"](made_real), call["to_real"](made_stylized)
            verdicts = call["real_critic"](made_real).float(), call["stylized_critic"](made_stylized).float()
        losses = {
            "adversarial": sum_of(least_squares(verdict, True) for verdict in verdicts),
            "cycle": cycle_loss(cycles, (stylized, real)),
        }
        total = losses["adversarial"] + config.cycle_weight * losses["cycle"]

        # what is real already is to stay as it is, where asked for
        if config.identity_weight:
            with self.setup.autocast():
                kept = call["to_real"](real), call["to_stylized"](stylized)
            losses["identity"] = cycle_loss(kept, (real, stylized))
            total = total + config.cycle_weight * config.identity_weight * losses["identity"]
        self.update("generators", total)

        # the critics learn from pictures made now and a while ago
        for critic in critics:
            critic.requires_grad_(True)
        losses["critics"] = sum_of([
            self._criticise("real", real, made_real.detach()),
            self._criticise("stylized", stylized, made_stylized.detach()),
        ])
        self.update("critics", losses["critics"])
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    def _criticise(self, name: str, original: Tensor, made: Tensor) -> Tensor:
        """A critic's loss, halved [P], on pictures and on made ones out of the pool."""
        with self.setup.autocast():
            on_real = self.call[f"{name}_critic"](original).float()
            on_made = self.call[f"{name}_critic"](self.pools[name].exchange(made)).float()
        return (least_squares(on_real, True) + least_squares(on_made, False)) / 2

    def state(self) -> dict[str, Any]:
        """The pools are part of it."""
        return super().state() | {"pools": {name: pool.state() for name, pool in self.pools.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        super().restore(state)
        for name, pool in self.pools.items():
            pool.restore(state["pools"][name], self.setup.device)

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Through the generator of real faces."""
        return to_unit(self.network(2 * stylized.contiguous() - 1))


def cycle_loss(returned: tuple[Tensor, Tensor], originals: tuple[Tensor, Tensor]) -> Tensor:
    """Mean absolute difference of pictures that went there and back,
    summed over both directions [P equation 2].
    """
    return sum_of(F.l1_loss(one, other) for one, other in zip(returned, originals))


def sum_of(losses: Any) -> Tensor:
    """The sum of some losses."""
    return torch.stack(list(losses)).sum()


def build(config: Config, setup: Setup) -> CycleGAN:
    """The method, ready for its first step."""
    return CycleGAN(config, setup)


METHOD = Method(
    Config, build,
    sees="upright",
    paired=False,
    headline="stn",
    presets=PRESETS,
    shown_loss="cycle",
    row=60,
    reported=reported(19.584, 0.78, 18.99, 0.77, 19.60, 0.77, 1.07, 0.68, 0.70, 13.32),
)

"""Methods that recover real faces from stylized ones, one module each; its name is the name on the command
line and in the tables.

A module ends with its declaration ``METHOD = Method(Config, build, ...)``: a frozen configuration (every
default with its origin), what builds the method from it, and what it is. An aligner, which brings SFs upright
for other methods and recovers nothing, is a part of its own kind and ends with ``ALIGNER``. What is built is
a ``Recoverer``; it does not know the loop that trains it.

What declares parts is read by every command, so torch, which takes two seconds, is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.precision import autocast

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Pairs:
    """A batch: stylized and real faces, float32 (N, 3, H, W) in [0, 1], channels_last in memory, and how the
    one was misaligned.

    ``warp`` is float32 (N, 2, 3): coordinates of the RF to those of the SF, both in [-1, 1] from the first
    pixel's centre to the last's: what ``F.affine_grid(..., align_corners=True)`` takes to bring the SF
    upright.
    """

    stylized: Tensor
    real: Tensor
    warp: Tensor


def unchanged(thing: Any) -> Any:
    """The thing itself: nothing to compile, nothing to prepare."""
    return thing


def alone(tensors: Iterable[Tensor]) -> None:
    """Nothing to average: one process."""


class Training(Protocol):
    """The training split as uint8 pictures (``data.split`` has one in memory and one on disk), for methods
    that look into it, in training or without any.
    """

    def stylized_parts(self) -> Iterator[Tensor]:
        """``stylized`` some rows at a time, in order: 30,000 in one are 1.5 GB."""
        ...

    @property
    def stylized(self) -> Tensor:
        """uint8 (n, H, W, 3)."""
        ...

    @property
    def real(self) -> Tensor:
        """uint8 (m, H, W, 3)."""
        ...

    @property
    def real_index(self) -> Tensor:
        """int64 (n,) into ``real``."""
        ...

    @property
    def mean_face(self) -> Tensor:
        """The mean real face, uint8 (H, W, 3)."""
        ...


@dataclass(frozen=True)
class Setup:
    """What a method is built with, beside its configuration.

    ``steps`` is the length of the whole training, which schedules are stretched over. ``compile`` makes a
    function fast (or returns it), ``average`` brings tensors to their mean over all processes in place
    (nothing in a single one): gradients before an update, and losses that decide something; ``prepare`` lets
    batch statistics be those of all processes. ``validation`` is a batch of people who are not trained on,
    ``training`` the training split, in a training (where its steps are only timed: the validation split) and
    for methods that look into it in use; else None. ``trains`` is False for a method that is
    only used: what it would be trained with, optimisers above all, need not be there (the first optimiser of
    a process takes seconds to import).
    """

    device: str = "cpu"
    steps: int = 1
    seed: int = 0
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = unchanged
    average: Callable[[Iterable[Tensor]], None] = alone
    prepare: Callable[[nn.Module], nn.Module] = unchanged
    validation: Pairs | None = None
    training: Training | None = None
    trains: bool = True

    def step_seed(self, step: int) -> int:
        """The seed of what a step draws, the same in a resumed run."""
        return (self.seed * 1_000_003 + step) % 2**63

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is faster.

        Enter it anew in every step: it keeps its copies of the weights until it is left.
        """
        return autocast(self.device)

    def place(
        self, network: nn.Module, memory_format: torch.memory_format | None = None
    ) -> nn.Module:
        """The network on the device, channels_last unless it is measured
        to be slower so, ready for several processes.
        """
        import torch

        prepared: Any = self.prepare(network)
        return prepared.to(   # type: ignore[no-any-return]
            self.device, memory_format=memory_format or torch.channels_last
        )


class Usable(Protocol):
    """What recovers faces.

    Faces are float32 (N, 3, H, W) in [0, 1]; a method converts inside if it wants another range.
    """

    @property
    def network(self) -> nn.Module | None:
        """The one that recovers, for averaging its weights; None for a method without."""
        ...

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces, same shape and range.

        ``real`` is for methods that are declared to leak; others do not look at it.
        """
        ...


class Recoverer(Usable, Protocol):
    """A built method."""

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update; named losses, left on the device."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything needed to continue exactly: tensors, and numbers, strings and dictionaries of them."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        ...


class Growing(Recoverer, Protocol):
    """A method whose steps become dearer as it grows."""

    def at(self, done: int) -> None:
        """Stand where ``done`` steps of the training are done."""
        ...


@dataclass(frozen=True)
class Stage:
    """A part of a training in which every step costs the same: a
    step in its middle, and its share of all steps.
    """

    middle: int
    share: float


@dataclass(frozen=True)
class Variant:
    """A configuration of a method with a name, a title and a row of its own: an ablation, an oracle."""

    title: str
    settings: Settings
    row: int = 0
    reported: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Trainable:
    """What the declarations of methods and aligners have in common.

    ``config`` is a frozen dataclass, ``build`` makes a ``Recoverer`` of it. ``presets`` are settings by name,
    of the training loop and of ``config``. ``shown_loss`` stands in the progress bar. ``stages`` is for a
    method that grows: the stages of a training of so many steps.
    """

    config: type
    build: Callable[[Any, Setup], Recoverer]
    presets: Mapping[str, Settings] = field(default_factory=dict, kw_only=True)
    shown_loss: str = field(default="pixel", kw_only=True)
    stages: Callable[[Any, int], Sequence[Stage]] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Method(Trainable):
    """The declaration of a method: ``METHOD`` at the end of its module.

    * ``use``: ``trained``; ``optimised`` for each face when it is used (``steps_setting`` names the setting
      that says for how many steps); ``fixed``: neither, a row that says how hard a data set is;
    * ``sees``: whether it is trained on SFs as they are (``raw``) or brought ``upright`` with their stored
      warps;
    * ``paired``: whether it learns from pairs, or from SFs and RFs of different people;
    * ``headline``: the condition under which it stands in a paper's tables;
    * ``needs_training``: it looks into the training split when it is used;
    * ``of_sketches``: a row that says something of drawings alone;
    * ``leaks``: whether, so configured, it is shown the real face that it is to recover;
    * ``notes``: what a reader of the tables must know of it, so configured;
    * ``variants``: configurations with rows of their own;
    * ``row``: its place in a paper's table, 0 for one that is not in it; ``reported``: the paper's values, by
      column;
    * ``exports``: a frozen module, faces to faces, of the built method; None for one that is no network of
      its own.
    """

    use: Literal["trained", "optimised", "fixed"] = field(default="trained", kw_only=True)
    sees: Literal["raw", "upright"] = field(default="raw", kw_only=True)
    paired: bool = field(default=True, kw_only=True)
    headline: Literal["raw", "stn", "oracle"] = field(default="raw", kw_only=True)
    steps_setting: str = field(default="", kw_only=True)
    needs_training: bool = field(default=False, kw_only=True)
    of_sketches: bool = field(default=False, kw_only=True)
    leaks: Callable[[Any], bool] = field(default=lambda config: False, kw_only=True)
    notes: Callable[[Any], Sequence[str]] = field(default=lambda config: (), kw_only=True)
    variants: Mapping[str, Variant] = field(default_factory=dict, kw_only=True)
    row: int = field(default=0, kw_only=True)
    reported: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    exports: Callable[[Any], nn.Module] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Aligner(Trainable):
    """The declaration of an aligner: ``ALIGNER`` at the end of its module.

    It is trained on raw pairs like a method; what it recovers is the SF brought upright, and ``maps`` are the
    maps that it found.
    """

    maps: Callable[[Any, Tensor], Tensor] = field(kw_only=True)


# The columns of the paper's Tables 1 and 2, in which methods declare what it reports of them
REPORTED_COLUMNS = (
    "psnr seen", "ssim seen", "psnr unseen", "ssim unseen", "psnr sketches", "ssim sketches",
    "frr seen", "frr unseen", "frr sketches", "fcr",
)


def reported(*values: float) -> dict[str, float]:
    """The paper's values in the order of its Tables 1 and 2 (WACV 2018), by column.

    Those at the end may be missing.
    """
    return dict(zip(REPORTED_COLUMNS, values))


def adam(network: nn.Module, learning_rate: float, beta1: float = 0.9) -> torch.optim.Optimizer:
    """Adam over a network's parameters, fused: one pass over weights and moments a step, on a CPU too."""
    import torch

    return torch.optim.Adam(network.parameters(), learning_rate, (beta1, 0.999), fused=True)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Take up ``optimizer.state_dict()["state"]``, every moment laid out in memory as its parameter.

    Fused kernels go through both as they lie: moments of another layout are applied to the wrong weights
    without a word.
    """
    import torch

    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def laid_out(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
            return value
        return torch.empty_like(parameter).copy_(value)

    # moments are as large as their parameter and take its layout; step counts are numbers and stay as they
    # are
    with torch.no_grad():
        moments = {
            number: {name: laid_out(value, parameters[number]) for name, value in values.items()}
            for number, values in state.items()
        }
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


class Learner:
    """Networks and optimisers by name: what methods that are trained have in common.

    ``optimizers`` may be a function that makes them, which is not called where the method is only used.
    ``done`` counts the steps that schedules go by.
    """

    def __init__(
        self,
        setup: Setup,
        networks: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer] | Callable[[], dict[str, torch.optim.Optimizer]],
    ) -> None:
        self.setup, self.networks = setup, networks
        if callable(optimizers):
            optimizers = optimizers() if setup.trains else {}
        self.optimizers = optimizers
        self.done = 0

    def update(self, name: str, loss: Tensor) -> None:
        """One update of a named optimiser's parameters by a loss; gradients are averaged over the processes.
        """
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()

        # several processes bring their gradients to the mean: the update is that of the whole batch
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.setup.average(p.grad for p in parameters if p.grad is not None)
        optimizer.step()

    def set_learning_rate(self, rate: float) -> None:
        """For every optimiser."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def at(self, done: int) -> None:
        """Stand where ``done`` steps of the training are done."""
        self.done = done

    @property
    def part(self) -> float:
        """How much of the training is done, 0 to 1."""
        return self.done / self.setup.steps

    def state(self) -> dict[str, Any]:
        """Weights, running statistics, optimisers and the counter."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": {
                name: optimizer.state_dict()["state"] for name, optimizer in self.optimizers.items()
            },
            "done": self.done,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        # weights and statistics first: optimisers lay their moments out as the weights lie
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, state["optimizers"][name])
        self.at(state["done"])


def to_unit(faces: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped, in float32."""
    return (faces.float() / 2 + 0.5).clamp(0, 1)


def training_of(setup: Setup, method: str) -> Training:
    """The training split. Raises InputError where there is none."""
    if setup.training is None:
        raise InputError(f"{method} looks into the training split: evaluate it on a data set")
    return setup.training


class Untrained:
    """What methods that are not trained have in common."""

    network: nn.Module | None = None

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """There is nothing to train: raises InputError."""
        raise InputError("this method is not trained; `ifrp-bench eval` evaluates it as it is")

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""


class Fixed(Untrained):
    """A method that is a function of stylized faces alone."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """What the function makes of the stylized faces."""
        return self.function(stylized)

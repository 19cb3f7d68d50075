"""Methods that recover real faces from stylized ones, one module each; its name is the name on the command line and in the tables.

A module has a frozen ``Config`` (every default with its origin), ``build(config, setup)``, ``PRESETS`` (settings by name, of the loop and of
``Config``), and says whether it is ``PAIRED`` and ``TRAINABLE``. It may have ``VARIANTS`` (ablations: settings under a name of their own), ``ALIGNED`` (it
is trained on SFs brought upright with their stored warps), ``OPTIMISED`` (not trained, it optimises each face when it is used: the name of the setting that
says for how many steps), ``HEADLINE`` (the condition under which it stands in a paper's tables, ``raw`` if nothing is said), ``VARIANT_NOTES`` and ``NOTE``
(what the tables' readers must know of a variant, and of features other than the paper's) and ``TABLE_ROW`` (False: it
recovers no faces). A method does not know the loop that trains it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ifrp_bench.errors import InputError
from ifrp_bench.precision import autocast


@dataclass(frozen=True)
class Pairs:
    """A batch: stylized and real faces, float32 (N, 3, H, W) in [0, 1], channels_last in memory, and how the one was misaligned.

    ``warp`` is float32 (N, 2, 3): coordinates of the RF to those of the SF, both in [-1, 1] from the first pixel's centre to the last's: what
    ``F.affine_grid(..., align_corners=True)`` takes to bring the SF upright.
    """

    stylized: Tensor
    real: Tensor
    warp: Tensor


def as_it_is(thing: Any) -> Any:
    """Nothing to compile, nothing to prepare."""
    return thing


def alone(tensors: Iterable[Tensor]) -> None:
    """Nothing to average: one process."""


class Training(Protocol):
    """The training split as uint8 pictures (``batches.Split`` is one), for methods that look into it without being trained."""

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
    """What the loop gives a method to be built with.

    ``steps`` is the length of the whole training, which schedules are stretched over. ``compile`` makes a function fast (or gives it back),
    ``average`` brings tensors to their mean over all processes in place (nothing in a single one): gradients before an update, and losses
    that decide something; ``prepare`` lets batch statistics be those of all processes. ``validation`` is a batch of people who are not trained on,
    ``training`` the training split for methods that are not trained.
    """

    device: str = "cpu"
    steps: int = 1
    seed: int = 0
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = as_it_is
    average: Callable[[Iterable[Tensor]], None] = alone
    prepare: Callable[[nn.Module], nn.Module] = as_it_is
    validation: Pairs | None = None
    training: Training | None = None

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is faster. Enter it anew in every step: it keeps its copies of the weights until it is left."""
        return autocast(self.device)

    def place(self, network: nn.Module, memory_format: torch.memory_format = torch.channels_last) -> nn.Module:
        """The network on the device, channels_last unless it is measured to be slower so, ready for several processes."""
        return self.prepare(network).to(self.device, memory_format=memory_format)  # type: ignore[call-overload]


class Method(Protocol):
    """Faces are float32 (N, 3, H, W) in [0, 1]; a method converts inside if it wants another range.

    A method that is one network in use may also have ``inference()``: a frozen module, faces to faces, which is what ``export`` writes.
    """

    network: nn.Module | None   # the one that destylizes, for averaging its weights; None for a method without

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update; named losses, left on the device."""
        ...

    def destylize(self, stylized: Tensor) -> Tensor:
        """Recovered faces, same shape and range."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything needed to continue exactly: tensors, and numbers, strings and dictionaries of them."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        ...


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Take up ``optimizer.state_dict()["state"]``, every moment laid out in memory as its parameter: fused kernels go through both as they lie."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    laid_out = {
        number: {
            name: torch.empty_like(parameters[number]).copy_(value) if isinstance(value, Tensor) and value.shape == parameters[number].shape else value
            for name, value in values.items()
        } for number, values in state.items()
    }
    with torch.no_grad():
        optimizer.load_state_dict(optimizer.state_dict() | {"state": laid_out})


class Learner:
    """Networks and optimisers by name: what methods that are trained have in common. ``done`` counts the steps that schedules go by."""

    def __init__(self, setup: Setup, networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> None:
        self.setup, self.networks, self.optimizers = setup, networks, optimizers
        self.done = 0

    def update(self, name: str, loss: Tensor) -> None:
        """One update of a named optimiser's parameters by a loss; gradients are averaged over the processes."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        self.setup.average(p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        optimizer.step()

    def set_learning_rate(self, rate: float) -> None:
        """For every optimiser."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    @property
    def part(self) -> float:
        """How much of the training is done, 0 to 1."""
        return self.done / self.setup.steps

    def state(self) -> dict[str, Any]:
        """Weights, running statistics, optimisers and the counter."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": {name: optimizer.state_dict()["state"] for name, optimizer in self.optimizers.items()}, "done": self.done,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, state["optimizers"][name])
        self.done = state["done"]


def to_unit(faces: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped, in float32."""
    return (faces.float() / 2 + 0.5).clamp(0, 1)


def training_of(setup: Setup, method: str) -> Training:
    """The training split. Raises InputError where there is none."""
    if setup.training is None:
        raise InputError(f"{method} looks into the training split: evaluate it on a data set")
    return setup.training


class Fixed:
    """A method that is not trained: a function of stylized faces."""

    network = None

    def __init__(self, recover: Callable[[Tensor], Tensor]) -> None:
        self.destylize = recover

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """There is nothing to train."""
        raise InputError("this method is not trained; `ifrp-bench eval` evaluates it as it is")

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""

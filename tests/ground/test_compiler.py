"""Passes are compiled or recorded where that can be had, and computed as they are where not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ifrp_bench.ground.compiler import Graphed, compiled, compiler


def test_what_cannot_be_compiled_runs_uncompiled_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            raise TorchDynamoException("no headers")
        return call

    monkeypatch.setattr("shutil.which", lambda name: None)
    assert compiled(len, "cpu") is len and "no C++ compiler" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(torch, "compile", broken)
    function = compiled(len, "cpu")
    assert function([1, 2]) == 2 and function([1]) == 1
    assert capsys.readouterr().err.count("no headers") == 1


def test_where_the_gradient_cannot_be_compiled_nothing_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    def refuse(*_: Any) -> Any:
        raise AssertionError("no layout for it")

    backend = aot_autograd(
        fw_compiler=lambda graph, _: make_boxed_func(graph.forward), bw_compiler=refuse
    )
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    function = compiled(lambda x: x.square().sum(), "cpu")
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        function(x).backward()
    assert x.grad is not None and x.grad.tolist() == [4.0, 8.0]
    assert capsys.readouterr().err.count("no layout for it") == 1


class Network(nn.Module):
    """Like those that are trained: an argument that is no tensor, a result that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor, power: int) -> tuple[Tensor, Tensor | None]:
        found = self.layer(x) ** power
        return found, found.mean(1) if power > 1 else None


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Recording as on a GPU, with its one trap: a replay writes where the one before wrote. How often one was
    made is counted.
    """
    made: list[int] = []

    def record(module: nn.Module, shown: tuple[Tensor, ...], allow_unused_input: bool) -> Callable[..., Any]:
        made.append(1)
        places = [torch.empty_like(result) for result in module(*shown)]
        inputs = [torch.empty_like(value) for value in shown]
        weights = list(module.parameters())

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
                for kept, value in zip(inputs, values):
                    kept.copy_(value)
                for place, result in zip(places, module(*inputs)):
                    place.copy_(result)
                return tuple(place.detach() for place in places)

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                with torch.enable_grad():   # of the inputs that lie there by now
                    found = torch.autograd.grad(module(*inputs), weights, gradients)
                return *(None for _ in inputs), *found

        return lambda *values: Replay.apply(*values, *weights)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return made


def test_replays_give_what_the_network_gives(recorded: list[int]) -> None:
    torch.manual_seed(0)
    network = Network()
    fast = Graphed(network)
    for power in (1, 2, 1, 2):
        x = torch.rand(4, 3)
        gradients = []
        for function in (network, fast):
            network.zero_grad()
            face, mean = function(x, power)
            (face.sum() + (0 if mean is None else mean.square().sum())).backward()
            gradients.append((face.detach().clone(), mean is None, network.layer.weight.grad.clone()))
        assert torch.equal(gradients[0][0], gradients[1][0]) and gradients[0][1] == gradients[1][1]
        assert torch.allclose(gradients[0][2], gradients[1][2])
    assert len(recorded) == 2   # once for each kind
    with torch.no_grad():
        assert torch.equal(fast(x, 1)[0], network(x, 1)[0])
    assert len(recorded) == 2   # nothing is learned of it


def test_two_passes_whose_gradients_are_wanted_do_not_mix(recorded: list[int]) -> None:
    """As a critic's of real and of recovered faces."""
    torch.manual_seed(0)
    network = Network()
    fast = Graphed(network)
    one, other = torch.rand(2, 4, 3)
    found = []
    for function in (network, fast, fast):   # the second time the first has been let go
        network.zero_grad()
        (function(one, 1)[0] * function(other, 1)[0].square()).sum().backward()
        found.append(network.layer.weight.grad.clone())
    assert torch.allclose(found[0], found[1]) and torch.allclose(found[0], found[2])
    assert len(recorded) == 1


def test_where_there_is_no_gpu_nothing_is_recorded() -> None:
    assert compiler("cpu", "graphs")(len) is len
    assert isinstance(compiler("cuda", "graphs")(Network()), Graphed)

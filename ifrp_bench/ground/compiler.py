"""What makes a network's passes fast: ``torch.compile`` where it can be had, and a word where it cannot; CUDA
graphs.
"""

import os
import shutil
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

WISHES = ("auto", "on", "off", "graphs")


def compiler(device: str, wish: str = "auto") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes a function fast: ``torch.compile`` with ``wish`` ``on``, or ``auto`` on a GPU; CUDA graphs
    with ``graphs`` on a GPU.

    Otherwise the function stays as it is.
    """
    if wish == "off" or (wish in ("auto", "graphs") and device == "cpu"):
        return lambda function: function
    if wish == "graphs":
        return Graphed
    return lambda function: compiled(function, device)


def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The function through ``torch.compile``, or itself, with a word, where it or its gradient cannot be
    compiled.
    """
    import torch
    from torch._dynamo.exc import TorchDynamoException
    from torch._functorch import config

    if device == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        _say_uncompiled("no C++ compiler found")
        return function
    fast = torch.compile(function)
    with suppress(AttributeError):   # of an older torch
        # with the function: one that is compiled when it is first asked for fails where nobody can help
        config.force_non_lazy_backward_lowering = True

    def call(*arguments: Any) -> Any:
        nonlocal fast
        try:
            return fast(*arguments)
        except TorchDynamoException as error:
            _say_uncompiled(" ".join(str(error).split())[:100])
            fast = function
            return function(*arguments)

    return call


def _say_uncompiled(reason: str) -> None:
    tqdm.write(f"note: {reason}; training runs uncompiled: slower, the same within rounding", file=sys.stderr)


@dataclass
class _Recording:
    """Passes of a module with one kind of arguments, to be replayed."""

    replay: Callable[..., Any]
    is_tensor: list[bool]   # of its results
    single: bool   # one result, in no tuple
    pending: Callable[[], Any] = lambda: None   # a replay whose gradients may still be asked for


class Graphed:
    """A module whose passes, forward and backward, are recorded for each kind of arguments and replayed as
    CUDA graphs: a network of many small kernels waits for the CPU that starts them.

    A kind is everything but the tensors' values. What a replay returns lies where the one before lay, so a
    second call of one kind is made plainly as long as gradients of the first may still be asked for.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.recordings: dict[Any, _Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        import torch

        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        trained = any(parameter.requires_grad for parameter in self.module.parameters())
        if not torch.is_grad_enabled() or not (trained or any(value.requires_grad for value in tensors)):
            return self.module(*arguments)

        kind = (trained, self.module.training, torch.is_autocast_enabled("cuda"), *map(_kind, arguments))
        if kind not in self.recordings:
            self.recordings[kind] = self._recorded(arguments)
        recording = self.recordings[kind]
        if recording.pending() is not None:
            return self.module(*arguments)

        # the node of the replay lives as long as what is computed of its results
        results = recording.replay(*tensors)
        node = next(result.grad_fn for result in results if result.grad_fn is not None)
        recording.pending = weakref.ref(node)
        given = iter(results)
        whole = tuple(next(given) if there else None for there in recording.is_tensor)
        return whole[0] if recording.single else whole

    def _recorded(self, arguments: tuple[Any, ...]) -> _Recording:
        """The passes recorded, after three plain ones to warm up, which move batch statistics as any do."""
        import torch

        recording = _Recording(lambda: None, [], False)
        module = self.module
        # what the recording keeps: no tensor, and with it nothing of a batch's graph
        fixed = [None if isinstance(value, torch.Tensor) else value for value in arguments]
        moving = [isinstance(value, torch.Tensor) for value in arguments]

        class OfTensors(torch.nn.Module):
            """The module as a function of its tensors to its tensors."""

            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *tensors: Any) -> Any:
                given = iter(tensors)
                results = self.module(
                    *(next(given) if moves else value for value, moves in zip(fixed, moving))
                )
                recording.single = isinstance(results, torch.Tensor)
                whole = (results,) if recording.single else tuple(results)
                recording.is_tensor = [result is not None for result in whole]
                return tuple(result for result in whole if result is not None)

        shown = tuple(
            value.detach().clone().requires_grad_(value.requires_grad)
            for value in arguments
            if isinstance(value, torch.Tensor)
        )
        # weights in bfloat16 must not be kept from one pass to the next: they would be those of the recording
        autocast = torch.autocast(
            "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
        )
        with autocast:
            recording.replay = torch.cuda.make_graphed_callables(
                OfTensors().train(module.training), shown, allow_unused_input=True
            )
        return recording


def _kind(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    return value if shape is None else (tuple(shape), value.dtype, value.requires_grad)

"""Moving averages of a network's weights while it is trained, an option of
this project: smoother, and often better on validation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

YOUNG = 10   # a layer's memory grows from nothing to ``decay`` over some ten times as many steps


class Averages:
    """Averages of weights, and of running statistics with them, with a decay of 0 to 1 a step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.averaged = deepcopy(network)
        self.trained = [0] * len(list(network.modules()))   # steps of each layer

    @torch.no_grad()
    def update(self) -> None:
        """After a step.

        A layer's memory is short while it has been trained for few steps: the first weights are not
        remembered.
        """
        shares: dict[float, list[tuple[Tensor, Tensor]]] = {}
        for number, (layer, mean) in enumerate(zip(self.network.modules(), self.averaged.modules())):
            # by the weights, not by leftover gradients: a resumed run then averages as an uninterrupted one
            pairs = list(zip(_own_tensors(mean), _own_tensors(layer)))
            if not self.trained[number] and all(torch.equal(average, value) for average, value in pairs):
                continue   # not trained yet

            # the share of the newest weights: large while the layer is young, 1 - decay in the end
            self.trained[number] += 1
            share = 1 - min(self.decay, self.trained[number] / (self.trained[number] + YOUNG))
            for average, value in pairs:
                if average.is_floating_point():
                    shares.setdefault(share, []).append((average, value))
                else:   # counts of batches
                    average.copy_(value)

        # those of one memory together: a call each would take as long as a step on a GPU
        for share, moved in shares.items():
            averages, values = (list(tensors) for tensors in zip(*moved))
            torch._foreach_lerp_(averages, values, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in place of the network's, for as long as the context lasts."""
        pairs = list(zip(self.network.state_dict().values(), self.averaged.state_dict().values()))
        _swap(pairs)
        try:
            yield
        finally:
            _swap(pairs)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"ema": self.averaged.state_dict(), "ema_steps": self.trained}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        self.averaged.load_state_dict(state["ema"])
        self.trained = state["ema_steps"]


def _own_tensors(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]


@torch.no_grad()
def _swap(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for one, other in pairs:
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)

"""One training over several processes: started by ``torchrun`` or ``accelerate launch``, brought together by
Accelerate.

Every process takes its part of each batch; gradients, the statistics of batch normalisation and the losses
that decide something are averaged, so that the run is the one of a single process with the whole batch, up to
rounding.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ifrp_bench.ground.launch import number_of


class Processes:
    """This process among the others: ``rank`` of ``world``; ``device`` is its own."""

    def __init__(self, device: str) -> None:
        self.world = number_of("WORLD_SIZE", 1)
        self.rank, self.device = 0, device
        if self.world > 1:
            from accelerate import PartialState

            state = PartialState(cpu=device == "cpu")
            self.rank, self.device = state.process_index, "cpu" if device == "cpu" else str(state.device)

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Bring tensors to their mean over the processes, in place, as one message."""
        if self.world == 1:
            return
        todo = list(tensors)
        flat = self.mean(torch.cat([tensor.detach().float().flatten() for tensor in todo]))
        for tensor, mean in zip(todo, flat.split([tensor.numel() for tensor in todo])):
            tensor.copy_(mean.view(tensor.shape))

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.world == 1:
            return tensor
        from accelerate.utils import reduce

        return reduce(tensor, "mean")   # type: ignore[return-value]

    def agree(self, answer: bool) -> bool:
        """The first process's answer, everywhere."""
        return (
            bool(self.mean(torch.tensor(float(answer and self.first), device=self.device)))
            if self.world > 1
            else answer
        )

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.world > 1:
            from accelerate.utils import wait_for_everyone

            wait_for_everyone()

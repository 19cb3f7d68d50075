"""A convolution that follows nearest-neighbour upsampling by two, computed where the picture is still small.

Each of the four output pixels that share an input pixel sees a kernel whose taps that fall on the same input
pixel are summed: a 5x5 becomes four 3x3, a 3x3 four 2x2. The function is the same with 0.36 or 0.44 of the
multiplications; only sums come in another order. The weights that are learned and stored stay the plain ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.winograd import convolve


class RewrittenConv(nn.Conv2d):
    """A convolution that keeps the size, learned and stored as the plain
    one and computed by other kernels, ``kernels``.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.frozen = False

    def rewritten(self) -> tuple[Tensor, Tensor]:
        """The other kernels and their bias, of the plain ones."""
        raise NotImplementedError

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Weight and bias to compute with."""
        assert self.bias is not None
        return (self.weight, self.bias) if self.frozen else self.rewritten()

    def freeze(self) -> None:
        """For inference: rewritten once, and no longer the plain one."""
        weight, bias = self.kernels()
        self.weight, self.bias = nn.Parameter(
            weight.detach().contiguous(memory_format=torch.channels_last)
        ), nn.Parameter(bias.detach())
        self.frozen = True


class UpsampledConv(RewrittenConv):
    """Nearest x2, then a 3x3 or 5x5 convolution: (N, C, H, W) to (N, D, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        return interleave(self.blocks(x)) if self.kernel_size[0] == 5 else self._interleaved(x)

    def plain(self, x: Tensor) -> Tensor:
        """The definition, which ``forward`` equals up to rounding."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))

    def blocks(self, x: Tensor) -> Tensor:
        """The output of a 5x5 with the four pixels of a 2x2 block as channels,
        (N, 4 * D, H, W): ``interleave`` makes the picture of it.
        """
        assert self.kernel_size[0] == 5
        return convolve(x, *self.kernels(), padding=1)

    def rewritten(self) -> tuple[Tensor, Tensor]:
        """Weight (4 * D, C, m, m), m = 3 for a 5x5 and 2 for a 3x3, and
        bias (4 * D,), channels ordered (row, column, D).
        """
        assert self.bias is not None
        return four_kernels(self.weight), self.bias.repeat(4)

    def _interleaved(self, x: Tensor) -> Tensor:
        """The four 2x2 of a 3x3, as one convolution."""
        return interleaved_parts(convolve(x, *self.kernels(), padding=1))


def four_kernels(kernel: Tensor) -> Tensor:
    """A 3x3 or 5x5 kernel (D, C, ., .) as what the four pixels of a block see:
    (4 * D, C, m, m), m = 2 or 3, ordered (row, column, D).
    """
    return phases(phases(kernel, 3), 2)


def interleaved_parts(parts: Tensor) -> Tensor:
    """What four 2x2 kernels give of a map padded by one, (N, 4 * D, H + 1, W + 1), to (N, D, 2H, 2W): the
    four parts are read one pixel apart.
    """
    n, _, h, w = parts.shape
    parts = parts.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, -1)
    # each (N, H, W, 2, D)
    rows = [torch.stack([parts[:, a:h - 1 + a, b:w - 1 + b, a, b] for b in (0, 1)], 3) for a in (0, 1)]
    return torch.stack(rows, 2).reshape(n, 2 * h - 2, 2 * w - 2, -1).permute(0, 3, 1, 2)


def phases(kernel: Tensor, dim: int) -> Tensor:
    """Along ``dim`` of a (D, C, ., .) kernel: what even and odd output pixels see, stacked as (2 * D, C, .,
    .), the even ones first.

    Applied to the columns and then to the rows it orders the outputs as (row phase, column phase, D).
    """
    taps = kernel.unbind(dim)
    if len(taps) == 5:
        even, odd = [taps[0] + taps[1], taps[2] + taps[3], taps[4]], [
            taps[0],
            taps[1] + taps[2],
            taps[3] + taps[4],
        ]
    else:
        even, odd = [taps[0], taps[1] + taps[2]], [taps[0] + taps[1], taps[2]]
    return torch.cat([torch.stack(even, dim), torch.stack(odd, dim)])


def pixels_first(kernel: Tensor) -> Tensor:
    """A kernel on blocks (``nets/blocks.py``) with its channels ordered
    as ``interleave`` has them: row, column, channel.
    """
    outputs, inputs, *size = kernel.shape
    return kernel.view(outputs // 4, 4, inputs // 4, 4, *size).permute(1, 0, 3, 2, 4, 5).reshape(kernel.shape)


def interleave(blocks: Tensor) -> Tensor:
    """(N, 4 * D, H, W) with channels (row phase, column phase, D) to (N, D, 2H, 2W)."""
    n, _, h, w = blocks.shape
    parts = blocks.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, -1)
    # channels_last in memory
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)

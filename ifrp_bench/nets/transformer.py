"""The image transformation network of Johnson, Alahi and Fei-Fei (2016) with instance normalisation (Ulyanov
et al. 2016).

It stylizes faces for the data set (width 16, as the released instance-norm models) and, retrained, is the
baseline ``johnson`` (width 32). ``nets/fast_transformer.py`` computes the same function faster for inference.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.blocks import block_kernel
from ifrp_bench.nets.upsampled import four_kernels, interleaved_parts
from ifrp_bench.nets.winograd import Conv2d, convolve

# of the last convolution around mid-grey: a standard deviation of 1 is about that of a photograph
OUTPUT_GAIN = 0.25


def reflect_pad(x: Tensor, size: int) -> Tensor:
    """Reflection padding of (N, C, H, W), each pixel written once: the same as ``F.pad(mode="reflect")``,
    several times faster on CPU, there and back.
    """
    if x.is_cuda:
        return F.pad(x, (size,) * 4, mode="reflect")
    if x.requires_grad and torch.is_grad_enabled():
        return _ReflectPad.apply(x, size)  # type: ignore[no-any-return]
    return _padded(x, size)


def edges_repeated(x: Tensor) -> Tensor:
    """Replication padding of (N, C, H, W) by one pixel.

    Compiled for a CPU it is made of slices: torch 2.14 tells its compiler other strides of the padding's
    gradient than the CPU then returns, and the first step ends there.
    """
    if x.is_cuda or not torch.compiler.is_compiling():
        return F.pad(x, (1,) * 4, mode="replicate")
    wide = torch.cat([x[..., :1], x, x[..., -1:]], 3)
    return torch.cat([wide[:, :, :1], wide, wide[:, :, -1:]], 2)


def bordered(x: Tensor, size: int, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    """An empty map like ``x`` with a border of ``size``, and the view of its middle."""
    n, c, h, w = x.shape
    padded = torch.empty(
        (n, c, h + 2 * size, w + 2 * size), dtype=x.dtype, device=x.device, memory_format=memory_format
    )
    return padded, padded[:, :, size:-size, size:-size]


def _padded(x: Tensor, size: int) -> Tensor:
    padded, middle = bordered(x, size, torch.contiguous_format if x.is_contiguous() else torch.channels_last)
    middle.copy_(x)
    for dim in (2, 3):
        length = padded.shape[dim]
        padded.narrow(dim, 0, size).copy_(padded.narrow(dim, size + 1, size).flip(dim))
        padded.narrow(dim, length - size, size).copy_(
            padded.narrow(dim, length - 2 * size - 1, size).flip(dim)
        )
    return padded


class _ReflectPad(torch.autograd.Function):
    """With a gradient that adds the borders alone.

    That of the slices would add whole pictures of zeros, six of them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:   # type: ignore[override]
        ctx.size = size
        return _padded(x, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:   # type: ignore[override]
        size = ctx.size
        height = gradient.shape[2] - 2 * size
        above, inner, below = gradient.split([size, height, size], 2)
        folded = _fold_columns(inner, size)
        folded.narrow(2, 1, size).add_(_fold_columns(above, size).flip(2))
        folded.narrow(2, height - size - 1, size).add_(_fold_columns(below, size).flip(2))
        return folded, None


def _fold_columns(gradient: Tensor, size: int) -> Tensor:
    """A copy without the ``size`` columns left and right, which are added where they were reflected from."""
    width = gradient.shape[3] - 2 * size
    left, inner, right = gradient.split([size, width, size], 3)
    folded = inner.clone()
    folded.narrow(3, 1, size).add_(left.flip(3))
    folded.narrow(3, width - size - 1, size).add_(right.flip(3))
    return folded


class ReflectConv(Conv2d):
    """A convolution of odd size with reflection padding that keeps the picture's size (halves it at stride
    2).

    A 7x7 or 9x9 is computed on 2x2 blocks of pixels: it has three channels on one side, which fill three
    lanes of a vector.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride)
        nn.init.xavier_uniform_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = reflect_pad(x, self.kernel_size[0] // 2)
        if self.kernel_size[0] < 7:
            return super().forward(x)
        assert self.bias is not None and self.stride[0] == 1
        blocks = F.conv2d(F.pixel_unshuffle(x, 2), block_kernel(self.weight), self.bias.repeat_interleave(4))
        return F.pixel_shuffle(blocks, 2)

    def plain(self, x: Tensor) -> Tensor:
        """The definition, which ``forward`` equals up to rounding."""
        padded = F.pad(x, (self.kernel_size[0] // 2,) * 4, mode="reflect")
        return F.conv2d(padded, self.weight, self.bias, self.stride)

    def upsampled(self, x: Tensor) -> Tensor:
        """Of ``x`` doubled in size (nearest), as four 2x2 before the doubling.

        Reflection by one pixel is there the edge repeated.
        """
        assert self.bias is not None and self.kernel_size[0] == 3
        return interleaved_parts(convolve(edges_repeated(x), four_kernels(self.weight), self.bias.repeat(4)))


class NormalizedConv(nn.Module):
    """Convolution, instance normalisation, ReLU; ``upsample`` doubles the picture (nearest) before it."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, *, upsample: bool = False
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = ReflectConv(inputs, outputs, size, stride)
        self.norm = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv.upsampled(x) if self.upsample else self.conv(x)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity, no activation after the sum (Johnson et al. 2016, supplement).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = NormalizedConv(channels, channels, 3)
        self.second = ReflectConv(channels, channels, 3)
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(self.first(x)))


class Transformer(nn.Module):
    """Faces (N, 3, H, W) in [0, 1] to stylized faces of the same size; H and W are multiples of 4.

    While training the output may leave [0, 1]; whoever shows it clamps it. The release ends in 150 * tanh
    around the mean colour; the end is linear here (inferred: no gradient vanishes at a saturated end).
    ``width`` is the first layer's: 16 has 0.42 M parameters, 32 has 1.68 M.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.down = nn.Sequential(
            NormalizedConv(3, width, 9),
            NormalizedConv(width, 2 * width, 3, 2),
            NormalizedConv(2 * width, 4 * width, 3, 2),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(5)))
        self.up = nn.Sequential(
            NormalizedConv(4 * width, 2 * width, 3, upsample=True),
            NormalizedConv(2 * width, width, 3, upsample=True),
        )
        self.last = ReflectConv(width, 3, 9)

    def forward(self, faces: Tensor) -> Tensor:
        features = self.blocks(self.down(2 * faces - 1))
        return output_picture(self.last(self.up(features)))


def output_picture(logits: Tensor) -> Tensor:
    """The last convolution's output to picture values, around mid-grey, in float32."""
    return 0.5 + OUTPUT_GAIN * logits.float()

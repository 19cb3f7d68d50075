"""The transformer's exact rewrite for inference: the same function, several times the pictures per second.

Four things make the plain network slow on a CPU: 9x9 convolutions with three channels on one side, which fill
three lanes of a vector; reflection padding and upsampling, which copy large maps; instance normalisation's
statistics; and float32. Here

* the layers at full resolution run **at half resolution on 2x2 blocks** of pixels, four times the channels:
  the first 9x9 becomes 5x5 from 12 to 4w channels, the last one 5x5 from 4w to 12, the strided 3x3 a 2x2, and
  normalisation pools its statistics over a block;
* a 3x3 after nearest upsampling becomes one 3x3 at the low resolution that gives a block at once;
* every layer writes into the middle of the next one's padded input, and padding only fills the border (in
  blocks, reflection by one pixel is edge padding);
* statistics come from batch normalisation's kernel, one picture at a time;
* convolutions may run in bfloat16, with sums, statistics and the output in float32.

``Transformer`` in ``nets/transformer.py`` is the definition; the tests hold this one to it.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.blocks import block_kernel
from ifrp_bench.nets.transformer import (
    NormalizedConv, ResidualBlock, Transformer, bordered, output_picture, reflect_pad,
)


class FastTransformer(nn.Module):
    """Inference form of a ``Transformer``: faces (N, 3, H, W) in [0, 1] to stylized faces in [0, 1], H and W
    multiples of 4, at least 16.
    """

    def __init__(self, net: Transformer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        first, second, third = cast(list[NormalizedConv], list(net.down))
        up, last_up = cast(list[NormalizedConv], list(net.up))
        self.first = _Layer(block_kernel(first.conv.weight), first.norm, dtype)
        self.second = _Layer(_strided_weight(second.conv.weight), second.norm, dtype)
        self.third = _Layer(third.conv.weight, third.norm, dtype, stride=2)
        self.blocks = nn.ModuleList(_Residual(cast(ResidualBlock, block), dtype) for block in net.blocks)
        self.up = _Layer(_upsampled_weight(up.conv.weight), up.norm, dtype)
        self.last_up = _Layer(_upsampled_weight(last_up.conv.weight), last_up.norm, dtype)
        self.last = _conv(
            block_kernel(net.last.weight), cast(Tensor, net.last.bias).repeat_interleave(4), dtype
        )

    @torch.inference_mode()
    def forward(self, faces: Tensor) -> Tensor:
        if faces.is_cuda or len(faces) == 1:
            return self._stylize(faces)
        # one picture's maps stay in the cache, and no result depends on its neighbours
        return torch.cat([self._stylize(face[None]) for face in faces])

    def _stylize(self, faces: Tensor) -> Tensor:
        x = F.pixel_unshuffle(reflect_pad(2 * faces - 1, 4), 2)   # (N, 12, H/2+4, W/2+4): blocks
        x = x.to(dtype=self.dtype, memory_format=torch.channels_last)
        # (N, 4w, H/2+2, W/2+2): blocks of w channels, edges repeated
        x = self.first(x, pad=1)
        x = self.second(x[:, :, :-1, :-1], pad=1, reflect=True)   # (N, 2w, H/2+2, W/2+2)
        x = self.third(x, pad=1, reflect=True)   # (N, 4w, H/4+2, W/4+2)
        for number, block in enumerate(self.blocks, 1):
            # the last one's edges are repeated, for the upsampling
            x = block(x, reflect=number < len(self.blocks))
        x = F.pixel_shuffle(self.up(x, pad=0), 2)   # (N, 2w, H/2, W/2)
        x = self.last_up(_edge_pad(x), pad=2)   # (N, 4w, H/2+4, W/2+4): blocks again
        return output_picture(F.pixel_shuffle(self.last(_reflect_blocks(x)), 2)).clamp_(0, 1)


class _Layer(nn.Module):
    """Convolution of a padded map without padding, instance normalisation pooled over the pixels of a block,
    ReLU, padding for the next layer.
    """

    def __init__(self, weight: Tensor, norm: nn.InstanceNorm2d, dtype: torch.dtype, stride: int = 1) -> None:
        super().__init__()
        self.conv = _conv(weight, None, dtype, stride)   # a bias before the normalisation has no effect
        self.norm = _Norm(norm, weight.shape[0] // norm.num_features)

    def forward(self, x: Tensor, pad: int, reflect: bool = False) -> Tensor:
        """The activation in the middle of a border of ``pad``, filled if it
        is 1: by reflection, or with the edge repeated.
        """
        y = self.norm(self.conv(x))
        if pad == 0:
            return y.relu_()
        padded, middle = bordered(y, pad, torch.channels_last)
        torch.clamp_min(y, 0, out=middle)
        return _fill_border(padded, reflect) if pad == 1 else padded


class _Residual(nn.Module):
    """A residual block on padded maps: (N, C, h + 2, w + 2) in and out."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = _Layer(block.first.conv.weight, block.first.norm, dtype)
        self.second = _conv(block.second.weight, None, dtype)
        self.norm = _Norm(block.norm, 1)

    def forward(self, x: Tensor, reflect: bool) -> Tensor:
        y = self.norm(self.second(self.first(x, pad=1, reflect=True)))
        padded, middle = bordered(y, 1, torch.channels_last)
        torch.add(y, x[:, :, 1:-1, 1:-1], out=middle)
        return _fill_border(padded, reflect)


class _Norm(nn.Module):
    """Instance normalisation in which ``pixels`` neighbouring channels are pixels of one block."""

    def __init__(self, norm: nn.InstanceNorm2d, pixels: int) -> None:
        super().__init__()
        self.pixels, self.eps = pixels, norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        if self.pixels == 1 and n == 1 and not x.is_cuda:
            return torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)[0]
        variance, mean = _moments(x, self.eps)
        if self.pixels > 1:
            means = mean.view(n, -1, self.pixels)
            mean = means.mean(2, keepdim=True)
            variance = (variance.view(n, -1, self.pixels) + (means - mean).square()).mean(2)
            mean = mean.squeeze(2)
        scale = self.weight * torch.rsqrt(variance + self.eps)   # (N, C / pixels)
        shift = self.bias - mean * scale
        scale, shift = (
            value.repeat_interleave(self.pixels, 1).view(n, c, 1, 1).to(x.dtype) for value in (scale, shift)
        )
        return torch.addcmul(shift, x, scale)


def _moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Variance and mean over pixels, each (N, C) float32.

    On a CPU batch normalisation's kernel gives them for one picture: ``var_mean`` takes thirty times as long
    on channels_last maps.
    """
    if x.is_cuda or len(x) > 1:
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0)
        return variance, mean
    _, mean, inverse_deviation = torch.native_batch_norm(x, None, None, None, None, True, 0.0, eps)
    return (inverse_deviation.pow(-2) - eps)[None], mean[None]


def _conv(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, stride: int = 1) -> nn.Conv2d:
    outputs, inputs, height, width = weight.shape
    conv: Any = nn.Conv2d(inputs, outputs, (height, width), stride, bias=bias is not None)
    conv.weight.data.copy_(weight.detach())
    if bias is not None and conv.bias is not None:
        conv.bias.data.copy_(bias.detach())
    conv = conv.requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)
    return conv  # type: ignore[no-any-return]


def _fill_border(padded: Tensor, reflect: bool) -> Tensor:
    """Fill a border of one: with the pixel one inside the edge (reflection) or the edge itself."""
    inner = 2 if reflect else 1
    for dim in (2, 3):
        size = padded.shape[dim]
        padded.select(dim, 0).copy_(padded.select(dim, inner))
        padded.select(dim, size - 1).copy_(padded.select(dim, size - 1 - inner))
    return padded


def _edge_pad(x: Tensor) -> Tensor:
    padded, middle = bordered(x, 1, torch.channels_last)
    middle.copy_(x)
    return _fill_border(padded, reflect=False)


def _reflect_blocks(padded: Tensor) -> Tensor:
    """Fill a border of two blocks with the reflection by four pixels: even pixels mirror about the edge
    block, odd ones about its inner edge.
    """
    n, c, h, w = padded.shape
    for dim in (2, 3):
        size = padded.shape[dim]
        for phase in (0, 1):
            # from the start: border block -1 - k holds even pixel 2k + 2 and odd pixel 2k + 1; from the end
            # the parities change roles
            for k in (0, 1):
                start, end = (3 + k, 2 + k)[phase], (size - 3 - k, size - 4 - k)[phase]
                for border, inside in ((1 - k, start), (size - 2 + k, end)):
                    _pixels(padded, dim, phase, border).copy_(_pixels(padded, dim, phase, inside))
    return padded


def _pixels(blocks: Tensor, dim: int, phase: int, at: int) -> Tensor:
    """A view of one row (dim 2) or column (dim 3) of blocks, those pixels
    only that are first (0) or second (1) along it.
    """
    channels = blocks.select(dim, at).unflatten(1, (-1, 2, 2))   # (N, C, i, j, length)
    return channels.select(dim, phase)


def _strided_weight(weight: Tensor) -> Tensor:
    """3x3 stride 2 (O, I) on pixels to 2x2 stride 1 (O, 4I) on blocks
    padded by one before: output y sees rows 2y-1, 2y, 2y+1.
    """
    outputs, inputs = weight.shape[:2]
    blocks = weight.new_zeros(outputs, inputs, 2, 2, 2, 2)
    for u in range(3):
        for v in range(3):
            blocks[:, :, (u + 1) % 2, (v + 1) % 2, (u + 1) // 2, (v + 1) // 2] = weight[:, :, u, v]
    return blocks.reshape(outputs, 4 * inputs, 2, 2)


def _upsampled_weight(weight: Tensor) -> Tensor:
    """3x3 (O, I) after nearest x2 to 3x3 (4O, I) before it: pixel (i, j) of the block sees low-resolution row
    (u + i - 1) // 2.
    """
    outputs, inputs = weight.shape[:2]
    blocks = weight.new_zeros(outputs, 2, 2, inputs, 3, 3)
    for i in range(2):
        for j in range(2):
            for u in range(3):
                for v in range(3):
                    blocks[:, i, j, :, (u + i - 1) // 2 + 1, (v + j - 1) // 2 + 1] += weight[:, :, u, v]
    return blocks.reshape(4 * outputs, inputs, 3, 3)

"""The transformer's exact rewrite for inference: the same function, several times the pictures per second.

Three things make the plain network slow on a CPU: 9x9 convolutions with three channels on one side, which fill three lanes of a
vector; reflection padding and upsampling, which copy large maps; and float32. Here

* the layers at full resolution run **at half resolution on 2x2 blocks** of pixels, four times the channels: the first 9x9 becomes 5x5
  from 12 to 4w channels, the last one 5x5 from 4w to 12, the strided 3x3 a 2x2, and normalisation pools its statistics over a block;
* a 3x3 after nearest upsampling becomes one 3x3 at the low resolution that gives a block at once;
* reflection padding becomes edge padding in blocks, done by slices;
* convolutions may run in bfloat16, with sums, statistics and the output in float32.

``Transformer`` in ``nets/transformer.py`` is the definition; the tests hold this one to it.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.transformer import NormalizedConv, ResidualBlock, Transformer, output_picture, reflect_pad


class FastTransformer(nn.Module):
    """Inference form of a ``Transformer``: faces (N, 3, H, W) in [0, 1] to stylized faces in [0, 1], H and W multiples of 4."""

    def __init__(self, net: Transformer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        first, second, third = cast(list[NormalizedConv], list(net.down))
        self.first = _BlockConv(_block_weight(first.conv.weight), first, dtype)
        self.second = _BlockConv(_strided_weight(second.conv.weight), second, dtype)
        self.third = _BlockConv(third.conv.weight, third, dtype)
        self.blocks = nn.ModuleList(_FastResidual(cast(ResidualBlock, block), dtype) for block in net.blocks)
        up, last_up = cast(list[NormalizedConv], list(net.up))
        self.up = _BlockConv(_upsampled_weight(up.conv.weight), up, dtype)
        self.last_up = _BlockConv(_upsampled_weight(last_up.conv.weight), last_up, dtype)
        self.last = _conv(_block_weight(net.last.weight), cast(Tensor, net.last.bias).repeat_interleave(4), dtype)

    @torch.inference_mode()
    def forward(self, faces: Tensor) -> Tensor:
        x = _to_blocks(reflect_pad(2 * faces - 1, 4)).to(self.dtype).contiguous(memory_format=torch.channels_last)   # (N, 12, H/2+4, W/2+4)
        x = self.first(x)                                                  # (N, 4w, H/2, W/2): blocks of w channels
        x = self.second(_pad(x, 1, 0))                                     # (N, 2w, H/2, W/2)
        x = self.third(reflect_pad(x, 1))                                     # (N, 4w, H/4, W/4)
        for block in self.blocks:
            x = block(x)
        x = F.pixel_shuffle(self.up(_pad(x, 1, 1)), 2)                     # (N, 2w, H/2, W/2)
        x = self.last_up(_pad(x.contiguous(memory_format=torch.channels_last), 1, 1))   # (N, 4w, H/2, W/2): blocks again
        return output_picture(F.pixel_shuffle(self.last(_reflect_blocks(x)), 2)).clamp_(0, 1)


class _BlockConv(nn.Module):
    """Convolution, instance normalisation pooled over the pixels of a block, ReLU."""

    def __init__(self, weight: Tensor, source: NormalizedConv, dtype: torch.dtype) -> None:
        super().__init__()
        self.pixels = weight.shape[0] // source.norm.num_features   # pixels in a block: 1 or 4
        self.conv = _conv(weight, None, dtype, stride=2 if weight.shape[2:] == (3, 3) and source.conv.stride == (2, 2) else 1)
        self.norm = _Norm(source.norm, self.pixels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu_()


class _FastResidual(nn.Module):
    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = _BlockConv(block.first.conv.weight, block.first, dtype)
        self.second = _conv(block.second.weight, None, dtype)
        self.norm = _Norm(block.norm, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.second(reflect_pad(self.first(reflect_pad(x, 1)), 1))).add_(x)


class _Norm(nn.Module):
    """Instance normalisation in which ``pixels`` neighbouring channels are pixels of one block. A bias before it has no effect and is left out."""

    def __init__(self, norm: nn.InstanceNorm2d, pixels: int) -> None:
        super().__init__()
        self.pixels, self.eps = pixels, norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)   # (N, C)
        variance, mean = variance.float(), mean.float()
        if self.pixels > 1:
            means = mean.view(n, -1, self.pixels)
            mean = means.mean(2, keepdim=True)
            variance = (variance.view(n, -1, self.pixels) + (means - mean).square()).mean(2)
            mean = mean.squeeze(2)
        scale = self.weight * torch.rsqrt(variance + self.eps)   # (N, C / pixels)
        shift = self.bias - mean * scale
        scale, shift = (value.repeat_interleave(self.pixels, 1).view(n, c, 1, 1).to(x.dtype) for value in (scale, shift))
        return torch.addcmul(shift, x, scale)


def _conv(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], stride, bias=bias is not None)  # type: ignore[arg-type]
    conv.weight.data.copy_(weight.detach())
    if bias is not None and conv.bias is not None:
        conv.bias.data.copy_(bias.detach())
    return conv.requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _to_blocks(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 4C, H/2, W/2); channel 4c + 2i + j is row i, column j of the block."""
    return F.pixel_unshuffle(x, 2)


def _block_weight(weight: Tensor) -> Tensor:
    """9x9 (O, I) on pixels to 5x5 (4O, 4I) on blocks, for maps padded by four pixels, two blocks.

    Output pixel (i, j) of a block sees pixel (u, v) of the 10x10 around it through tap (u - i, v - j).
    """
    outputs, inputs, taps, _ = weight.shape
    size = (taps + 1) // 2
    blocks = weight.new_zeros(outputs, 2, 2, inputs, 2, 2, size, size)
    for i in range(2):
        for j in range(2):
            for u in range(2 * size):
                for v in range(2 * size):
                    if 0 <= u - i < taps and 0 <= v - j < taps:
                        blocks[:, i, j, :, u % 2, v % 2, u // 2, v // 2] = weight[:, :, u - i, v - j]
    return blocks.reshape(4 * outputs, 4 * inputs, size, size)


def _strided_weight(weight: Tensor) -> Tensor:
    """3x3 stride 2 (O, I) on pixels to 2x2 stride 1 (O, 4I) on blocks padded by one before: output y sees rows 2y-1, 2y, 2y+1."""
    outputs, inputs = weight.shape[:2]
    blocks = weight.new_zeros(outputs, inputs, 2, 2, 2, 2)
    for u in range(3):
        for v in range(3):
            blocks[:, :, (u + 1) % 2, (v + 1) % 2, (u + 1) // 2, (v + 1) // 2] = weight[:, :, u, v]
    return blocks.reshape(outputs, 4 * inputs, 2, 2)


def _upsampled_weight(weight: Tensor) -> Tensor:
    """3x3 (O, I) after nearest x2 to 3x3 (4O, I) before it: pixel (i, j) of the block sees low-resolution row (u + i - 1) // 2."""
    outputs, inputs = weight.shape[:2]
    blocks = weight.new_zeros(outputs, 2, 2, inputs, 3, 3)
    for i in range(2):
        for j in range(2):
            for u in range(3):
                for v in range(3):
                    blocks[:, i, j, :, (u + i - 1) // 2 + 1, (v + j - 1) // 2 + 1] += weight[:, :, u, v]
    return blocks.reshape(4 * outputs, inputs, 3, 3)


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """Edge padding by one, before and (or) after: what reflection by one pixel is in blocks and before nearest upsampling."""
    parts = [x[:, :, :1]] * before + [x] + [x[:, :, -1:]] * after
    x = torch.cat(parts, 2)
    parts = [x[..., :1]] * before + [x] + [x[..., -1:]] * after
    return torch.cat(parts, 3)


def _reflect_blocks(x: Tensor) -> Tensor:
    """Reflection by four pixels of (N, 4C, h, w) blocks: two blocks a side, in which even pixels mirror about the edge block and odd ones about its edge."""
    return _reflect_rows(_reflect_rows(x, 2), 3)


def _reflect_rows(x: Tensor, dim: int) -> Tensor:
    n, c, h, w = x.shape
    pixels = x.view(n, c // 4, 2, 2, h, w)   # (N, C, i, j, h, w)
    phase = dim   # i is dimension 2, j is dimension 3
    even, odd = pixels.unbind(phase)          # (N, C, 2, h, w)

    def take(source: Tensor, *rows: int) -> Tensor:
        return torch.stack([source.select(dim + 1, row) for row in rows], dim + 1)

    size = x.shape[dim]
    before = torch.stack([take(even, 2, 1), take(odd, 1, 0)], phase)
    after = torch.stack([take(even, size - 1, size - 2), take(odd, size - 2, size - 3)], phase)
    flat = [part.reshape(n, c, *part.shape[-2:]) for part in (before, after)]
    return torch.cat([flat[0], x, flat[1]], dim)

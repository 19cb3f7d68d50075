"""SRN with fewer operations: the same layers, weights and names as ``network.py``, and the same function up
to rounding.

* a convolution that follows a doubling is computed before it (``nets/upsampled.py``): 3.6 in place of 8.6 G
  multiply-adds;
* a pool goes before the LeakyReLU it follows, which is the same with a quarter of the work;
* d7 and d8 work on 2x2 blocks of pixels, so that 64 channels at 128x128 are never laid out as a picture;
* for use, batch normalisation is folded into the convolutions.
"""

import copy
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ifrp_bench.methods import to_unit
from ifrp_bench.methods.ifrp.network import SLOPE, SRN, Decode, Encode
from ifrp_bench.nets.blocks import block_kernel
from ifrp_bench.nets.stn import SpatialTransformer
from ifrp_bench.nets.upsampled import RewrittenConv, UpsampledConv, interleave, pixels_first
from ifrp_bench.nets.winograd import Conv2d


class FastEncode(Encode):
    """e1..e6; where no STN stands, the pool goes first."""

    def without_stn(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.leaky_relu(F.max_pool2d(x, 2) if self.pools else x, SLOPE)


class FastDecode(Decode):
    """d1..d7; a convolution that follows a doubling is computed before it."""

    @staticmethod
    def convolution(inputs: int, outputs: int, size: int, doubles: bool) -> nn.Conv2d:
        """One that keeps the size, or doubles it first."""
        return (
            UpsampledConv(inputs, outputs, size)
            if doubles
            else Conv2d(inputs, outputs, size, padding=size // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(inlet(x, self.stn))))   # d2 of a code of 4x4 places keeps the size


def inlet(x: Tensor, stn: SpatialTransformer | None) -> Tensor:
    """What an STN in the decoder does before a layer: it stands behind the doubling."""
    return x if stn is None else stn(F.interpolate(x, scale_factor=2, mode="nearest"))


class BlockConv(RewrittenConv):
    """A 5x5 convolution as a 3x3 on 2x2 blocks of pixels, whose outputs ``interleave`` puts together."""

    def forward(self, blocks: Tensor) -> Tensor:
        return F.conv2d(blocks, *self.kernels(), padding=1)

    def rewritten(self) -> tuple[Tensor, Tensor]:
        """Weight (4 * outputs, 4 * inputs, 3, 3) and bias."""
        assert self.bias is not None
        return pixels_first(block_kernel(self.weight)), self.bias.repeat(4)


class FastSRN(SRN):
    """The network that is trained and used; ``SRN`` with its weights returns the same faces."""

    encode = FastEncode
    decode = FastDecode

    @staticmethod
    def last_layer(channels: int) -> nn.Conv2d:
        """d8, on blocks."""
        return BlockConv(channels, 3, 5)

    def forward(self, stylized: Tensor) -> Tensor:
        # d7 and d8 belong together: see ``last``
        code, _, passed = self.bottleneck(stylized)
        return self.last(self.decoded(code, passed, 1, 6))

    def last(self, x: Tensor) -> Tensor:
        """d7 and d8 in 2x2 blocks."""
        # d7 gives the four pixels of a block as channels: 64 channels at 128x128 as 256 at 64x64
        layer = self.layer(7)
        blocks = cast(UpsampledConv, layer.conv).blocks(x)   # (N, 4 * 64, 64, 64)
        n, _, h, w = blocks.shape
        # a view: normalisation knows no places
        wide = blocks.permute(0, 2, 3, 1).reshape(n, h, 4 * w, -1).permute(0, 3, 1, 2)

        # normalised as 64 channels, then d8 on blocks
        wide = F.relu(layer.norm(wide))
        blocks = wide.permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)
        return interleave(self.d8(blocks))


def folded(srn: FastSRN) -> FastSRN:
    """A frozen copy for inference: batch normalisation folded into the
    convolutions, rewritten kernels computed once.
    """
    # running statistics become part of the weights
    fast = copy.deepcopy(srn).eval().requires_grad_(False)
    for layer in cast(list[Encode | Decode], [*fast.encoder.values(), *fast.decoder.values()]):
        layer.conv = fuse_conv_bn_eval(layer.conv, cast(nn.BatchNorm2d, layer.norm))
        layer.norm = nn.Identity()

    # kernels of rewritten convolutions are put together once, not at every pass
    for module in fast.modules():
        if isinstance(module, RewrittenConv):
            module.freeze()
    return fast.requires_grad_(False)


class Destylizer(nn.Module):
    """An SRN for use: faces (N, 3, 128, 128) in [0, 1] to recovered faces in [0, 1], clamped."""

    def __init__(self, srn: FastSRN) -> None:
        super().__init__()
        self.srn = folded(srn)
        self.eval()

    def forward(self, stylized: Tensor) -> Tensor:
        return to_unit(self.srn(2 * stylized - 1).float())

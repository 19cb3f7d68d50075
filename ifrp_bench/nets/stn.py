"""Spatial transformer networks (Jaderberg et al. 2015) as IFRP places them: a small localisation net looks at
a feature map and turns, scales and shifts it. The tables of its convolutions are those of the paper's
supplement.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.warp import WINDOW_PX
from ifrp_bench.nets.winograd import Conv2d

# by the feature map that the STN stands on, (channels, size px): outputs of the convolutions that a pool
# follows; one more gives 20
LOCALISATION = {
    (32, 64): (64, 128, 256, 20),   # STN1
    (64, 32): (128, 256, 20),   # STN2
    (128, 8): (20,),   # the released network's decoder STN
    (128, 16): (256, 20),   # STN3
    (64, 32, "decoder"): (64, 128, 256),   # STN4
}
LAST = 20   # channels of the last convolution and width of the hidden layer
IDENTITY = (0.0, 1.0, 0.0, 0.0)   # angle in radians, scale, shifts in half-sides
JITTER_OF_SHIFTS = 1.5   # against that of the other entries of a map
LEGACY = (1.0, 1.0, 0.0, 0.0)   # the release's bias: in this order a rotation of 57 degrees


class SpatialTransformer(nn.Module):
    """Turns, scales and shifts (N, C, S, S) features by four numbers that it reads off them; the same shape
    comes out.

    Localisation: 3x3 convolutions with ReLU and max-pooling, one 3x3 convolution without padding (4x4 to
    2x2), two linear layers. It starts as the identity (``legacy_bias``: as the release does). Pictures of the
    supplementary tables 3 to 6.
    """

    def __init__(self, channels: int, convs: tuple[int, ...], *, legacy_bias: bool = False) -> None:
        super().__init__()
        widths = (channels, *convs)
        self.convs = nn.ModuleList(
            Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in zip(widths, widths[1:])
        )
        self.last = nn.Conv2d(widths[-1], LAST, 3)
        self.hidden = nn.Linear(LAST * 4, LAST)
        self.out = nn.Linear(LAST, 4)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor(LEGACY if legacy_bias else IDENTITY))

    def parameters_of(self, x: Tensor) -> Tensor:
        """(N, 4) float32: angle in radians, scale, and two shifts in half-sides of the map."""
        for conv in self.convs:
            x = F.relu(F.max_pool2d(conv(x), 2))   # the pool first: the same, a quarter of the ReLU
        x = F.relu(self.last(x)).contiguous().flatten(1)   # (N, 80)
        # a bf16 coordinate moves in steps of a quarter of a pixel
        with torch.autocast(x.device.type, enabled=False):
            return self.out(F.relu(self.hidden(x.float())))

    def forward(self, x: Tensor) -> Tensor:
        return transform(x, matrices(self.parameters_of(x)))


def matrices(parameters: Tensor) -> Tensor:
    """(N, 4) angle, scale, shift, shift to (N, 2, 3): rotation * scale *
    translation, output to input, coordinates in [-1, 1].
    """
    angle, scale, right, down = parameters.unbind(1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cos, -sin, cos * right - sin * down, sin, cos, sin * right + cos * down], 1).view(
        -1, 2, 3
    )


def frame_maps(parameters: Tensor) -> Tensor:
    """(N, 4) angle (radians), scale, shift, shift (half-sides) to (N, 2, 3): a similarity of the 107x133
    window in coordinates in [-1, 1].
    """
    angle, scale, right, down = parameters.unbind(1)
    cos, sin = scale * angle.cos(), scale * angle.sin()

    # the window is resized to a square: what is a rotation in the frame is sheared by its aspect here
    aspect = WINDOW_PX[3] / WINDOW_PX[2]
    return torch.stack([cos, sin * aspect, right, -sin / aspect, cos, down], 1).view(-1, 2, 3)


def nearest_similarity(maps: Tensor) -> Tensor:
    """The (N, 2, 3) maps that an STN can make (``matrices``) nearest to (N, 2, 3) maps: these are sheared
    where they turn a window that is not square, and what shears is left out.
    """
    same = (maps[:, 0, 0] + maps[:, 1, 1]) / 2   # scale * cos
    other = (maps[:, 1, 0] - maps[:, 0, 1]) / 2   # scale * sin
    linear = torch.stack([same, -other, other, same], 1).view(-1, 2, 2)
    return torch.cat([linear, maps[:, :, 2:]], 2)


def jittered(maps: Tensor, spread: float) -> Tensor:
    """(N, 2, 3) maps with noise of so many half-sides on them, as a network that finds them is off; drawn
    from torch's generator.
    """
    noise = torch.randn(maps.shape) * torch.tensor([1.0, 1.0, JITTER_OF_SHIFTS])
    return maps + spread * noise.to(maps.device)


def misplacement(matrix: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared distance, in half-sides, between where two (N, 2, 3)
    maps take the points of the square [-1, 1]^2.
    """
    difference = matrix - wanted
    # 1/3: the mean of x^2 in [-1, 1]
    return (difference[:, :, :2].square().sum((1, 2)) / 3 + difference[:, :, 2].square().sum(1)).mean()


def composed(first: Tensor, then: Tensor) -> Tensor:
    """The (N, 2, 3) map of what is resampled twice: ``transform(transform(x, first), then)`` is
    ``transform(x, composed(first, then))`` but for what the first resampling lost. In float32.
    """
    with torch.autocast(first.device.type, enabled=False):
        linear, shift = first[:, :, :2].float(), first[:, :, 2:].float()
        moved = linear @ then.float()
        return torch.cat([moved[:, :, :2], moved[:, :, 2:] + shift], 2)


def inverse(matrix: Tensor) -> Tensor:
    """The (N, 2, 3) maps that undo (N, 2, 3) maps."""
    last = matrix.new_tensor([0.0, 0.0, 1.0]).expand(len(matrix), 1, 3)
    # without a check, which a GPU would have to be waited for
    return torch.linalg.inv_ex(torch.cat([matrix, last], 1))[0][:, :2]


def transform(x: Tensor, matrix: Tensor, outside: str = "zeros") -> Tensor:
    """Bilinear sampling of (N, C, H, W) at ``matrix`` (N, 2, 3), corners aligned; ``outside`` zeros or, as
    "border", the nearest value.

    Grids in float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(matrix.float(), list(x.shape), align_corners=True)
        return F.grid_sample(x.float(), grid, padding_mode=outside, align_corners=True).to(x.dtype)

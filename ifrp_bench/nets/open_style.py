"""Stylizes with any picture: a style network whose instance normalisation is told the style (Dumoulin,
Shlens and Kudlur 2017), by a second network that reads it off the style's features (Ghiasi et al. 2017).

What is known of a style are mean and spread of each channel at three layers of the embedded narrow VGG, 800
numbers, so hundreds of styles fit into a megabyte; mixtures of them are styles too.
``making/open_styles.py`` trains the networks and fills the bank.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.transformer import NormalizedConv, ResidualBlock, Transformer, output_picture
from ifrp_bench.nets.vgg import Features

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
WIDTH = 16   # of the style network, as of the paper's eight
HIDDEN = 256   # of the network that reads a style
EPS = 1e-5   # added to variances


def statistics(features: Tensor) -> Tensor:
    """Mean and standard deviation of every channel over the places, (N, 2, C) float32."""
    mean = features.mean((2, 3), dtype=torch.float32)
    # by mean squares: a variance over channels_last maps is many times slower on a CPU
    variance = features.float().square().mean((2, 3)) - mean.square()
    return torch.stack([mean, (variance.clamp_min(0) + EPS).sqrt()], 1)


def style_of(features: Features, pictures: Tensor) -> Tensor:
    """What is known of the style of pictures (N, 3, H, W) in [0, 1]: (N, K) float32."""
    found = features(pictures, LAYERS)
    return torch.cat([statistics(found[layer]).flatten(1) for layer in LAYERS], 1)


class OpenStylizer(nn.Module):
    """Faces (N, 3, H, W) in [0, 1] and styles (N, K) to stylized faces, which may leave the range while
    training; H and W are multiples of 4.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.transformer = Transformer(WIDTH)
        norms = [module for module in self.transformer.modules() if isinstance(module, nn.InstanceNorm2d)]
        self.sizes = [norm.num_features for norm in norms]
        for norm in norms:   # their scales and offsets are the style's
            norm.affine, norm.weight, norm.bias = False, None, None  # type: ignore[assignment]

        # a style's numbers, as they are spread over styles
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))
        self.read = nn.Linear(numbers, HIDDEN)
        self.tell = nn.Linear(HIDDEN, 2 * sum(self.sizes))
        nn.init.normal_(self.tell.weight, std=0.01)
        nn.init.zeros_(self.tell.bias)

    def forward(self, faces: Tensor, style: Tensor) -> Tensor:
        told = iter(self._told(style))
        x = 2 * faces - 1
        for layer in self.transformer.down:
            x = F.relu(normalized(cast(NormalizedConv, layer).conv(x), next(told)))
        for module in self.transformer.blocks:
            block = cast(ResidualBlock, module)
            inside = F.relu(normalized(block.first.conv(x), next(told)))
            x = x + normalized(block.second(inside), next(told))
        for layer in self.transformer.up:
            x = F.relu(normalized(cast(NormalizedConv, layer).conv.upsampled(x), next(told)))
        return output_picture(self.transformer.last(x))

    def _told(self, style: Tensor) -> list[Tensor]:
        """Scale and offset of each normalisation, (N, 2, C) each."""
        known = (style - self.mean) / self.spread
        told = self.tell(F.relu(self.read(known))).float()   # (N, 2 * sum of sizes)
        parts = told.split([2 * size for size in self.sizes], 1)
        return [part.view(len(part), 2, -1) for part in parts]


def normalized(x: Tensor, told: Tensor) -> Tensor:
    """Instance normalisation of (N, C, H, W) with a scale, less 1, and an offset of its own, (N, 2, C)."""
    mean, spread = statistics(x).unbind(1)
    scale = (1 + told[:, 0]) / spread
    offset = told[:, 1] - mean * scale
    return x * scale[:, :, None, None].to(x.dtype) + offset[:, :, None, None].to(x.dtype)


def stylizer_of(weights: Mapping[str, Tensor]) -> OpenStylizer:
    """The network with these weights, frozen, in float32."""
    network = OpenStylizer(len(weights["mean"]))
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)

"""The U-Net generator of pix2pix (Isola et al. 2017, Section 6.1.1) for 128x128 pictures: seven halvings, skip connections, dropout in the deep layers."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.patchgan import SLOPE, normal_weights

DOWN = (64, 128, 256, 512, 512, 512, 512)   # 64 px to 1 px
UP = (512, 512, 512, 256, 128, 64)   # 2 px to 64 px
DROPOUT = 0.5   # in the second and third upward layer, as the release has it for 128 px


class UNet(nn.Module):
    """Pictures (N, 3, 128, 128) in [-1, 1] to pictures in [-1, 1]. 41.8 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *DOWN)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip(inputs, DOWN))
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in DOWN[1:-1])   # none after the first and the last
        beside = (0, *DOWN[-2::-1])   # what the skip connections bring
        self.up = nn.ModuleList(nn.ConvTranspose2d(a + skip, b, 4, 2, 1, bias=False) for a, skip, b in zip((DOWN[-1], *UP), beside, UP))
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in UP)
        self.last = nn.ConvTranspose2d(UP[-1] + DOWN[0], 3, 4, 2, 1)
        self.apply(partial(normal_weights, spread=0.02))

    def forward(self, pictures: Tensor) -> Tensor:
        skips = [self.down[0](pictures)]
        for number, conv in enumerate(self.down[1:]):
            x = conv(F.leaky_relu(skips[-1], SLOPE))
            skips.append(self.down_norms[number](x) if number < len(self.down_norms) else x)
        x = skips.pop()
        for number, (conv, norm) in enumerate(zip(self.up, self.up_norms)):
            x = norm(conv(F.relu(x)))
            if number in (1, 2):
                x = F.dropout(x, DROPOUT, self.training)
            x = torch.cat([x, skips.pop()], 1)
        return torch.tanh(self.last(F.relu(x)).float())

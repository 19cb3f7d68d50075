"""The 70x70 PatchGAN discriminator of pix2pix (Isola et al. 2017, Section 6.1.2) and CycleGAN (Zhu et al.
2017), and the losses and weights that go with it.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.winograd import Conv2d

WIDTHS = (64, 128, 256, 512)
SLOPE = 0.2


class PatchGAN(nn.Module):
    """Pictures (N, inputs, H, W) in [-1, 1] to a logit for every patch of 70x70 px, (N, 1, H/8 - 2, W/8 - 2).

    C64-C128-C256-C512, 4x4 convolutions, stride 2 but for the last two; no normalisation after the first.
    2.77 M parameters. ``instance`` takes instance normalisation in place of batch normalisation.
    """

    def __init__(self, inputs: int, *, instance: bool = False) -> None:
        super().__init__()
        norm = nn.InstanceNorm2d if instance else nn.BatchNorm2d
        layers: list[nn.Module] = [nn.Conv2d(inputs, WIDTHS[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for before, width in zip(WIDTHS, WIDTHS[1:]):
            layers += [
                Conv2d(before, width, 4, 1 if width == WIDTHS[-1] else 2, 1, bias=instance),
                norm(width),
                nn.LeakyReLU(SLOPE),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 4, 1, 1))
        self.apply(partial(normal_weights, spread=0.02))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)   # type: ignore[no-any-return]


def normal_weights(layer: nn.Module, spread: float) -> None:
    """Weights of convolutions from N(0, spread^2), of normalisations from
    N(1, spread^2), biases 0 (both papers, spread 0.02).
    """
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, spread)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, spread)
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.bias)   # type: ignore[arg-type]


def cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of logits against "real" or "made" (Goodfellow et al. 2014), averaged."""
    return F.softplus(-logits if real else logits).mean()


def least_squares(scores: Tensor, real: bool) -> Tensor:
    """Squared distance of scores to 1 for real, 0 for made (Mao et al. 2017), averaged."""
    return (scores - float(real)).square().mean()


def hinge(scores: Tensor, real: bool) -> Tensor:
    """Of a discriminator: how far scores are from beyond +1 for
    real, -1 for made (Lim and Ye 2017), averaged.
    """
    return F.relu(1 - scores if real else 1 + scores).mean()


def linear_decay(part: float, constant: float = 0.5) -> float:
    """1 for the first ``constant`` of a training, then along a line to 0 at its end."""
    return min(1.0, (1 - part) / (1 - constant))

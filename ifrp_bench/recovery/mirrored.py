"""Both sides of a face: a method recovers an SF and its mirror image, and the face is the mean of the two.

What ``NAME+`` stands for wherever a run is named: the flip alone of the geometric self-ensemble (Lim et al.
2017, section 3.4, who write EDSR+). A face's mirror image is a face, and trainings mirror half of their
pairs, but no network answers both alike: what they say that is not the person's cancels. It takes twice the
time in batches; alone a face takes once and a half as long.
"""

import torch
from torch import Tensor, nn

from ifrp_bench.methods import Usable


class Mirrored:
    """A method for use on both sides of each face."""

    def __init__(self, method: Usable) -> None:
        self.method = method

    @property
    def network(self) -> nn.Module | None:
        """The method's own: there are no weights beside."""
        return self.method.network

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces (N, 3, H, W) in [0, 1]; of an SF's mirror image they are the mirror image."""
        return _mean(self.method.recover(_both(stylized), None if real is None else _both(real)))


class OnBothSides(nn.Module):
    """A module, faces to faces, on both sides of each: what is exported."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, stylized: Tensor) -> Tensor:
        return _mean(self.module(_both(stylized)))


def _both(faces: Tensor) -> Tensor:
    """(N, C, H, W) and behind them their mirror images, (2 N, C, H, W)."""
    return torch.cat([faces, faces.flip(3)])


def _mean(both: Tensor) -> Tensor:
    """Of faces and those behind them, turned back."""
    sides = both.unflatten(0, (2, -1))   # (2, N, C, H, W)
    return (sides[0] + sides[1].flip(3)) / 2

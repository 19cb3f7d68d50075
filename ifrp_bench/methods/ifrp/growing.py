"""Growing an SRN from 32x32 over 64x64 to 128x128, an option of this project: most steps at a fraction of the
cost.

While it grows, light heads (one convolution) give faces where d5 and d6 would go on; the network in the end
is the published one.
"""

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.methods import Stage
from ifrp_bench.methods.ifrp.fast import FastDecode, FastSRN, inlet

STAGES_PX = (32, 64, 128)   # output sizes
PARTS = 100   # of a training, each in one stage, for an estimate


class Growth(Protocol):
    """The settings of growing: the parts of the steps at 32x32 and 64x64, the part of a stage in which it is
    blended in, and the part of the steps in which the STNs stand aside.
    """

    @property
    def grow_32(self) -> float:
        """0 to 1."""
        ...

    @property
    def grow_64(self) -> float:
        """0 to 1."""
        ...

    @property
    def blend(self) -> float:
        """0 to 1."""
        ...

    @property
    def apart(self) -> float:
        """0 to 1."""
        ...


def stage_at(growth: Growth, part: float) -> tuple[int, float | None]:
    """The size of the faces, px, when ``part`` (0 to 1) of a training is done.

    And the share of the newest stage while it is blended in, None before and after.
    """
    # which stage this part of the training lies in, and where it began
    ends = (growth.grow_32, growth.grow_32 + growth.grow_64, 1.0)
    number = next(n for n, end in enumerate(ends) if part < end)
    begin = ends[number - 1] if number else 0.0

    # the first stage has nothing to be blended with
    length = ends[number] - begin
    blended = (part - begin) / (growth.blend * length) if growth.blend else 1.0
    return STAGES_PX[number], blended if begin and blended < 1 else None


def stages(growth: Growth, steps: int) -> list[Stage]:
    """The stages of a training of so many steps: a step in the middle of each, and its share of all."""
    # a hundred steps spread over the training, by the size that each works at and whether STNs stand aside
    places: dict[tuple[int, bool], list[int]] = {}
    for number in range(PARTS):
        done = number * steps // PARTS
        px, _ = stage_at(growth, done / steps)
        places.setdefault((px, done / steps < growth.apart), []).append(done)
    return [Stage(middle=at[len(at) // 2], share=len(at) / PARTS) for at in places.values()]


class Grown(nn.Module):
    """An SRN that can end early, with a head for 32x32 and one for 64x64."""

    def __init__(self, srn: FastSRN) -> None:
        super().__init__()
        self.srn = srn
        self.heads = nn.ModuleDict()
        for px, number in ((32, 5), (64, 6)):
            layer = srn.layer(number)
            self.heads[str(px)] = FastDecode.convolution(layer.conv.in_channels, 3, 3, layer.stn is None)

    def forward(
        self, stylized: Tensor, px: int, share: Tensor | None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Recovered faces (N, 3, px, px), and STN1's four numbers.

        With ``share`` (0 to 1) only so much of the newest stage, the rest from the one before, doubled. Maps
        that are ``told``, (N, 2, 3), stand in for the encoder's STNs.
        """
        srn = self.srn
        code, parameters, passed = srn.bottleneck(stylized, told)

        # features where each stage ends, as far as this one goes
        ends = {32: srn.decoded(code, passed, 1, 4)}
        if px > 32:
            ends[64] = srn.decoded(ends[32], passed, 5, 5)
        if px == 128:
            ends[128] = srn.decoded(ends[64], passed, 6, 6)

        # the newest stage, blended with the one before where asked for
        recovered = self.end(ends[px], px)
        if share is None or px == 32:
            return recovered, parameters
        before = F.interpolate(self.end(ends[px // 2], px // 2).float(), scale_factor=2, mode="bilinear")
        return before + share * (recovered.float() - before), parameters

    def end(self, x: Tensor, px: int) -> Tensor:
        """The picture that a stage's features give."""
        if px == 128:
            return self.srn.last(x)
        layer = self.srn.layer(5 if px == 32 else 6)
        return self.heads[str(px)](inlet(x, layer.stn))   # type: ignore[no-any-return]

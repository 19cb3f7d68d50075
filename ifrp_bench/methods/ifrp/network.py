"""IFRP's networks as published: the style removal network (SRN) and the discriminative network (DN), readable
beside their tables.

The tables are those of the paper and, where it is silent, of the authors' later public release; "inferred"
marks what neither says. ``fast.py`` computes the same function of SRN with fewer operations; it is what is
trained and used. Faces are in [-1, 1].
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.nets.stn import LOCALISATION, SpatialTransformer, matrices, transform
from ifrp_bench.nets.winograd import Conv2d

SLOPE = 0.2   # of LeakyReLU, in SRN's encoder and DN [release]
# channels, kernel of e1..e6; a 2x2 max-pool after each
ENCODER = ((16, 5), (32, 5), (64, 3), (128, 3), (256, 1), (512, 1))
ASIDE = 4   # of so many faces STN1 reads one, where it is told the maps
ENCODER_STNS = {"e2": (32, 64), "e3": (64, 32)}   # STN1 and STN2, by key of LOCALISATION

# channels and kernels of d1..d7, and the STNs after the upsampling that follows a layer
Decoder = tuple[tuple[tuple[int, int], ...], dict[str, Any]]
DECODERS: dict[str, Decoder] = {
    "srn-3stn": (   # the released network
        ((256, 1), (128, 3), (64, 3), (512, 3), (256, 3), (128, 5), (64, 5)),
        {"d2": (128, 8)},
    ),
    "srn-4stn": (   # the paper's four STNs; their places are inferred
        ((256, 1), (256, 3), (128, 3), (64, 3), (256, 3), (128, 5), (64, 5)),
        {"d3": (128, 16), "d4": (64, 32, "decoder")},
    ),
}
# srn-2stn and srn-0stn: srn-3stn without its decoder STN, and without any; two are ours: srn-4x4, srn-3stn
# with a code of 4x4 places in place of 2x2, and srn-skips, srn-2stn whose encoder passes on its maps
NETWORKS = ("srn-3stn", "srn-4stn", "srn-2stn", "srn-0stn", "srn-4x4", "srn-skips")
# of srn-skips: the layer of the decoder, and whose maps come in beside what it doubles. These lie behind
# STN1, and the decoder has no STN, which would move what it was given and not what is passed on
SKIPS = {3: "e5", 4: "e4", 5: "e3", 6: "e2"}


class Encode(nn.Module):
    """e1..e6: convolution, batch normalisation, LeakyReLU, an STN where one stands, 2x2 max-pooling."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stn: SpatialTransformer | None, *, pools: bool = True
    ) -> None:
        super().__init__()
        self.conv = Conv2d(inputs, outputs, size, padding=size // 2)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.stn, self.pools = stn, pools

    def forward(self, x: Tensor, told: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features, and the four numbers that the STN read off them.

        ``told`` (N, 2, 3) are maps that stand in for the STN's, which reads the first faces alone: a part of
        a batch suffices to teach it.
        """
        if self.stn is None:
            return self.without_stn(x), None
        x = F.leaky_relu(self.norm(self.conv(x)), SLOPE)
        parameters = self.stn.parameters_of(x if told is None else x[: math.ceil(len(x) / ASIDE)])
        return F.max_pool2d(transform(x, matrices(parameters) if told is None else told), 2), parameters

    def without_stn(self, x: Tensor) -> Tensor:
        """Features as they lie."""
        x = F.leaky_relu(self.norm(self.conv(x)), SLOPE)
        return F.max_pool2d(x, 2) if self.pools else x


class Decode(nn.Module):
    """d1..d7: doubling in size (but before d1), an STN where one
    stands, convolution, batch normalisation, ReLU.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, stn: SpatialTransformer | None, *, doubles: bool
    ) -> None:
        super().__init__()
        self.doubles = doubles
        self.stn = stn
        self.conv = self.convolution(inputs, outputs, size, doubles and stn is None)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    @staticmethod
    def convolution(inputs: int, outputs: int, size: int, doubles: bool) -> nn.Conv2d:
        """The layer's convolution; ``doubles`` says that nothing
        stands between it and the doubling before it.
        """
        return Conv2d(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.doubles:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.stn is not None:
            x = self.stn(x)
        return F.relu(self.norm(self.conv(x)))


class SRN(nn.Module):
    """Style removal network: stylized faces (N, 3, 128, 128) in [-1, 1] to recovered ones, linear at the end,
    so they may leave it.

    8.36 M parameters as ``srn-3stn``. Layers are named as in the tables: e1..e6, fc, d1..d8.
    """

    encode: type[Encode] = Encode
    decode: type[Decode] = Decode

    def __init__(self, network: str = "srn-3stn", *, legacy_stn_bias: bool = False) -> None:
        super().__init__()
        layers, decoder_stns = DECODERS.get(network, DECODERS["srn-3stn"])
        encoder_stns = {} if network == "srn-0stn" else ENCODER_STNS
        decoder_stns = decoder_stns if network in ("srn-3stn", "srn-4stn", "srn-4x4") else {}
        self.skips = SKIPS if network == "srn-skips" else {}

        def stn(key: tuple[Any, ...] | None) -> SpatialTransformer | None:
            if key is None:
                return None
            convs = LOCALISATION[key]  # type: ignore[index]
            return SpatialTransformer(key[0], convs, legacy_bias=legacy_stn_bias)

        # e1..e6: each halves the picture, from 128x128 to 2x2; for a code of 4x4 places the last one does not
        wide = network == "srn-4x4"
        self.encoder = nn.ModuleDict()
        channels, passed = 3, {}
        for number, (outputs, size) in enumerate(ENCODER, 1):
            name = f"e{number}"
            pools = number < len(ENCODER) or not wide
            before = stn(encoder_stns.get(name))
            self.encoder[name] = self.encode(channels, outputs, size, before, pools=pools)
            passed[name] = channels = outputs
        # 512 channels at 2x2; at 4x4, place by place, since a linear layer over all would have 67 M weights
        self.fc: nn.Module = (
            nn.Conv2d(channels, channels, 1) if wide else nn.Linear(4 * channels, 4 * channels)
        )

        # d1..d7: each but the first doubles it (of 4x4 places: but the first two), back to 128x128; d8 gives
        # the colours
        first = 3 if wide else 2
        self.decoder = nn.ModuleDict()
        for number, (outputs, size) in enumerate(layers, 1):
            before = stn(decoder_stns.get(f"d{number - 1}"))
            doubles = number >= first
            if number in self.skips:
                channels += passed[self.skips[number]]
            self.decoder[f"d{number}"] = self.decode(channels, outputs, size, before, doubles=doubles)
            channels = outputs
        self.d8 = self.last_layer(channels)

    @staticmethod
    def last_layer(channels: int) -> nn.Conv2d:
        """d8: 5x5 to three channels, no normalisation, no activation."""
        return nn.Conv2d(channels, 3, 5, padding=2)

    def forward(self, stylized: Tensor) -> Tensor:
        code, _, passed = self.bottleneck(stylized)
        return self.d8(self.decoded(code, passed, 1, 7))   # type: ignore[no-any-return]

    def bottleneck(
        self, stylized: Tensor, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, dict[int, Tensor]]:
        """(N, 512, 2, 2) or (N, 512, 4, 4), what is known of the face; how STN1 turned, scaled and shifted
        it, (N, 4); and the maps that are passed on, by the layer of the decoder that they are for.

        Where it is ``told`` how (N, 2, 3), STN1 reads a part of the faces and STN2 stays out.
        """
        x, found, maps = stylized, None, {}
        for name, layer in cast(dict[str, Encode], self.encoder).items():
            if told is not None and found is not None:
                x = layer.without_stn(x)
            else:
                x, parameters = layer(x, told)
                found = parameters if found is None else found
            maps[name] = x
        passed = {number: maps[name] for number, name in self.skips.items()}
        if isinstance(self.fc, nn.Conv2d):
            return self.fc(x), found, passed
        return self.fc(x.contiguous().flatten(1)).view(x.shape), found, passed

    def decoded(self, x: Tensor, passed: dict[int, Tensor], first: int, last: int) -> Tensor:
        """Through the layers d``first`` to d``last``: what the layer after them is given."""
        for number in range(first, last + 1):
            x = self.layer(number)(x)
            if number + 1 in passed:
                x = torch.cat([x, passed[number + 1]], 1)
        return x

    def layer(self, number: int) -> Decode:
        """d1 to d7."""
        return cast(Decode, self.decoder[f"d{number}"])


class DN(nn.Module):
    """Discriminative network: faces (N, 3, 128, 128) in [-1, 1] to logits
    (N,), above 0 for "real" [release]. 6.66 M parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        table = ((3, 32, 5), (32, 64, 5), (64, 128, 5), (128, 96, 3))   # inputs, outputs, kernel
        self.convs = nn.ModuleList(
            Conv2d(inputs, outputs, size, padding=size // 2) for inputs, outputs, size in table
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs, _ in table)
        self.hidden = nn.Linear(96 * 8 * 8, 1024)
        self.out = nn.Linear(1024, 1)

    def forward(self, faces: Tensor) -> Tensor:
        # four halvings, to 8x8
        x = faces
        for conv, norm in zip(self.convs, self.norms):
            x = F.leaky_relu(norm(F.max_pool2d(conv(x), 2)), SLOPE)

        # one number a face
        x = F.leaky_relu(self.hidden(x.contiguous().flatten(1)), SLOPE)   # (N, 1024)
        return self.out(x).flatten()   # (N,)

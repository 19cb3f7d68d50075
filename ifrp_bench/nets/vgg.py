"""Perceptual features: VGG-16 and VGG-19 (Simonyan and Zisserman 2015) as torchvision's weight files, or the
``vgg_normalised`` files of the AdaIN/WCT line of work; ``builtin`` is a narrow one in the latter's layout
that comes with the package. Features are named ``relu<block>_<layer>``; faces come in as float32 (N, 3, H,
W) RGB in [0, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.weights import fetched_weights, load_state
from ifrp_bench.nets.transformer import reflect_pad
from ifrp_bench.nets.winograd import Conv2d

# convolutions a block: VGG-16 and VGG-19 differ in blocks 3 to 5
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
BUILTIN = Path(__file__).parent / "features" / "net.safetensors"   # its card stands beside it
# Content and style layers by what a file reaches: Johnson's (2016) for VGG-16, Gatys' (2016) for VGG-19; up
# to relu3_1 the first layer of each block
LOSS_LAYERS = {
    "vgg16": (("relu3_3",), ("relu1_2", "relu2_2", "relu3_3", "relu4_3")),
    "vgg19": (("relu4_2",), ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")),
    "": (("relu3_1",), ("relu1_1", "relu2_1", "relu3_1")),
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)   # of torchvision's weights, RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(nn.Module):
    """The convolutional part of a VGG up to its deepest known layer, frozen.

    Built by ``open_features``. ``layers`` names what it can give, in order; ``padding`` is ``zero``
    (torchvision) or ``reflect`` (``vgg_normalised``), ``ceil`` the rounding of its pools.
    """

    def __init__(
        self,
        name: str,
        sha256: str,
        first: nn.Conv2d,
        convs: Sequence[nn.Conv2d],
        blocks: Sequence[int],
        *,
        padding: str,
        ceil: bool,
    ) -> None:
        super().__init__()
        self.name = name
        self.sha256 = sha256   # of the weight file
        self.first = first   # a 1x1 convolution that holds the preprocessing
        self.convs = nn.ModuleList(convs)
        self.padding = padding
        self.ceil = ceil
        names = [
            f"relu{block}_{layer}" for block, count in enumerate(blocks, 1) for layer in range(1, count + 1)
        ]
        self.layers = names[:len(convs)]
        self.requires_grad_(False).eval()

    def forward(self, faces: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The named features, each (N, C, h, w) after its ReLU; nothing deeper than the deepest is computed.
        """
        wanted = set(layers)
        features = {}
        x = self.first(faces)
        for conv, name in zip(self.convs, self.layers):
            if name.endswith("_1") and name != "relu1_1":
                x = F.max_pool2d(x, 2, ceil_mode=self.ceil)
            x = F.relu_(conv(reflect_pad(x, 1) if self.padding == "reflect" else x))
            if name in wanted:
                features[name] = x
                if len(features) == len(wanted):
                    return features
        missing = ", ".join(sorted(wanted - set(self.layers)))
        raise InputError(f"{self.name} has no {missing}; its layers are {', '.join(self.layers)}")


def open_features(source: str | Path) -> Features:
    """Features by name (``builtin``; ``vgg16``, ``vgg19``: fetched before) or from a file: torchvision's
    VGG-16 or VGG-19 state dict, or one in the ``vgg_normalised`` convention, told apart by keys.

    Raises InputError for weights that are not there and for a file that is none of them.
    """
    path = (
        BUILTIN
        if str(source) == "builtin"
        else fetched_weights(str(source)) if str(source) in BLOCKS else Path(source)
    )
    state = load_state(path)
    if "features.0.weight" in state:
        return _torchvision(path, state)
    if state.get("0.weight", torch.empty(0)).shape == (3, 3, 1, 1):
        return _normalised(path, state)
    raise InputError(
        f"{path}: expected torchvision's VGG-16 or VGG-19 or a vgg_normalised state dict, found keys like"
        f" {', '.join(list(state)[:3])}"
    )


def _torchvision(path: Path, state: dict[str, Tensor]) -> Features:
    weights = _ordered(state, "features.")
    name = {13: "vgg16", 16: "vgg19"}.get(len(weights))
    if name is None:
        raise InputError(f"{path}: {len(weights)} convolutions; VGG-16 has 13 and VGG-19 has 16")
    std = torch.tensor(IMAGENET_STD)
    first = _conv(torch.diag(1 / std)[:, :, None, None], -torch.tensor(IMAGENET_MEAN) / std)
    return Features(
        name,
        sha256_of(path),
        first,
        [_conv(*pair, padding=1) for pair in weights],
        BLOCKS[name],
        padding="zero",
        ceil=False,
    )


def _normalised(path: Path, state: dict[str, Tensor]) -> Features:
    (first, bias), *weights = _ordered(state, "")
    convs = [_conv(*pair) for pair in weights]
    name = "builtin" if path == BUILTIN else path.stem
    return Features(
        name, sha256_of(path), _conv(first, bias), convs, BLOCKS["vgg19"], padding="reflect", ceil=True
    )


def _ordered(state: dict[str, Tensor], prefix: str) -> list[tuple[Tensor, Tensor]]:
    numbers = sorted(
        int(key[len(prefix) :].split(".")[0])
        for key in state
        if key.startswith(prefix) and key.endswith(".weight")
    )
    return [
        (state[f"{prefix}{number}.weight"].float(), state[f"{prefix}{number}.bias"].float())
        for number in numbers
    ]


def _conv(weight: Tensor, bias: Tensor, padding: int = 0) -> nn.Conv2d:
    outputs, inputs, size, _ = weight.shape
    conv = channels_last(Conv2d(inputs, outputs, size, padding=padding))
    conv.weight.data.copy_(weight)
    assert conv.bias is not None
    conv.bias.data.copy_(bias)
    return conv


def channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    """Its weights laid out channel by channel at every place, as CPUs want them."""
    return conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def gram(features: Tensor) -> Tensor:
    """Gram matrices of (N, C, h, w) features, (N, C, C) float32, divided by C*h*w (Johnson et al. 2016,
    equation 3).

    The product is taken in the features' own precision (sums in float32): under bf16 autocast a float32 copy
    of relu1_1 costs more than the layer itself.
    """
    n, c, h, w = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(n, h * w, c)   # a view of channels_last features
    return _Product.apply(flat).float() / (c * h * w)   # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """Fᵀ F of (N, P, C), whose gradient is one product, F (G + Gᵀ); a general one takes two."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:   # type: ignore[override]
        ctx.save_for_backward(flat)
        return flat.transpose(1, 2) @ flat

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:   # type: ignore[override]
        flat, = ctx.saved_tensors
        return flat @ (gradient + gradient.transpose(1, 2)).to(flat.dtype)   # type: ignore[no-any-return]


def is_whole(source: str) -> bool:
    """Whether a name of ``open_features`` is that of a whole VGG; what a file reaches only its content says.
    """
    return source in BLOCKS


def loss_layers(features: Features) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers of content and of style losses."""
    return LOSS_LAYERS.get(features.name, LOSS_LAYERS[""])


def content_distance(
    got: dict[str, Tensor], wanted: dict[str, Tensor], layers: Sequence[str], *, each: bool = False
) -> Tensor:
    """Mean squared difference of features, relative to the mean square of the wanted ones, averaged over
    layers; of ``each`` face (N,), or of all.
    """
    return _relative(
        {name: got[name].float() for name in layers}, {name: wanted[name].float() for name in layers}, each
    )


def grams(features: dict[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """The Gram matrices of the named layers."""
    return {name: gram(features[name]) for name in layers}


def style_distance(
    got: dict[str, Tensor], wanted: dict[str, Tensor], layers: Sequence[str], *, each: bool = False
) -> Tensor:
    """The same of Gram matrices: of the features ``got`` to those
    ``wanted``, which are matrices already (``grams``).
    """
    return _relative(grams(got, layers), {name: wanted[name] for name in layers}, each)


def _relative(got: dict[str, Tensor], wanted: dict[str, Tensor], each: bool) -> Tensor:
    """Mean over layers of squared distances over squared lengths, face by face."""
    ratios = [
        (got[name] - wanted[name]).square().flatten(1).sum(1)
        / wanted[name].square().flatten(1).sum(1).clamp_min(1e-12)
        for name in got
    ]
    by_face = torch.stack(ratios).mean(0)
    return by_face if each else by_face.mean()

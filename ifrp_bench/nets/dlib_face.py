"""dlib's face recognition network (King 2017): ResNet-29 with half of the filters, trained on three million
faces. What it takes and returns for a picture stands in its card, ``dlib/card.toml``.

Its weights lie in the package ``face_recognition_models``, in dlib's own file format; they are read here and
run by torch, one face a thread, since dlib takes ten times as long for a face. A test holds that both give
the same embedding.
"""

import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of

PACKAGE = "face_recognition_models"
FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
CARD = Path(__file__).parent / "dlib" / "card.toml"
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)   # of the residual blocks, in order
HALVED = (3, 7, 10, 13)   # blocks that halve the map


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters.

    Where the sizes differ dlib adds as if the smaller map continued with zeros, in channels and in places.
    """

    def __init__(self, inputs: int, outputs: int, halves: bool) -> None:
        super().__init__()
        # dlib pads a convolution of stride 1 alone
        self.first = nn.Conv2d(inputs, outputs, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.halves = halves

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(F.relu(self.first(x)))
        if not self.halves:
            return F.relu(made + x)
        shortcut = F.avg_pool2d(x, 2)
        height = max(made.shape[2], shortcut.shape[2])
        return F.relu(_filled(made, height, made.shape[1]) + _filled(shortcut, height, made.shape[1]))


def _filled(maps: Tensor, size: int, channels: int) -> Tensor:
    """Square maps (N, C, s, s) with zeros behind to (N, channels, size, size)."""
    places = size - maps.shape[2]
    return F.pad(maps, (0, places, 0, places, 0, channels - maps.shape[1]))


class DlibFace(nn.Module):
    """Embeddings (N, 128) of unit length of chips (N, 3, 150, 150) in [0, 255] RGB, frozen.

    dlib compares embeddings by their distance; here they are compared by cosine, like all others. Raises
    InputError where the package is not installed or its file is another one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.card: dict[str, Any] = tomllib.loads(CARD.read_text(encoding="utf-8"))
        path = weights_path()
        found, wanted = sha256_of(path), self.card["sha256"]
        if found != wanted:
            raise InputError(
                f"{path}: its sha256 is {found[:16]}..., expected {wanted[:16]}...; install {PACKAGE}"
                f" {self.card['release']}"
            )
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, 2)
        self.blocks = nn.Sequential(*(
            Block(inputs, outputs, number in HALVED)
            for number, (inputs, outputs) in enumerate(zip(WIDTHS[:1] + WIDTHS, WIDTHS))
        ))
        self.head = nn.Linear(WIDTHS[-1], 128, bias=False)
        self._read(path.read_bytes())
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(self.card["mean"])[:, None, None])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "DlibFace":
        """Frozen: always in evaluation."""
        return super().train(False)

    def forward(self, chips: Tensor) -> Tensor:
        maps = F.relu(self.stem((chips - self.mean) / self.card["std"]))
        maps = self.blocks(F.max_pool2d(maps, 3, 2))
        return F.normalize(self.head(maps.mean((2, 3))))

    def _read(self, content: bytes) -> None:
        """Each convolution with the scale and shift after it, which are one convolution."""
        found = list(_layers(content))
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for number, convolution in enumerate(convolutions):
            (_, filters), (_, affine) = found[2 * number], found[2 * number + 1]
            gamma, beta = affine.reshape(2, -1)
            weight, bias = filters[:-len(gamma)].reshape(convolution.weight.shape), filters[-len(gamma):]
            convolution.weight.data = weight * gamma[:, None, None, None]
            assert convolution.bias is not None
            convolution.bias.data = bias * gamma + beta
        self.head.weight.data = found[-1][1].reshape(WIDTHS[-1], 128).T.contiguous()


def weights_path() -> Path:
    """The file of the installed package, which is not imported: it needs a module that setuptools has given
    up.

    Raises InputError where it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    path = Path(places[0]) / FILE if places else Path(FILE)
    if not places or not path.is_file():
        raise InputError("the recogniser dlib needs the extra dlib: pip install 'ifrp-bench[dlib]'")
    return path


def _layers(content: bytes) -> Iterator[tuple[str, Tensor]]:
    """The layers of dlib's file that have parameters, in the order in which a face goes through them.

    A layer begins with its kind as a string; a tensor is a version, four sizes and its floats.
    """
    at = 0
    while True:
        places = {kind: content.find(_as_string(kind), at) for kind in ("con_4", "affine_", "fc_2")}
        places = {kind: place for kind, place in places.items() if place >= 0}
        if not places:
            return
        kind = min(places, key=lambda one: places[one])
        at = places[kind] + len(_as_string(kind))
        for _ in range(2 if kind == "fc_2" else 0):   # outputs and inputs
            _, at = _integer(content, at)
        sizes = []
        for _ in range(5):
            size, at = _integer(content, at)
            sizes.append(size)
        count = int(np.prod(sizes[1:]))
        yield kind, torch.from_numpy(np.frombuffer(content, "<f4", count, at).copy())
        at += 4 * count


def _as_string(text: str) -> bytes:
    """As dlib writes a string: how many bytes hold its length, its length, its characters."""
    return bytes([1, len(text)]) + text.encode()


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """An integer as dlib writes it, how many bytes hold it and they, and the place behind it."""
    count = content[at] & 15
    return int.from_bytes(content[at + 1:at + 1 + count], "little"), at + 1 + count

"""The embedded recogniser's network: a small residual network from faces to embeddings, trained by the
project on rendered people.

Its weights and card lie in ``nets/faces/``; ``making/recogniser.py`` made them.
"""

import tomllib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.warp import WINDOW_PX
from ifrp_bench.ground.weights import load_state

FOLDER = Path(__file__).parent / "faces"
HEIGHT_PX = 112
WIDTH_PX = round(HEIGHT_PX * WINDOW_PX[2] / WINDOW_PX[3])   # 90: the window in its true proportions
WIDTHS = (32, 64, 128, 192)
EMBEDDING = 128


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut, the first with stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class FaceEmbedder(nn.Module):
    """Embeddings (N, 128) of unit length of faces (N, 3, 128, 128) in [0, 1].

    The window's anisotropy is undone first.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *WIDTHS)
        # to (N, 192, 7, 6)
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in zip(widths, widths[1:])))
        # a weight for each place, as in MobileFaceNets (2018)
        self.place = nn.Conv2d(WIDTHS[-1], WIDTHS[-1], (7, 6), groups=WIDTHS[-1], bias=False)
        self.head = nn.Sequential(
            nn.BatchNorm1d(WIDTHS[-1]),
            nn.Linear(WIDTHS[-1], EMBEDDING, bias=False),
            nn.BatchNorm1d(EMBEDDING),
        )

    def forward(self, faces: Tensor) -> Tensor:
        small = F.interpolate(faces, size=(HEIGHT_PX, WIDTH_PX), mode="bilinear", antialias=True)
        return F.normalize(self.head(self.place(self.blocks(small * 2 - 1)).flatten(1)))


def load_embedder(folder: Path = FOLDER) -> tuple[FaceEmbedder, str, dict[str, Any]]:
    """The shipped network, frozen, in float32, its file's sha256 and its card.

    Raises InputError for a broken installation.
    """
    path = folder / "net.safetensors"
    net = FaceEmbedder()
    try:
        net.load_state_dict(
            {
                name: value.float() if value.dtype == torch.float16 else value
                for name, value in load_state(path).items()
            }
        )
    except RuntimeError as error:
        raise InputError(
            f"{path}: not the embedded recogniser's weights ({' '.join(str(error).split())[:120]}); install"
            " ifrp-bench again"
        ) from None
    card = (
        tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))
        if (folder / "card.toml").is_file()
        else {}
    )
    return net.requires_grad_(False).eval(), sha256_of(path), card

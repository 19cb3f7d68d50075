"""Open styles: stylization with any picture, and with mixtures of a bank's styles, each face in its own.

What the network is stands in ``nets/open_style.py``. A bank comes with the package; one of a user's own
pictures is a folder with ``bank.safetensors`` and ``card.toml`` too.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import PACKAGE, sha256_of, write_whole
from ifrp_bench.ground.images import PictureError, read_picture, resize_shorter_side, to_faces
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.ground.weights import load_state, save_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ifrp_bench.nets.open_style import OpenStylizer

OPEN = "open"   # the style's name in recipes and data sets
FOLDER = PACKAGE / "nets" / "open_styles"
ALONE = 0.5   # share of faces that get one style of the bank rather than a mixture of two
# shorter sides of a picture, before a square is cut from it: brushwork of several sizes
SHORT_SIDES_PX = (144, 192, 288, 432)
CHUNK = 64   # squares whose features are computed at a time


def facts(folder: Path = FOLDER) -> dict[str, Any]:
    """A bank's card; that of the shipped one is the network's too.

    Empty where there is none. Raises InputError for one that cannot be read.
    """
    path = folder / "card.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        mend = "make the bank again, or install ifrp-bench again"
        raise InputError(f"{path}: not readable: {error}; {mend}") from None


def pictures_of(style: str, bank: Path = FOLDER) -> int:
    """How many pictures a style stands for: ``open`` for those of a bank's folder (where there is none, of
    the shipped one), any other for one.
    """
    card = facts(bank) or facts()
    return int(card["bank"]["pictures"]) if style == OPEN else 1


def open_bank(folder: Path = FOLDER) -> "Tensor":
    """What is known of a bank's styles, (n, K) float32.

    Raises InputError where they are not what the card says.
    """
    return load_state(folder / "bank.safetensors", sha256=facts(folder)["bank"]["sha256"])["styles"].float()


def open_stylizer(device: str = "cpu") -> "OpenStylizer":
    """The network. Raises InputError where its weights are not what the card says."""
    from ifrp_bench.nets.open_style import stylizer_of

    weights = load_state(FOLDER / "net.safetensors", sha256=facts()["net"]["sha256"])
    return stylizer_of(weights).to(device)


def squares_of(pictures: Path, files: Sequence[str]) -> np.ndarray:
    """A square of every picture at every scale, uint8 (n, 128, 128, 3).

    Raises InputError for a picture that cannot be read.
    """
    cut = []
    for file in files:
        try:
            picture = read_picture(pictures / file)
        except PictureError as error:
            raise InputError(f"{pictures / file}: {error}; a bank of styles wants pictures alone") from None
        draws = generator("open styles", file)
        for side in SHORT_SIDES_PX:
            small = resize_shorter_side(picture, side)
            top, left = (int(draws.integers(length - FACE_PX + 1)) for length in small.shape[:2])
            cut.append(small[top:top + FACE_PX, left:left + FACE_PX])
    return np.stack(cut)


def styles_of(pictures: np.ndarray, device: str = "cpu") -> "Tensor":
    """What is known of the styles of uint8 (n, H, W, 3) pictures, (n, K) float32."""
    import torch

    from ifrp_bench.nets.open_style import style_of
    from ifrp_bench.nets.vgg import open_features

    features = open_features("builtin").to(device)
    parts = range(0, len(pictures), CHUNK)
    with torch.inference_mode():
        found = [style_of(features, to_faces(pictures[start:start + CHUNK], device)) for start in parts]
    return torch.cat(found).clone()


def make_bank(pictures: Path, files: Sequence[str], out: Path) -> Path:
    """A bank of these files under ``pictures`` in the folder ``out``; returns it.

    It holds numbers, from which no picture can be made again. Raises InputError for a picture that cannot be
    read.
    """
    import tomli_w

    styles = styles_of(squares_of(pictures, files)).half()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bank.safetensors"
    save_state(path, {"styles": styles})
    card = {
        "title": f"Open styles of {len(files)} pictures",
        "net": {"sha256": facts()["net"]["sha256"]},
        "bank": {"sha256": sha256_of(path), "styles": len(styles), "pictures": len(files)},
    }
    write_whole(out / "card.toml", tomli_w.dumps(card).encode())
    return out


def draw_mixtures(count: int, styles: int, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``count`` faces two styles (count, 2) int64 and the share of the second, float32 (count,).

    Half of the faces gets one style alone.
    """
    pairs = draws.integers(styles, size=(count, 2))
    shares, alone = draws.random((2, count))
    return pairs, np.where(alone < ALONE, 0.0, shares).astype(np.float32)


class Mixtures:
    """Stylizes faces with mixtures of a bank's styles (n, K), on one device."""

    def __init__(self, bank: "Tensor", device: str, dtype: "torch.dtype") -> None:
        self.network = open_stylizer(device)
        self.device, self.dtype = device, dtype
        self.styles = bank.to(device)

    def of(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """What each key's mixture is, as ``draw_mixtures``: a function of that key alone."""
        drawn = [draw_mixtures(1, len(self.styles), generator("open style", key)) for key in keys]
        pairs, shares = (np.concatenate(values) for values in zip(*drawn))
        return pairs, shares

    def stylized(self, windows: "Tensor", drawn: tuple[np.ndarray, np.ndarray], size_px: int) -> "Tensor":
        """Windows (N, 3, S, S) in [0, 1] to stylized faces (N, 3, size_px, size_px) in [0, 1].

        They are made at the size that they are wanted in, as the network was trained.
        """
        import torch
        from torch.nn import functional as F

        pairs, shares = (torch.from_numpy(values).to(self.device) for values in drawn)
        first, second = pairs.T
        styles = torch.lerp(self.styles[first], self.styles[second], shares[:, None])
        faces = F.interpolate(windows, (size_px, size_px), mode="area")
        with torch.inference_mode(), torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        ):
            return self.network(faces, styles).clamp_(0, 1)   # type: ignore[no-any-return]

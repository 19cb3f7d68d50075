"""Styles: their cards, their trained networks, and the pass that turns faces into stylized faces.

A style is a folder with ``card.toml`` (facts of the picture, how the network was trained, its sha256) and
``net.safetensors`` (float16). ``making/style.py`` trains them; this module finds, checks and applies them.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ifrp_bench.data.open_styles import FOLDER as OPEN_FOLDER, OPEN, Mixtures, facts, open_bank
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import package_folder, sha256_of
from ifrp_bench.ground.images import to_faces, to_pictures
from ifrp_bench.ground.weights import cache_folder, fetch_file, load_state

if TYPE_CHECKING:
    import torch

    from ifrp_bench.nets.transformer import Transformer

# the paper's, seen first
NAMES = ("the_scream", "candy", "feathers", "starry_night", "la_muse", "composition_vii", "mosaic", "udnie")
SEEN = NAMES[:3]
PRECISIONS = ("auto", "float32", "bfloat16")   # auto: what is fast on the hardware at hand


@dataclass(frozen=True)
class Style:
    """One style folder. ``card`` is its parsed ``card.toml``."""

    name: str
    folder: Path
    card: dict[str, Any]

    @property
    def seen(self) -> bool:
        """Whether the paper trains on it; styles of a user's own are unseen unless their card says so."""
        return bool(self.card.get("seen", False))

    @property
    def weights(self) -> Path:
        return self.folder / "net.safetensors"

    @property
    def trained(self) -> bool:
        return self.weights.is_file() and "net" in self.card

    @property
    def sha256(self) -> str:
        """The network's sha256, as the card says; ``load_net`` holds it to that."""
        return str(self.card["net"]["sha256"])

    @property
    def version(self) -> int:
        """Which of its networks comes with the card; data sets name theirs by its sha256."""
        return int(self.card["net"].get("version", 1))

    def earlier_version(self, sha256: str) -> int | None:
        """The version of a network that an earlier card had; None for one that no card had."""
        known = {entry["sha256"]: int(entry["version"]) for entry in self.card.get("earlier", [])}
        return known.get(sha256)


@dataclass(frozen=True)
class OpenStyle(Style):
    """Mixtures of a bank's styles as one style, ``open``: ``folder`` is the bank's, the shipped one or one of
    a user's pictures.
    """

    @property
    def weights(self) -> Path:
        return OPEN_FOLDER / "net.safetensors"

    @property
    def sha256(self) -> str:
        """One hash of the network and the bank."""
        both = f"{self.card['net']['sha256']} {self.card['bank']['sha256']}"
        return hashlib.sha256(both.encode()).hexdigest()


def open_style(bank: Path | None = None) -> OpenStyle:
    """The style ``open`` with the bank in a folder, or, where none is, with the shipped one."""
    folder = bank if bank and (bank / "card.toml").is_file() else OPEN_FOLDER
    return OpenStyle(OPEN, folder, facts(folder))


def find_styles(extra: Path | None = None) -> dict[str, Style]:
    """All styles by name, the paper's eight first.

    A folder of the user's own styles (``extra``) adds to them or replaces them. Raises InputError where there
    is none in it.
    """
    found: dict[str, Style] = {}
    if extra and not any(extra.glob("*/card.toml")):
        raise InputError(f"{extra}: no style in it; --styles wants a folder of style folders (card.toml)")
    for root in [package_folder("styles")] + ([extra] if extra else []):
        for card in sorted(root.glob("*/card.toml")):
            found[card.parent.name] = Style(card.parent.name, card.parent, read_card(card))
    order = {name: number for number, name in enumerate(NAMES)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def read_card(path: Path) -> dict[str, Any]:
    """A parsed ``card.toml``. Raises InputError for one that is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a style card: {error}") from None


def pick_styles(
    names: list[str] | tuple[str, ...], extra: Path | None = None, bank: Path | None = None
) -> list[Style]:
    """The named styles, each with a trained network; ``bank`` is the folder of a bank for ``open``.

    Raises InputError for one that is unknown or not trained.
    """
    styles = find_styles(extra) | {OPEN: open_style(bank)}
    for name in names:
        if name not in styles:
            raise InputError(
                f"style {name!r} is none of {', '.join(styles)}; a folder of your own styles is named with"
                " --styles"
            )
        if not styles[name].trained:
            raise InputError(
                f"style {name!r} has no trained network in {styles[name].folder}; train it with `ifrp-bench"
                f" styles train {name}`"
            )
    return [styles[name] for name in names]


def load_net(style: Style) -> "Transformer":
    """The style's transformer in float32 on the CPU, after its file was checked against the card's sha256."""
    from ifrp_bench.nets.transformer import Transformer

    state = load_state(style.weights, sha256=style.sha256)
    net = Transformer(int(style.card["net"]["width"]))
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise InputError(
            f"{style.weights}: not a transformer of width {net.width}: {' '.join(str(error).split())[:200]}"
        ) from None
    return net.eval().requires_grad_(False)


class Stylizer:
    """Style networks on one device, each loaded when it is first used, and the pass from windows to stylized
    faces.

    ``precision`` is that of the convolutions, ``float32`` or ``bfloat16``. ``batch_size`` pictures go through
    a network together; it changes the speed and, on a CPU, not one byte of the result.
    """

    def __init__(self, styles: list[Style], *, precision: str, device: str, batch_size: int) -> None:
        import torch

        from ifrp_bench.ground.precision import exact_float32

        exact_float32(device)
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.device = device
        self.batch_size = batch_size
        self._styles = {style.name: style for style in styles}
        self._nets: dict[str, torch.nn.Module] = {}
        self._mixtures: Mixtures | None = None

    def __call__(self, name: str, windows: np.ndarray, size_px: int, keys: Sequence[str] = ()) -> np.ndarray:
        """Stylize uint8 (N, S, S, 3) windows and average them down by area to uint8 (N, size_px, size_px, 3).

        ``keys`` says what each window's open style is drawn by; other styles do not look at it.
        """
        import torch
        from torch.nn import functional as F

        if name == OPEN:
            return self._open(windows, size_px, keys)
        net = self._net(name)
        stylized = []
        with torch.inference_mode():
            for start in range(0, len(windows), self.batch_size):
                faces = net(to_faces(windows[start:start + self.batch_size], self.device))
                stylized.append(to_pictures(F.interpolate(faces, (size_px, size_px), mode="area")))
        return np.concatenate(stylized)

    def whole(self, name: str, picture: np.ndarray) -> np.ndarray:
        """A picture, uint8 (H, W, 3), stylized at its own size, sides multiples of 4."""
        return to_pictures(self._net(name)(to_faces(picture[None], self.device)))[0]

    def _open(self, windows: np.ndarray, size_px: int, keys: Sequence[str]) -> np.ndarray:
        """Each window in a style of its own."""
        if self._mixtures is None:
            bank = open_bank(self._styles[OPEN].folder)
            self._mixtures = Mixtures(bank, self.device, self.dtype)
        # one at a time on a CPU, so that no byte depends on the batch
        size = 1 if self.device == "cpu" else self.batch_size
        stylized = []
        for start in range(0, len(windows), size):
            part = slice(start, start + size)
            faces = to_faces(windows[part], self.device)
            made = self._mixtures.stylized(faces, self._mixtures.of(keys[part]), size_px)
            stylized.append(to_pictures(made))
        return np.concatenate(stylized)

    def _net(self, name: str) -> "torch.nn.Module":
        if name not in self._nets:
            from ifrp_bench.nets.fast_transformer import FastTransformer

            self._nets[name] = FastTransformer(load_net(self._styles[name]), self.dtype).to(self.device)
        return self._nets[name]


def check_picture(style: Style, picture: Path) -> str:
    """The picture's sha256. Raises InputError where the card names another picture."""
    found = sha256_of(picture)
    expected = style.card.get("picture_sha256", found)
    if found != expected:
        raise InputError(
            f"{picture}: its sha256 is {found[:12]}..., the card of {style.name} says {expected[:12]}...; "
            "use the picture that the card names, or train a style of another name"
        )
    return found


def place_of_picture(style: Style) -> Path:
    """Where a style's picture stands in the cache, whether it is there or not."""
    return cache_folder() / "styles" / str(style.card.get("picture_file", f"{style.name}.jpg"))


def picture_of(style: Style) -> Path:
    """The placed picture of a style. Raises InputError that says how to place it."""
    path = place_of_picture(style)
    if not path.is_file():
        fetch = f"`ifrp-bench styles fetch {style.name} --from FILE`"
        raise InputError(
            f"{path}: the picture of {style.name} is not placed; name it with --picture, or place it with"
            f" {fetch}"
        )
    return path


def place_picture(style: Style, where: str) -> Path:
    """Copy or download a style's picture into the cache after its sha256 was checked; returns its place.

    Raises InputError as ``fetch_file``.
    """
    return fetch_file(where, place_of_picture(style), str(style.card["picture_sha256"]))

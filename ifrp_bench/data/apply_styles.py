"""What users do with a style beside making data sets: try it on a picture, and take over networks that they
have as files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ifrp_bench.data.open_styles import OPEN, open_stylizer, squares_of, styles_of
from ifrp_bench.data.styles import NAMES, OpenStyle, Style, Stylizer, pick_styles
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.images import SUFFIXES, to_faces, to_pictures
from ifrp_bench.ground.weights import load_state, save_state

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLE = 4   # of which both sides must be: networks halve a picture twice
# Layers of the public fast_neural_style transformer of PyTorch's examples, in our order of them
THEIRS = (
    ("conv1", "in1", "down.0"), ("conv2", "in2", "down.1"), ("conv3", "in3", "down.2"),
    ("deconv1", "in4", "up.0"), ("deconv2", "in5", "up.1"),
)
BLOCKS = 5


def apply_style(
    picture: np.ndarray, style: str, *, extra: Path | None = None, device: str = "cpu"
) -> np.ndarray:
    """A picture, uint8 (H, W, 3), in a style: one of the eight or of the folder ``extra`` by its name, or
    that of any picture by its file.

    The result is cut to sides that are multiples of 4. Raises InputError for what is neither.
    """
    height, width = (side - side % MULTIPLE for side in picture.shape[:2])
    picture = np.ascontiguousarray(picture[:height, :width])
    path = Path(style)
    if path.suffix.lower() in SUFFIXES:
        return _in_style_of(picture, path, device)
    chosen, = pick_styles([style], extra)
    if isinstance(chosen, OpenStyle):
        raise InputError("--style open: name a picture whose style it is to be, or one of `styles list`")
    return Stylizer([chosen], precision="float32", device=device, batch_size=1).whole(chosen.name, picture)


def _in_style_of(picture: np.ndarray, path: Path, device: str) -> np.ndarray:
    """In the style of the picture in a file."""
    import torch

    cut = squares_of(path.parent, [path.name])
    with torch.inference_mode():
        # the mean over the scales: brushwork of a middle size
        style = styles_of(cut, device).mean(0, keepdim=True)
        made = open_stylizer(device)(to_faces(picture[None], device), style)
    return to_pictures(made.clamp(0, 1))[0]


def import_style(weights: Path, name: str, out: Path) -> Style:
    """A network of PyTorch's examples (``fast_neural_style``, a ``.pth`` or ``.model`` file) as a style
    folder ``out/name``; it makes the same pictures up to rounding.

    Nothing in the file is run. Raises InputError for a name that is taken, and for a file that is something
    else.
    """
    import tomli_w

    if name in (*NAMES, OPEN) or not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"--name {name!r}: letters, digits, - and _ that name none of the styles here")
    folder = out / name
    if folder.exists():
        raise InputError(f"{folder}: there already; choose another --name or --out")
    state = translated(load_state(weights), weights)
    width = state["down.0.conv.weight"].shape[0]
    folder.mkdir(parents=True)
    save_state(folder / "net.safetensors", {key: value.half() for key, value in state.items()})
    card = {
        "title": name,
        "artist": "",
        "year": "",
        "seen": False,
        "source": f"{weights.name} (sha256 {sha256_of(weights)}), PyTorch examples' fast_neural_style",
        "net": {
            "version": 1,
            "sha256": sha256_of(folder / "net.safetensors"),
            "architecture": "Johnson et al. 2016, instance normalisation",
            "width": width,
            "parameters": sum(value.numel() for value in state.values()),
            "dtype": "float16",
        },
    }
    write_whole(folder / "card.toml", tomli_w.dumps(card).encode())
    return Style(name, folder, card)


def translated(theirs: Mapping[str, "Tensor"], where: Path) -> "dict[str, Tensor]":
    """Weights of the public network as those of ``nets/transformer.py``.

    Theirs takes and returns 0 to 255, ours takes -1 to 1, returns picture values around mid-grey: the first
    and the last convolution take up the difference. Raises InputError for weights of another network.
    """
    from ifrp_bench.nets.transformer import OUTPUT_GAIN, Transformer

    ours: dict[str, Tensor] = {}
    try:
        for conv, norm, place in THEIRS:
            _take(theirs, f"{conv}.conv2d", ours, f"{place}.conv")
            _take(theirs, norm, ours, f"{place}.norm")
        for number in range(BLOCKS):
            block, place = f"res{number + 1}", f"blocks.{number}"
            _take(theirs, f"{block}.conv1.conv2d", ours, f"{place}.first.conv")
            _take(theirs, f"{block}.in1", ours, f"{place}.first.norm")
            _take(theirs, f"{block}.conv2.conv2d", ours, f"{place}.second")
            _take(theirs, f"{block}.in2", ours, f"{place}.norm")
        _take(theirs, "deconv3.conv2d", ours, "last")
    except KeyError as error:
        raise InputError(
            f"{where}: no network of PyTorch's fast_neural_style: {error} is missing; expected keys like"
            " conv1.conv2d.weight"
        ) from None

    # 255 f = 127.5 (2 f - 1) + 127.5
    first = ours["down.0.conv.weight"]
    ours["down.0.conv.bias"] = ours["down.0.conv.bias"] + 127.5 * first.sum((1, 2, 3))
    ours["down.0.conv.weight"] = 127.5 * first
    ours["last.weight"] = ours["last.weight"] / (255 * OUTPUT_GAIN)
    ours["last.bias"] = (ours["last.bias"] / 255 - 0.5) / OUTPUT_GAIN

    wanted = {key: value.shape for key, value in Transformer(len(first)).state_dict().items()}
    if {key: value.shape for key, value in ours.items()} != wanted:
        raise InputError(f"{where}: a network of fast_neural_style's names, but not of its shapes")
    return ours


def _take(theirs: Mapping[str, "Tensor"], name: str, ours: "dict[str, Tensor]", place: str) -> None:
    for what in ("weight", "bias"):
        ours[f"{place}.{what}"] = theirs[f"{name}.{what}"].float()

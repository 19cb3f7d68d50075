"""Weights on disk: safetensors written whole or not at all, foreign ``.pt``/``.pth`` read without running
code, downloads checked by hash.
"""

import hashlib
import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import digest_of, write_whole

if TYPE_CHECKING:
    from torch import Tensor

FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
SIMILARITY = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/"
FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"

# Weights that users download: their address; file names of torchvision and torch-fidelity carry the first
# eight digits of their sha256
DOWNLOADS = {
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "inception": FIDELITY + "weights-inception-2015-12-05-6726825d.pth",
    "lpips": SIMILARITY + "lpips/weights/v0.1/vgg.pth",
    "facenet": FACENET + "20180402-114759-vggface2.pt",
}
# of those whose file name does not carry it, as published by third parties; a sha256 unless it says otherwise
HASHES = {
    "facenet": "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
    "lpips": "md5:d507d7349b931f0638a25a48a722f98a",
}
STEP = ".step"   # behind a weight's name: what one of its whole numbers stands for
PLACES = {"lpips": "lpips-v0.1-vgg.pth"}   # names in the cache of those whose own says too little


def save_state(path: Path, state: dict[str, "Tensor"]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    write_whole(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))


def halves(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Tensors in float16, as networks are shipped; whole numbers (batch normalisation counts) stay whole."""
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def in_bytes(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Half of ``halves``: weights of two and more dimensions as int8, each output's in steps of its own that
    stand as ``NAME.step`` in float32.
    """
    kept = halves(state)
    for name, value in state.items():
        if value.dim() > 1 and value.is_floating_point():
            step = value.detach().float().flatten(1).abs().amax(1).clamp_min(1e-30) / 127
            kept[name] = (value.float() / _beside(step, value)).round().char()
            kept[name + STEP] = step
    return kept


def floats(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """What ``halves`` or ``in_bytes`` keeps, in float32, as networks are used."""
    whole = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    for name in [name for name in whole if name.endswith(STEP)]:
        step, value = whole.pop(name), whole[name.removesuffix(STEP)]
        whole[name.removesuffix(STEP)] = value.float() * _beside(step, value)
    return whole


def _beside(step: "Tensor", value: "Tensor") -> "Tensor":
    """The steps, a number an output, shaped to stand beside the weights."""
    return step.view(-1, *(1 for _ in value.shape[1:]))


def load_state(path: Path, *, sha256: str | None = None) -> dict[str, "Tensor"]:
    """Tensors of a ``.safetensors`` or a foreign ``.pt``/``.pth`` file (``weights_only``: no code in it
    runs), on the CPU.

    With ``sha256`` the file is checked before it is opened. Raises InputError for a missing, changed or
    broken file.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    data = path.read_bytes()
    if sha256 and (found := hashlib.sha256(data).hexdigest()) != sha256:
        which = f"its sha256 is {found[:12]}..., expected {sha256[:12]}..."
        raise InputError(f"{path}: {which}; place or download it again")
    try:
        if path.suffix == ".safetensors":
            state = load(data)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        page = data[:256].lstrip().lower().startswith((b"<!doctype", b"<html"))
        what = "a web page" if page else "a broken file"
        raise InputError(f"{path}: {what}, not weights ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a state dict of tensors, found {type(state).__name__}")
    return state


def cache_folder() -> Path:
    """Where downloads and placed files are kept: the user's cache, or ``IFRP_BENCH_CACHE``."""
    import pooch

    return Path(os.environ.get("IFRP_BENCH_CACHE") or pooch.os_cache("ifrp-bench"))


def fetch_weights(name: str, where: str | None = None) -> Path:
    """Download (or copy from ``where``, a file or an address) one of ``DOWNLOADS`` into the cache, checked.

    Returns its place.
    """
    if name not in DOWNLOADS:
        raise InputError(f"{name!r} is none of {', '.join(DOWNLOADS)}")
    place = _place_of_weights(name)
    return fetch_file(where or DOWNLOADS[name], place, HASHES.get(name) or place.stem.rsplit("-", 1)[1])


def fetched_weights(name: str) -> Path:
    """The place of fetched weights. Raises InputError that says how to fetch them."""
    path = _place_of_weights(name)
    if not path.is_file():
        raise InputError(
            f"{path}: {name} is not there; `ifrp-bench fetch {name}` downloads it, `ifrp-bench fetch {name}"
            " --from FILE` places your copy"
        )
    return path


def _place_of_weights(name: str) -> Path:
    return cache_folder() / "weights" / (PLACES.get(name) or DOWNLOADS[name].rsplit("/", 1)[1])


def fetch_file(where: str, target: Path, digest: str) -> Path:
    """Copy or download a file to ``target`` after its ``digest`` was checked, a sha256 or the first digits of
    it that are known, or ``md5:...``; returns ``target``.

    Raises InputError for a missing file, a failed download (it says where to place the file by hand) and
    another file than expected.
    """
    algorithm, _, wanted = digest.rpartition(":")
    algorithm = algorithm or "sha256"
    with TemporaryDirectory() as folder:
        path = (
            _download(where, Path(folder), target, f"{algorithm} begins with {wanted[:12]}")
            if "://" in where
            else Path(where).expanduser()
        )
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        found = digest_of(path, algorithm)
        if not found.startswith(wanted):
            page = (
                " (a web page in its place)"
                if path.read_bytes()[:256].lstrip().lower().startswith((b"<!doctype", b"<html"))
                else ""
            )
            raise InputError(
                f"{where}: not {target.name}{page}: its {algorithm} is {found[:12]}..., expected"
                f" {wanted[:12]}..."
            )
        write_whole(target, path.read_bytes())
    return target


def _download(where: str, folder: Path, target: Path, known_by: str) -> Path:
    import pooch

    logging.getLogger("pooch").setLevel(logging.ERROR)
    try:
        return Path(pooch.retrieve(where, None, fname=target.name, path=folder, progressbar=False))
    except Exception as error:   # requests' and pooch's errors have no common base short of this
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{where}: not downloaded ({reason}); place the file whose {known_by} at {target}"
        ) from None

"""Weights on disk: safetensors written whole or not at all, foreign ``.pt``/``.pth`` read without running code, downloads checked by hash."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from ifrp_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut: temporary file, flush, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_state(path: Path, state: dict[str, "Tensor"]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    write_whole(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))


def load_state(path: Path, *, sha256: str | None = None) -> dict[str, "Tensor"]:
    """Tensors of a ``.safetensors`` or a foreign ``.pt``/``.pth`` file (``weights_only``: no code in it runs), on the CPU.

    With ``sha256`` the file is checked before it is opened. Raises InputError for a missing, changed or broken file.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    data = path.read_bytes()
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: its sha256 is {hashlib.sha256(data).hexdigest()[:12]}..., expected {sha256[:12]}...; place or download it again")
    try:
        state = load(data) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        what = "a web page" if data[:256].lstrip().lower().startswith((b"<!doctype", b"<html")) else "a broken file"
        raise InputError(f"{path}: {what}, not weights ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a state dict of tensors, found {type(state).__name__}")
    return state

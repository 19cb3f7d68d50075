"""What pixels depend on beside the recipe: versions of packages and the kind of machine; and reading back
what a folder says of itself.
"""

import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ifrp_bench import __version__
from ifrp_bench.ground.errors import InputError


def read_facts(
    path: Path, keys: Iterable[str], *, schema: int, error: type[InputError], none: str, mend: str
) -> dict[str, Any]:
    """A folder's JSON file of facts.

    Raises ``error`` if it is missing (``none`` says what to do), not JSON, of another schema or without a key
    (``mend``).
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path.parent}: {none}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{path}: not readable: {reason}; {mend}") from None
    if not isinstance(facts, dict) or facts.get("schema") != schema:
        raise error(
            f"{path}: schema version {facts.get('schema') if isinstance(facts, dict) else None}, this"
            f" ifrp-bench reads {schema}"
        )
    missing = [key for key in keys if key not in facts]
    if missing:
        raise error(f"{path}: the key {missing[0]!r} is missing; {mend}")
    return facts


def versions() -> dict[str, str]:
    """Versions of what the pixels depend on."""
    found = {"ifrp-bench": __version__, "python": platform.python_version()}
    for package in (
        "torch",
        "numpy",
        "opencv-python-headless",
        "albumentations",
        "h5py",
        "pillow",
        "facenet-pytorch",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def trained_on(device: str) -> str:
    """The machine that a shipped network was trained on, as its card names it."""
    import torch

    return f"{platform.machine()} {device}, torch {torch.__version__}"


def fingerprint(device: str) -> str:
    """The kind of machine within which the same bytes come out."""
    import torch

    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()} torch {torch.__version__}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"

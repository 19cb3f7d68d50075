"""What pixels depend on beside the recipe: versions of packages and the kind of machine."""

import platform
from importlib.metadata import PackageNotFoundError, version

from ifrp_bench import __version__


def versions() -> dict[str, str]:
    """Versions of what the pixels depend on."""
    found = {"ifrp-bench": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "opencv-python-headless", "albumentations", "h5py", "pillow", "facenet-pytorch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def fingerprint(device: str) -> str:
    """The kind of machine within which the same bytes come out."""
    import torch

    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()} torch {torch.__version__}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"

"""Files on disk: written whole or not at all, held against a second writer, known by their hash.

It also knows where the package's own folders stand.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ifrp_bench.ground.errors import InputError

PACKAGE = Path(__file__).parent.parent


def package_folder(name: str) -> Path:
    """``styles`` or ``manifests``: inside the package when installed from a wheel, beside it in a clone."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """A file's digest by one of hashlib's algorithms, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a
    power cut: temporary file, flush, fsync, rename.
    """
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


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder against a second run; the lock ends with the process, however it ends.

    Raises InputError if another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = "another ifrp-bench is writing here; wait for it to end, or choose another --out"
            raise InputError(f"{out}: {message}") from None
        for stale in out.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
        yield

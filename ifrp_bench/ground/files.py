"""Files on disk: written whole or not at all, held against a second writer, known by their hash.

It also knows where the package's own folders stand.
"""

import errno
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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


def read_lines(path: Path, *, missing: str = "no such file") -> list[str]:
    """The lines of a list from outside; a mark that some editors put before the first is not part of it.

    Raises InputError for a file that is not there, with ``missing`` as what to know of it, or not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {missing}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable: {error}") from None


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


def hold(file: IO[Any]) -> bool:
    """Lock an open file for this process, for as long as it is open; whether that could be had.

    On a file system without locks (some network mounts) nothing can be held: that is said and work continues.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        there = f"{Path(file.name).parent}: no locks on this file system"
        print(f"note: {there}; start nothing else that writes there", file=sys.stderr)
    return True


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder against a second run; the lock ends with the process, however it ends.

    Raises InputError if another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        if not hold(file):
            message = "another ifrp-bench is writing here; wait for it to end, or choose another --out"
            raise InputError(f"{out}: {message}")
        for stale in out.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
        yield

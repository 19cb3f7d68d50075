"""Where real faces come from: one module each. A source lists its faces in a fixed order and reads one at a time into CelebA's frame.

A source module offers ``open_source(faces, **options) -> Source``; it is pickled into worker processes, so it holds paths and small
tables, never open files. What the splits are is ``plan.py``'s business.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ifrp_bench.errors import InputError
from ifrp_bench.images import PictureError


@dataclass(frozen=True)
class Face:
    """One real face. ``name`` is unique in its source and ASCII; ``partition`` is the source's own train/val/test, if it has one."""

    name: str
    identity: int
    partition: str | None = None
    note: str = ""   # what was chosen for the user, for example which of several faces


@dataclass(frozen=True)
class Skipped:
    """A face or file that is left out, and why."""

    name: str
    reason: str


class Source(Protocol):
    """Real faces. ``official`` says that every face carries the source's own partition."""

    official: bool

    def faces(self) -> list[Face]:
        """Every face that may be used, in an order that depends on the source alone."""
        ...

    def skipped(self) -> list[Skipped]:
        """What ``faces`` left out."""
        ...

    def read(self, face: Face) -> np.ndarray:
        """The aligned face, uint8 (218, 178, 3) RGB. Raises PictureError for one that is broken."""
        ...

    def read_many(self, faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
        """Several at once, uint8 (N, 218, 178, 3); ``map_faces`` may spread the reading over threads."""
        ...

    def broken(self, face: Face) -> str:
        """Why the face cannot be read; empty if it can."""
        ...

    def digest(self, face: Face) -> str:
        """A hash of what ``read`` reads: two data sets with equal face lists and digests hold the same faces."""
        ...


def read_each(read: Callable[[Face], np.ndarray], faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
    """``read_many`` of a source that reads one at a time. Raises InputError that names the face that cannot be read any more."""
    def read_named(face: Face) -> np.ndarray:
        try:
            return read(face)
        except PictureError as error:
            raise InputError(f"{face.name}: {error}") from None

    return np.stack(list(map_faces(read_named, faces)))

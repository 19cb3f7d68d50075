"""Where real faces come from: one module each, which ends with its declaration ``SOURCE``.

A source, opened with a ``Request``, returns ``Faces``: a list in a fixed order, and one face at a time in
CelebA's frame. What the splits are is ``data/plan.py``'s business. A recipe's ``source`` names a module here,
or a file of the user's own that ends in ``.py`` and with a ``SOURCE`` too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import PictureError

# left eye and right eye as one sees them, pixels of the photograph: columns of lists and caches
EYES = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
Eyes = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)   # a list of photographs may have a million
class Face:
    """One real face.

    ``name`` is unique in its source and ASCII; ``partition`` is the source's own train/val/test, if any.
    """

    name: str
    identity: int
    partition: str | None = None
    note: str = ""   # what was chosen for the user, for example which of several faces


@dataclass(frozen=True)
class Skipped:
    """A face or file that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Request:
    """What any source is opened with; each takes what it needs of it.

    ``folder`` is what ``--faces`` names. Counts are faces, or ``auto``. ``landmarks`` is the cache of found
    faces, ``eyes`` those of photographs, by sha256, that need no search and no cache; ``as_needed``: faces
    are searched as a plan asks for them.
    """

    recipe: str = ""   # the recipe's name, for messages
    folder: Path | None = None
    train_faces: int | str = "auto"
    val_faces: int | str = "auto"
    test_faces: int | str = "auto"
    split: str = "identity"
    faces_per_identity: int = 5
    exclude_attributes: tuple[str, ...] = ()
    seed: int = 0
    landmarks: Path | None = None
    eyes: Mapping[str, Eyes] = field(default_factory=dict)
    as_needed: bool = False
    workers: int = 0
    device: str = "cpu"
    quiet: bool = False


class Faces(Protocol):
    """Real faces of an opened source. ``official`` says that every face carries the source's own partition.

    It is pickled into worker processes, so it holds paths and small tables, never open files.
    """

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
        """A hash of what ``read`` reads: two data sets with equal face lists and digests hold the same faces.
        """
        ...


class Searching:
    """What a source is beside ``Faces`` if it knows the names of its photographs and looks into one when it
    is asked whether it is ``broken``.
    """

    def look_at(self, faces: Sequence[Face]) -> None:
        """Look into several that are about to be asked for, together."""
        raise NotImplementedError

    def note(self, face: Face) -> str:
        """What was chosen for the user in one that was looked into."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source:
    """The declaration of a source: ``SOURCE`` at the end of its module.

    ``folder`` says in words what ``--faces`` has to name; empty for a source that needs none. ``attributes``:
    it knows CelebA's attributes, which a recipe may exclude. ``made``: pairs are rendered from its faces;
    without it they come from elsewhere and there is nothing to render. ``rendered``: its faces are drawn by
    this project, so that the embedded recogniser knows such. ``searched``: it can be opened by names alone
    and searched as a plan asks for its faces.
    """

    open: Callable[[Request], Faces]
    folder: str = ""
    attributes: bool = False
    made: bool = True
    rendered: bool = False
    searched: bool = False


Read = Callable[[Face], np.ndarray]


def read_each(
    read: Read, faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]
) -> np.ndarray:
    """``read_many`` of a source that reads one at a time.

    Raises InputError that names the face that cannot be read any more.
    """
    def read_named(face: Face) -> np.ndarray:
        try:
            return read(face)
        except PictureError as error:
            raise InputError(f"{face.name}: {error}") from None

    return np.stack(list(map_faces(read_named, faces)))

"""Rendered faces, the embedded default: nobody is on them, so they need no licence and no download.

``traits.py`` draws who is shown and in what moment, ``head.py`` is their shape, ``rendering.py`` makes the
picture. Eyes stand on CelebA's by construction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import Face, Request, Skipped, Source
from ifrp_bench.sources.procedural.traits import draw_traits

VERSION = 1   # part of every digest: another renderer makes other faces
GPU_BATCH = 16


@dataclass(frozen=True)
class RenderedFaces:
    """``identities`` people with ``faces_per_identity`` pictures each, rendered when they are read."""

    identities: int
    faces_per_identity: int
    seed: int
    device: str
    official = False

    def faces(self) -> list[Face]:
        """Person by person, picture by picture."""
        pictures = range(self.faces_per_identity)
        return [
            Face(f"p{person:06d}-{picture:02d}", person)
            for person in range(self.identities)
            for picture in pictures
        ]

    def skipped(self) -> list[Skipped]:
        """Nothing is left out."""
        return []

    def read(self, face: Face) -> np.ndarray:
        """The rendered face, uint8 (218, 178, 3)."""
        return self._render([face])[0]

    def read_many(self, faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
        """On a CPU one at a time, whose maps stay in the cache; on a GPU in batches."""
        size = GPU_BATCH if self.device == "cuda" else 1
        parts = [faces[start:start + size] for start in range(0, len(faces), size)]
        return np.concatenate([self._render(part) for part in parts])

    def _render(self, faces: Sequence[Face]) -> np.ndarray:
        from ifrp_bench.sources.procedural.rendering import render   # torch: when a face is asked for

        traits = [draw_traits(self.seed, face.identity, int(face.name[-2:])) for face in faces]
        return render(traits, self.device)

    def broken(self, face: Face) -> str:
        """Every face can be rendered."""
        return ""

    def digest(self, face: Face) -> str:
        """The renderer's version and the seed: a face's name says the rest."""
        return f"procedural {VERSION} {self.seed}"


def open_rendered(request: Request) -> RenderedFaces:
    """As many people as the counts need: one each for validation and test faces, ``faces_per_identity``
    pictures of each trained on.

    Raises InputError for counts that are ``auto``: rendered faces have no end.
    """
    counts = [request.train_faces, request.val_faces, request.test_faces]
    if not all(isinstance(count, int) for count in counts):
        raise InputError(
            f"recipe {request.recipe}: rendered faces have no end, so train_faces, val_faces and test_faces"
            " are numbers, not 'auto'"
        )
    train, val, test = (int(count) for count in counts)
    people = -(-train // request.faces_per_identity) + val + test
    if request.split == "random-image":
        people = -(-(train + val + test) // request.faces_per_identity)
    return RenderedFaces(max(people, 1), request.faces_per_identity, request.seed, request.device)


SOURCE = Source(open_rendered, rendered=True)

"""A source of faces of one's own: here pictures that are drawn on the spot, colour gradients in place of
faces.

    ifrp-bench synth docs/examples/gradients.toml --out data/gradients
"""

from dataclasses import dataclass

import numpy as np

from ifrp_bench.sources import Face, Source, read_each


@dataclass(frozen=True)
class Gradients:
    """``people`` colours, two pictures of each."""

    people: int
    official = False   # the source has no partition of its own: people are dealt to the splits

    def faces(self):
        """Every face, in a fixed order, with the person on it."""
        return [
            Face(f"{person:03d}-{picture}", person) for person in range(self.people) for picture in range(2)
        ]

    def skipped(self):
        """Nothing is left out."""
        return []

    def read(self, face):
        """A picture in CelebA's frame, uint8 (218, 178, 3)."""
        y, x = np.mgrid[:218, :178]
        number = int(face.name[-1])
        return np.stack([(x + 37 * face.identity) % 256, y, (x + y + 90 * number) % 256], 2).astype(np.uint8)

    def read_many(self, faces, map_faces):
        """Several at once, over threads where there are some."""
        return read_each(self.read, faces, map_faces)

    def broken(self, face):
        """Why a face cannot be read: each of these can."""
        return ""

    def digest(self, face):
        """Changes when what is drawn changes."""
        return "gradients 1"


SOURCE = Source(lambda request: Gradients(people=12))

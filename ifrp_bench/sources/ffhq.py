"""FFHQ (Karras et al. 2019) as its thumbnails, 128x128: ``thumbnails128x128/00000/00000.png`` and on.

It says nothing of who is on a picture, so every picture is a person of its own; the folders of a thousand
are no people. Faces are found and brought into CelebA's frame as those of a ``folder``. Nothing is
downloaded.
"""

from pathlib import Path

from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import Face, Request, Source
from ifrp_bench.sources.folder import FolderFaces, open_folder

FOLDER = "thumbnails128x128"   # as FFHQ distributes it


class FFHQFaces(FolderFaces):
    """Photographs each of which is somebody else."""

    def faces(self) -> list[Face]:
        return [Face(face.name, number, note=face.note) for number, face in enumerate(super().faces())]


def folder_of(root: Path) -> Path:
    """The folder of the thumbnails: ``root`` itself or in it.

    Raises InputError where there are no folders of pictures named by their numbers.
    """
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    numbered = [path for path in folder.glob("*/") if path.name.isdigit() and any(path.glob("*.png"))]
    if not numbered:
        raise InputError(
            f"{root}: no FFHQ; --faces wants its folder {FOLDER}, with 00000/00000.png and on, as its authors"
            " distribute it"
        )
    return folder


def _open(request: Request) -> FFHQFaces:
    assert request.folder and request.landmarks
    folder = folder_of(request.folder)
    found = open_folder(folder, landmarks=request.landmarks, workers=request.workers, quiet=request.quiet)
    return FFHQFaces(folder, found.found)


SOURCE = Source(_open, folder=f"FFHQ's folder {FOLDER}")

"""CelebA (Liu et al. 2015), aligned and cropped: the standard folder, its pictures loose or in their zip,
which is read in place.

Expected in the folder: ``img_align_celeba/`` or ``img_align_celeba.zip`` (also as mirrors pack it, a folder
within the folder) or, as PNG, ``img_align_celeba_png/``; ``identity_CelebA.txt``,
``list_eval_partition.txt``, and, where a recipe filters by attributes, ``list_attr_celeba.txt``. If
``list_landmarks_align_celeba.txt`` is there, the mean eyes are checked against the template. Nothing is
downloaded.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import read_lines
from ifrp_bench.ground.images import PictureError, decode_picture, read_bytes
from ifrp_bench.ground.warp import FRAME_PX, TEMPLATE_PX
from ifrp_bench.sources import Face, Request, Skipped, Source, read_each

JPEG, PNG = "img_align_celeba", "img_align_celeba_png"   # folders of its two published forms
PARTITIONS = {"0": "train", "1": "val", "2": "test"}
TEMPLATE_TOLERANCE_PX = 3.0   # of the mean landmarks over the whole list


class CelebAFaces:
    """CelebA's faces with their identities and official partition."""

    official = True

    def __init__(
        self, root: Path, faces: list[Face], skipped: list[Skipped], archive: tuple[Path, str] | None
    ) -> None:
        self.root = root
        self._faces = faces
        self._skipped = skipped
        self._archive = archive   # the zip and the folder inside it, or None for loose files
        self._png = (root / PNG).is_dir() and not (root / JPEG).is_dir() and archive is None
        self._zip: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_zip": None}   # an open file does not travel to another process

    def faces(self) -> list[Face]:
        return self._faces

    def skipped(self) -> list[Skipped]:
        return self._skipped

    def read(self, face: Face) -> np.ndarray:
        picture = decode_picture(self._bytes(face))
        if picture.shape[1::-1] != FRAME_PX:
            raise PictureError(
                f"{picture.shape[1]}x{picture.shape[0]}, CelebA's aligned pictures are 178x218"
            )
        return picture

    def read_many(self, faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
        return read_each(self.read, faces, map_faces)

    def broken(self, face: Face) -> str:
        try:
            self.read(face)
        except PictureError as error:
            return str(error)
        return ""

    def digest(self, face: Face) -> str:
        return hashlib.sha256(self._bytes(face)).hexdigest()

    def _bytes(self, face: Face) -> bytes:
        if self._archive is None:
            # the lists name every picture .jpg, whichever form it has
            name = Path(face.name).with_suffix(".png").name if self._png else face.name
            return read_bytes(self.root / (PNG if self._png else JPEG) / name)
        path, folder = self._archive
        self._zip = self._zip or zipfile.ZipFile(path)
        try:
            return self._zip.read(folder + face.name)
        except KeyError:
            raise PictureError(f"not in {path.name}") from None
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise PictureError(f"broken in {path.name}: {error}") from None


def open_celeba(root: Path, *, exclude_attributes: tuple[str, ...] = ()) -> CelebAFaces:
    """Open CelebA's folder; faces with any of ``exclude_attributes`` are left out.

    Raises InputError that names the file that is missing or not as CelebA publishes it.
    """
    archive = _pictures(root)
    identity = {name: int(number) for name, number in _pairs(root / "identity_CelebA.txt")}
    partition = dict(_pairs(root / "list_eval_partition.txt"))
    excluded = (
        _with_attributes(root / "list_attr_celeba.txt", exclude_attributes, set(partition))
        if exclude_attributes
        else {}
    )
    _check_template(root / "list_landmarks_align_celeba.txt")
    faces, skipped = [], []
    for name in sorted(partition):
        if name in excluded:
            skipped.append(Skipped(name, f"left out by the recipe: {excluded[name]}"))
        elif name not in identity:
            skipped.append(Skipped(name, "no identity in identity_CelebA.txt"))
        elif partition[name] not in PARTITIONS:
            raise InputError(
                f"{root / 'list_eval_partition.txt'}: partition {partition[name]!r} of {name}, expected 0, 1"
                " or 2"
            )
        else:
            faces.append(Face(name, identity[name], PARTITIONS[partition[name]]))
    unlisted = sorted(identity.keys() - partition.keys())
    if unlisted:   # the list was cut short
        lacks = f"it lacks {len(unlisted)} pictures of identity_CelebA.txt ({unlisted[0]}, ...)"
        raise InputError(f"{root / 'list_eval_partition.txt'}: {lacks}; download it again")
    return CelebAFaces(root, faces, skipped, archive)


def _pictures(root: Path) -> tuple[Path, str] | None:
    folder = root / JPEG
    if not folder.is_dir() and (root / PNG).is_dir():
        return None
    if folder.is_dir():
        if (folder / folder.name).is_dir():   # as some mirrors pack it
            raise InputError(
                f"{folder / folder.name}: a folder within the folder; move its pictures up into {folder}"
            )
        return None
    path = root / "img_align_celeba.zip"
    if not path.is_file():
        raise InputError(
            f"{root}: neither img_align_celeba/, its .zip nor {PNG}/ is here; --faces wants CelebA's"
            " folder (aligned and cropped pictures with identity_CelebA.txt and list_eval_partition.txt), as"
            " its authors distribute it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: not a complete zip file ({error}); download it again") from None
    return path, _folder_in(names, path)


def _folder_in(names: list[str], path: Path) -> str:
    """The folder inside of a zip in which the pictures lie: none, one, or one in another.

    Raises InputError where there are pictures in several.
    """
    folders = {name.rpartition("/")[0] for name in names if name.endswith(".jpg") and "__MACOSX" not in name}
    if len(folders) > 1:
        raise InputError(
            f"{path}: pictures in {len(folders)} folders ({', '.join(sorted(folders)[:3])}, ...); expected"
            " them in one, as CelebA's authors pack them"
        )
    folder = next(iter(folders), "")
    return f"{folder}/" if folder else ""


def _lines(path: Path) -> list[str]:
    return read_lines(path, missing="CelebA distributes it beside the pictures")


def _pairs(path: Path) -> list[tuple[str, str]]:
    pairs = [line.split() for line in _lines(path) if line.strip()]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not pair[1].isdigit():
            raise InputError(
                f"{path}: line {number} is {' '.join(pair)[:60]!r}, expected a file name and a number"
            )
    return [(name, value) for name, value in pairs]


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """CelebA's lists with a header: the count, the column names, then a name and its values a line."""
    lines = _lines(path)
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise InputError(
            f"{path}: expected CelebA's list (a count, the column names, then one line a picture)"
        )
    columns, rows = lines[1].split(), [line.split() for line in lines[2:] if line.strip()]
    if len(rows) != int(lines[0]):
        raise InputError(
            f"{path}: {len(rows)} pictures are listed, its first line says {int(lines[0])}; download it again"
        )
    return columns, rows


def _with_attributes(path: Path, attributes: tuple[str, ...], names: set[str]) -> dict[str, str]:
    """Pictures that have any of the attributes, each with those it has; all of ``names`` are to be listed."""
    columns, rows = _table(path)
    for number, row in enumerate(rows, 3):
        if len(row) != len(columns) + 1:
            wanted = f"the header has {len(columns)}"
            raise InputError(f"{path}: line {number} has {len(row) - 1} values, {wanted}; download it again")
    unknown = [name for name in attributes if name not in columns]
    if unknown:
        raise InputError(f"{path}: no attribute {unknown[0]!r}; it has {', '.join(columns)}")
    chosen = [(name, columns.index(name) + 1) for name in attributes]
    missing = sorted(names - {row[0] for row in rows})
    if missing:
        lacks = f"it lacks {len(missing)} pictures of the other lists ({missing[0]}, ...)"
        raise InputError(f"{path}: {lacks}; download it again")
    having = {row[0]: ", ".join(name for name, index in chosen if row[index] == "1") for row in rows}
    return {name: having_names for name, having_names in having.items() if having_names}


def _check_template(path: Path) -> None:
    """Hold the template's eyes to the mean of CelebA's own landmarks, where the list is at hand."""
    if not path.exists():
        return
    _, rows = _table(path)
    means = np.array([[float(value) for value in row[1:11]] for row in rows]).mean(0).reshape(5, 2)
    worst = float(np.abs(means - TEMPLATE_PX).max())
    if worst > TEMPLATE_TOLERANCE_PX:
        raise InputError(
            f"{path}: its mean landmarks are {worst:.1f} px from CelebA's aligned frame (at most"
            f" {TEMPLATE_TOLERANCE_PX:.0f} expected); are these the aligned and cropped pictures?"
        )


def _open(request: Request) -> CelebAFaces:
    assert request.folder
    return open_celeba(request.folder, exclude_attributes=request.exclude_attributes)


SOURCE = Source(_open, folder="CelebA's folder", attributes=True)

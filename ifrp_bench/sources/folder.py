"""Photographs in a folder: one sub-folder per identity (LFW's layout), or one flat folder in which every
photograph is its own identity.

Faces are found by MTCNN and brought into CelebA's frame by the eyes. What was found is kept in
``landmarks.csv``, keyed by the photograph's sha256, so that the search is done once; what was left out is
named with its reason.
"""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote, unquote_to_bytes

import numpy as np
from tqdm import tqdm

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import hold
from ifrp_bench.ground.images import SUFFIXES, PictureError, decode_picture, read_bytes
from ifrp_bench.ground.warp import TEMPLATE_PX, align_by_eyes, eyes_similarity
from ifrp_bench.ground.workers import map_in_order
from ifrp_bench.sources import Eyes, Face, Request, Searching, Skipped, Source, read_each

OTHER_FACE_PX = 10.0   # a second look this far from the first, in the frame, is at somebody else
# of those looks: boxes of the frame, (5, 4), around where MTCNN has the face of a photograph that is aligned
LOOKS_PX = np.array(
    [(87.4 + dx - 46, 121.7 + dy - 46, 87.4 + dx + 46, 121.7 + dy + 46)
     for dx, dy in ((0, 0), (5, 0), (-5, 0), (0, 5), (0, -5))]
)
# folders that hold what this project made: their previews and sheets are no photographs
MADE_BY_US = ("dataset.json", "run.json", "results.json", "recovered.csv")
# pictures that are not read; they are named as left out rather than passed over
UNREAD_SUFFIXES = {
    ".heic", ".heif", ".jxl", ".jp2", ".tga", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw",
}
SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}
# under half of the frame's 38 px: the picture would be mostly invented by interpolation
MIN_EYE_DISTANCE_PX = 16.0
PLAIN = re.compile(r"[A-Za-z0-9_.\-~/]+")   # what a name keeps as it is
FEW_PHOTOGRAPHS = 20   # a worker, which takes two seconds to start, is to have more of them


@dataclass(frozen=True)
class Found:
    """A line of ``landmarks.csv``: what was found in one photograph.

    ``reason`` is empty where its face can be used.
    """

    file: str
    sha256: str
    faces: int = 0
    probability: float = 0.0
    left_eye_x: float = 0.0
    left_eye_y: float = 0.0
    right_eye_x: float = 0.0
    right_eye_y: float = 0.0
    reason: str = ""

    @property
    def eyes(self) -> np.ndarray:
        """(2, 2) px: x and y of the left and of the right one."""
        return np.array([[self.left_eye_x, self.left_eye_y], [self.right_eye_x, self.right_eye_y]])


class FolderFaces:
    """Faces of a folder of photographs.

    ``found`` maps each file, by its path under ``root``, to what was found in it.
    """

    official = False

    def __init__(self, root: Path, found: dict[str, Found]) -> None:
        self.root = root
        self.found = found

    def faces(self) -> list[Face]:
        people = {
            person: number for number, person in enumerate(sorted({_person(file) for file in self.found}))
        }
        return [
            Face(_name(file), people[_person(file)], note=_note(found))
            for file, found in sorted(self.found.items())
            if not found.reason
        ]

    def skipped(self) -> list[Skipped]:
        return [
            Skipped(_name(file), found.reason) for file, found in sorted(self.found.items()) if found.reason
        ]

    def read(self, face: Face) -> np.ndarray:
        found = self._found(face)
        data = read_bytes(self.root / found.file)
        if hashlib.sha256(data).hexdigest() != found.sha256:
            raise PictureError("changed since its face was found; start again to search it anew")
        return align_by_eyes(decode_picture(data), *found.eyes)

    def read_many(self, faces: Sequence[Face], map_faces: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
        return read_each(self.read, faces, map_faces)

    def broken(self, face: Face) -> str:
        return ""   # every photograph was decoded when its face was searched

    def digest(self, face: Face) -> str:
        found = self._found(face)
        return f"{found.sha256}:{found.left_eye_x},{found.left_eye_y},{found.right_eye_x},{found.right_eye_y}"

    def _found(self, face: Face) -> Found:
        return self.found[_file(face.name)]


def open_folder(
    root: Path, *, landmarks: Path, eyes: Mapping[str, Eyes] | None = None, workers: int = 0,
    quiet: bool = False,
) -> FolderFaces:
    """Find the face in every photograph under ``root`` and open the folder as a source.

    What ``landmarks`` already knows is not searched again, nor what has its ``eyes`` given, by sha256.

    Raises InputError if there is no such folder or no photograph in it.
    """
    search = Search(root, landmarks, eyes or {}, workers, quiet)
    return FolderFaces(root, search.of(search.files()))


class Search:
    """The search for faces in a folder's photographs, and its cache."""

    def __init__(
        self, root: Path, landmarks: Path, eyes: Mapping[str, Eyes], workers: int, quiet: bool
    ) -> None:
        self.root, self.landmarks, self.eyes, self.workers, self.quiet = root, landmarks, eyes, workers, quiet
        self.known = {found.file: found for found in read_landmarks(landmarks)}

    def files(self) -> list[str]:
        """Every photograph. Raises InputError where there is no such folder or none in it."""
        if not self.root.is_dir():
            wanted = "--faces wants a folder of photographs, one sub-folder per person"
            raise InputError(f"{self.root}: no such folder; {wanted}")
        files = list_photographs(self.root, unread=True)
        if not files:
            kinds = ", ".join(sorted(SUFFIXES))
            raise InputError(f"{self.root}: no picture ({kinds}) in it or in its sub-folders")
        return files

    def of(self, files: Sequence[str]) -> dict[str, Found]:
        """What is found in each; new lines are added to the cache as they come."""
        found = {}
        with _Appender(self.landmarks) as cache:
            results = map_in_order(
                _find,
                ((file, self.known.get(file)) for file in files),
                workers=min(self.workers, len(files) // FEW_PHOTOGRAPHS),
                initializer=_set_up,
                arguments=(self.root, self.eyes),
            )
            bar = tqdm(results, "faces found", len(files), unit="photo", disable=self.quiet, smoothing=0.02)
            for line in bar:
                found[line.file] = line
                known = self.known.get(line.file)
                if line.sha256 not in self.eyes and line is not known and line != known:
                    cache.add(line)
        return found


class SoughtFaces(FolderFaces, Searching):
    """Faces of a folder that are searched as a plan asks for them: nothing but names is read before.

    What a plan comes to depends on the names, its seed and the photographs' contents, not on what was
    searched before.
    """

    def __init__(self, root: Path, search: Search) -> None:
        super().__init__(root, {})
        self.search = search
        self.files = search.files()
        self.asked: dict[str, str] = {}   # and why each cannot be used
        self.first: dict[str, str] = {}   # who has a content, of those that can

    def faces(self) -> list[Face]:
        """Every photograph, by name."""
        people = [_person(file) for file in self.files]
        numbers = {person: number for number, person in enumerate(sorted(set(people)))}
        return [Face(_name(file), numbers[person]) for file, person in zip(self.files, people)]

    def note(self, face: Face) -> str:
        """Where there were several faces."""
        return _note(self._found(face))

    def skipped(self) -> list[Skipped]:
        """Of those that were asked for."""
        return [Skipped(_name(file), reason) for file, reason in sorted(self.asked.items()) if reason]

    def look_at(self, faces: Sequence[Face]) -> None:
        """Search them over the workers."""
        new = [file for file in (_file(face.name) for face in faces) if file not in self.found]
        if new:
            self.found |= self.search.of(new)

    def broken(self, face: Face) -> str:
        """Why its photograph cannot be used: nothing found, or somebody else's picture."""
        file = _file(face.name)
        self.look_at([face])
        found = self.found[file]
        other = self.first.setdefault(found.sha256, file) if not found.reason else file
        self.asked[file] = found.reason or (
            _other_name(other) if _person(other) != _person(file) else ""
        )
        return self.asked[file]

    def __getstate__(self) -> dict[str, Any]:
        """Workers read what was found."""
        return {"root": self.root, "found": self.found}


def list_photographs(root: Path, *, unread: bool = False) -> list[str]:
    """Pictures directly in ``root`` and in its sub-folders, as sorted paths relative to it; with ``unread``
    also what is not read: other formats, and links to folders, which may lead in a circle.

    Hidden files and folders are passed over, and folders of data sets, runs and results.
    """
    suffixes = SUFFIXES | (UNREAD_SUFFIXES if unread else set())
    files = []
    for folder, names, pictures in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if Path(folder) != root and any(name in pictures for name in MADE_BY_US):
            names.clear()
            continue
        if unread:
            linked = (path for path in (Path(folder, name) for name in names) if path.is_symlink())
            files += [path.relative_to(root).as_posix() for path in linked]
        for picture in pictures:
            path = Path(folder, picture)
            if not picture.startswith(".") and path.suffix.lower() in suffixes:
                files.append(path.relative_to(root).as_posix())
    return sorted(files)


def _check_people(root: Path) -> None:
    """Raises InputError where the folders that stand for people are the parts of a data set: before any
    search.
    """
    parts = [path for path in root.glob("*/") if path.name.lower() in SPLIT_FOLDERS]
    split = sorted(
        path.name for path in parts if any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    )
    if split:
        raise InputError(
            f"{root}: {', '.join(split)} would be a person each, since a sub-folder is a person; expected"
            f" {split[0]}/PERSON/PICTURE, or name {root / split[0]} itself if everyone is on one picture"
        )


def _one_person_each(found: dict[str, Found]) -> dict[str, Found]:
    """A picture that lies under two people's names is taken once: whose it is, nobody knows."""
    first: dict[str, str] = {}
    for file, line in sorted(found.items()):
        if line.reason or not line.sha256:
            continue
        other = first.setdefault(line.sha256, file)
        if _person(other) != _person(file):
            found[file] = replace(line, reason=_other_name(other))
    return found


def _other_name(other: str) -> str:
    return f"the same picture as {other}, under another name"


def _note(found: Found | None) -> str:
    return f"{found.faces} faces, the most central taken" if found and found.faces > 1 else ""


def _name(file: str) -> str:
    """A face's name: its file, percent-encoded where it is not ASCII."""
    return file if PLAIN.fullmatch(file) else quote(os.fsencode(file))


def _file(name: str) -> str:
    """The file of a face's name."""
    return os.fsdecode(unquote_to_bytes(name)) if "%" in name else name


def _person(file: str) -> str:
    """Who is on it: its folder, or, in a flat folder, the file itself.

    In a folder that is divided into train, test and the like, a person is the same one in each of them.
    """
    parts = file.split("/")
    if len(parts) > 2 and parts[0].lower() in SPLIT_FOLDERS:
        parts = parts[1:]
    return "/".join(parts[:-1]) or file


_root, _eyes = Path(), cast(Mapping[str, Eyes], {})


def _set_up(root: Path, eyes: Mapping[str, Eyes]) -> None:
    global _root, _eyes   # of each worker process, set once
    _root, _eyes = root, eyes


def _find(job: tuple[str, Found | None]) -> Found:
    file, known = job
    try:
        path = _root / file
        if not path.is_dir() and not path.resolve().is_relative_to(_root.resolve()):
            raise PictureError("a link that leads out of the folder")
        data = read_bytes(path)
    except PictureError as error:
        return Found(file, "", reason=str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    given = _eyes.get(sha256)
    if given is None and known and known.sha256 == sha256:
        return known
    try:
        if given is not None:
            decode_picture(data)
            return Found(file, sha256, 1, 1.0, *given)
        return find_in(decode_picture(data), file, sha256)
    except PictureError as error:
        return Found(file, sha256, reason=str(error))


def find_in(picture: np.ndarray, file: str, sha256: str) -> Found:
    """The most central face in a picture, or the reason why there is none to use."""
    from ifrp_bench.nets.detector import find_faces

    faces = find_faces(picture)
    if not faces:
        return Found(file, sha256, reason="no face found")
    face = faces[0]
    eyes = face.landmarks_px[:2]
    distance = float(np.hypot(*(eyes[1] - eyes[0])))
    reason = ""
    if distance < MIN_EYE_DISTANCE_PX:
        reason = f"face too small: eyes {distance:.0f} px apart, {MIN_EYE_DISTANCE_PX:.0f} needed"
    (lx, ly), (rx, ry) = (eyes if reason else _looked_at_again(picture, eyes)).round(2).tolist()
    return Found(file, sha256, len(faces), face.probability, lx, ly, rx, ry, reason)


def _looked_at_again(picture: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """The eyes, (2, 2) px, as the mean of six looks: the one at the photograph, and five at the face aligned
    by that, each through another box.

    One look is off by one to three pixels of the frame, in a direction that depends on where its box lies. On
    96 rendered faces, whose eyes are known, the mean has 82 % of the eyes within 2 px, one look 63 %. A look
    that finds another face does not count.
    """
    from ifrp_bench.nets.mtcnn import landmarks_in

    frame = align_by_eyes(picture, *eyes)
    back = eyes_similarity(*TEMPLATE_PX[:2], *eyes)   # frame to photograph
    seen = landmarks_in(frame, LOOKS_PX)[:, :2]
    seen = seen[np.abs(seen - TEMPLATE_PX[:2]).max((1, 2)) < OTHER_FACE_PX]
    return np.mean([eyes, *(seen @ back[:, :2].T + back[:, 2])], axis=0)   # type: ignore[no-any-return]


def read_landmarks(path: Path) -> list[Found]:
    """The lines of a landmarks file; none if there is no file.

    A last line that a killed run left half-written is ignored.
    """
    if not path.exists():
        return []
    columns = [field.name for field in fields(Found)]
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        if not file.readline().endswith("\n"):   # killed before its first line was whole
            return []
        file.seek(0)
        rows = csv.reader(file)
        if next(rows, None) != columns:
            raise InputError(
                f"{path}: not a landmarks file (expected the columns {', '.join(columns)}); remove it to"
                " search the faces anew"
            )
        return [_parse(row) for row in rows if len(row) == len(columns)]


def _parse(row: list[str]) -> Found:
    file, sha256, faces, probability, *eyes, reason = row
    left_x, left_y, right_x, right_y = map(float, eyes)
    return Found(file, sha256, int(faces), float(probability), left_x, left_y, right_x, right_y, reason)


class _Appender:
    """Adds lines to a landmarks file as they come, so that a killed run loses at most the last one.

    Opened when there is something to add: a search that finds everything known writes nothing. Raises
    InputError while another search writes there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: TextIO | None = None

    def __enter__(self) -> "_Appender":
        return self

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a+", newline="", encoding="utf-8", errors="surrogateescape")
        if not hold(self.file):
            raise InputError(
                f"{self.path}: another search is writing there; wait for it, or name another --landmarks"
            )
        self.file.seek(0)
        text = self.file.read()
        whole = text.rfind("\n") + 1
        # a line that a killed run left unfinished
        self.file.truncate(len(text[:whole].encode("utf-8", "surrogateescape")))
        self.writer = csv.writer(self.file, lineterminator="\n")
        if not whole:
            self.writer.writerow(field.name for field in fields(Found))

    def add(self, found: Found) -> None:
        if self.file is None:
            self._begin()
        assert self.file
        self.writer.writerow(asdict(found).values())
        self.file.flush()

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()


def _open(request: Request) -> FolderFaces:
    assert request.folder and request.landmarks
    _check_people(request.folder)
    if request.as_needed:
        search = Search(request.folder, request.landmarks, request.eyes, request.workers, request.quiet)
        return SoughtFaces(request.folder, search)
    found = open_folder(
        request.folder, landmarks=request.landmarks, eyes=request.eyes, workers=request.workers,
        quiet=request.quiet,
    )
    return FolderFaces(request.folder, _one_person_each(found.found))


SOURCE = Source(_open, folder="a folder of photographs", searched=True)

"""Picture files and folders of any origin through a method, into a folder of recovered faces.

Every picture's faces are written, ``recovered.csv`` says how each was found; a picture that is done already,
with the same weights and wishes, is not done again. Pictures are worked on side by side, one thread a core.
"""

import csv
import hashlib
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.images import (
    SUFFIXES, PictureError, decode_picture, encode_png, read_bytes, read_picture, tile,
)
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.ground.workers import default_workers, on_threads
from ifrp_bench.methods import Usable
from ifrp_bench.recovery.faces import Framed, frame_faces, put_back, shown
from ifrp_bench.recovery.trained import recover
from ifrp_bench.sources.folder import list_photographs

ROWS = "recovered.csv"
SHEET = "contact-sheet.png"
SHEET_FACES = 200   # at most, of a contact sheet
SHEET_COLUMNS = 8
KEEPING = 20   # times as long as writing all rows takes passes until they are written again
PICTURES_AT_ONCE = 4   # a core: then they are written, and the next are read
LONGEST_NAME = 200   # bytes of a picture's name that its faces' names keep
STREAM = Path("-")


@dataclass(frozen=True)
class Wishes:
    """What is made of each picture: see ``frame_faces`` for ``crop`` and ``every``; ``compare`` writes the
    face beside the SF, ``paste`` the picture with the face put back.
    """

    crop: str = "auto"
    every: bool = False
    compare: bool = False
    paste: bool = False
    bfloat16: bool = False


@dataclass(frozen=True)
class Row:
    """A line of ``recovered.csv``: one face, or the reason why a picture gave none.

    ``face`` is the file written, relative to the folder; empty for a picture that gave none.
    """

    file: str
    face: str = ""
    left: str = ""
    top: str = ""
    right: str = ""
    bottom: str = ""
    probability: str = ""
    angle_deg: str = ""
    note: str = ""
    sha256: str = ""   # of the picture
    made_with: str = ""   # a hash of weights and wishes


@dataclass(frozen=True)
class Job:
    """A picture to be: its file (``-`` is standard input), and where its faces go, without a suffix."""

    path: Path
    base: Path


def find_pictures(paths: Iterable[Path], out: Path) -> list[Job]:
    """The pictures that files and folders name, with names for their faces under ``out``.

    A folder is searched whole, its structure kept; what lies in ``out`` is not searched. Where two would be
    of one name, or a picture that is named would be written over, a number is added. Raises InputError for a
    folder without pictures.
    """
    found: list[tuple[Path, Path]] = []   # file, and its place under out
    for path in paths:
        if not path.is_dir():
            found.append((path, Path(path.stem if path != STREAM else "stdin")))
            continue
        inside = [
            Path(file)
            for file in list_photographs(path, unread=True)
            if not (path / file).resolve().is_relative_to(out.resolve())
        ]
        if not inside:
            kinds = ", ".join(sorted(SUFFIXES))
            raise InputError(f"{path}: no run here (no run.json), and no picture ({kinds}) in it either")
        found += [(path / file, file.with_suffix("")) for file in inside]
    return list(_named(found, out))


def _named(found: Sequence[tuple[Path, Path]], out: Path) -> Iterator[Job]:
    """Each with a base that no other has and under which no picture that is named would be written over."""
    kept = {_place(path) for path, _ in found if path.exists()}
    used: set[Path] = set()
    named_in: dict[Path, list[str]] = {}   # folder of bases, to the files in it that are pictures named
    for path, full in found:
        place = full.with_name(_fitting(full.name))
        folder = (out / place).parent
        if folder not in named_in:   # looked through once, however many pictures go there
            named_in[folder] = [file.name for file in _files(folder) if _place(file) in kept]
        numbered = chain([place], (place.with_name(f"{place.name}-{number}") for number in count(2)))
        base = next(
            out / name for name in numbered
            if out / name not in used and not any(_is_made_of(name.name, file) for file in named_in[folder])
        )
        used.add(base)
        yield Job(path, base)


def _files(folder: Path) -> list[Path]:
    """What lies in a folder, links that lead nowhere left out; nothing where it is not there."""
    return [path for path in folder.iterdir() if path.exists()] if folder.is_dir() else []


def _fitting(name: str) -> str:
    """A name that leaves room for what is added to it; a file system takes 255 bytes."""
    data = os.fsencode(name)
    if len(data) <= LONGEST_NAME:
        return name
    start = data[:LONGEST_NAME - 9].decode("utf-8", "ignore")
    return f"{start}-{hashlib.sha256(data).hexdigest()[:8]}"


def _is_made_of(base: str, file: str) -> bool:
    """Whether a picture of this base may be written to a file of this name."""
    if file in (f"{base}.png", f"{base}-compared.png", f"{base}-pasted.png"):
        return True
    return file.startswith(f"{base}-face") and file.endswith(".png")


def _place(path: Path) -> tuple[int, int]:
    """What a file is on its disk, whatever name or link leads to it."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino


class Recovery:
    """A method's pictures: ``rows`` does them. ``weights`` is the hash of what the method was made of."""

    def __init__(
        self, method: Usable, out: Path, wishes: Wishes, *, weights: str = "", device: str = "cpu"
    ) -> None:
        self.method, self.out, self.wishes, self.device = method, out, wishes, device
        self.made_with = hashlib.sha256(f"{weights} {wishes}".encode()).hexdigest()[:12]
        exact_float32(device)

    def rows(self, jobs: Sequence[Job]) -> Iterator[list[Row]]:
        """The rows of each picture, in order, as they are done; ``recovered.csv`` has them at the end,
        however it ends, and on the way all but the last seconds' (a twentieth of the time goes into that).
        """
        self.out.mkdir(parents=True, exist_ok=True)
        before = {
            file: list(rows)
            for file, rows in _by_file(read_rows(self.out)).items()
            if all(row.face and (self.out / row.face).is_file() for row in rows)
        }
        done: dict[str, list[Row]] = {}

        def keep() -> float:
            """Write what is done; returns when to write again."""
            begun = time.monotonic()
            write_rows(self.out, chain.from_iterable((before | done).values()))
            return time.monotonic() + KEEPING * (time.monotonic() - begun)

        at_once, due, kept = PICTURES_AT_ONCE * (default_workers() or 1), 0.0, 0
        try:
            for start in range(0, len(jobs), at_once):
                batch = jobs[start:start + at_once]
                made = on_threads(lambda job: self._one(job, before.get(str(job.path), [])), batch)
                for job, rows in zip(batch, made):
                    done[str(job.path)] = rows
                    yield rows
                if time.monotonic() >= due:
                    due, kept = keep(), len(done)
        finally:
            if len(done) > kept:
                keep()

    def _one(self, job: Job, before: list[Row]) -> list[Row]:
        """A picture's rows: those of before where nothing has changed."""
        try:
            data = sys.stdin.buffer.read() if job.path == STREAM else read_bytes(job.path)
            sha256 = hashlib.sha256(data).hexdigest()
            if before and all((row.sha256, row.made_with) == (sha256, self.made_with) for row in before):
                return before
            picture = decode_picture(data)
            framed = frame_faces(picture, self.wishes.crop, every=self.wishes.every)
        except PictureError as error:
            return [Row(str(job.path), note=f"Error: {error}")]

        # faces of a picture together
        stylized = np.stack([face.stylized for face in framed])
        faces = recover(self.method, stylized, device=self.device, bfloat16=self.wishes.bfloat16)
        numbers = [f"-face{number}" for number in range(1, len(framed) + 1)] if len(framed) > 1 else [""]
        rows = [
            replace(self._write(job, number, one, face), sha256=sha256, made_with=self.made_with)
            for number, one, face in zip(numbers, framed, faces)
        ]
        if self.wishes.paste:
            self._paste(job, picture, framed, faces)
        return rows

    def _write(self, job: Job, number: str, framed: Framed, face: np.ndarray) -> Row:
        """One face's files; returns its row."""
        path = job.base.with_name(f"{job.base.name}{number}.png")
        write_whole(path, encode_png(shown(face)))
        if self.wishes.compare:
            both = tile([[shown(framed.stylized), shown(face)]])
            write_whole(path.with_name(f"{path.stem}-compared.png"), encode_png(both))
        row = Row(str(job.path), path.relative_to(self.out).as_posix(), note=framed.note)
        if framed.box_px is None or framed.angle_deg is None:
            return row
        left, top, right, bottom = (f"{value:.0f}" for value in framed.box_px)
        return replace(
            row, left=left, top=top, right=right, bottom=bottom,
            probability=f"{framed.probability:.4f}", angle_deg=f"{framed.angle_deg:.1f}",
        )

    def _paste(self, job: Job, picture: np.ndarray, framed: Sequence[Framed], faces: np.ndarray) -> None:
        """The picture with its recovered faces; none where no face was found, whose place is not known."""
        placed = [(one.place, face) for one, face in zip(framed, faces) if one.place is not None]
        if not placed:
            return
        for place, face in reversed(placed):   # the most central one on top
            picture = put_back(picture, face, place)
        write_whole(job.base.with_name(f"{job.base.name}-pasted.png"), encode_png(picture))


def write_contact_sheet(out: Path, rows: Iterable[Row]) -> Path | None:
    """The comparisons of a folder side by side, from the files of faces that have one; returns its path.

    None for fewer than two. At most 200 are shown, spread over all.
    """
    compared = [(out / row.face).with_name(f"{Path(row.face).stem}-compared.png") for row in rows if row.face]
    there = [path for path in compared if path.is_file()]
    if len(there) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(there) - 1, min(len(there), SHEET_FACES)).round().astype(int))
    pictures = [read_picture(there[number])[::2, ::2] for number in chosen]
    rows_of = [pictures[start:start + SHEET_COLUMNS] for start in range(0, len(pictures), SHEET_COLUMNS)]
    write_whole(out / SHEET, encode_png(tile(rows_of)))
    return out / SHEET


def read_rows(out: Path) -> list[Row]:
    """The lines of ``recovered.csv``; none where it is not there or of other columns."""
    path = out / ROWS
    if not path.is_file():
        return []
    columns = [field.name for field in fields(Row)]
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        return [Row(**row) for row in reader] if reader.fieldnames == columns else []


def write_rows(out: Path, rows: Iterable[Row]) -> None:
    """Write ``recovered.csv``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_whole(out / ROWS, text.getvalue().encode("utf-8", "surrogateescape"))


def _by_file(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.file, []).append(row)
    return found

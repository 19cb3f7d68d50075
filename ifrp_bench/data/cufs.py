"""CUFS (Wang and Tang 2009) and CUFSF (Zhang, Wang and Tang 2011), photographs and drawings of the same
people, under the file names that their authors publish.

CUFS has three parts, each with a folder of photographs and one of sketches: CUHK's students (``f-005-01`` and
``f2-005-01-sz1``, ``m1-002-01`` and ``m1-002-01-sz1``), AR (``m-002-1`` and ``Mp-002-1-sz1``) and XM2VTS
(``000_1_1`` and ``000_1_1_sz1``). CUFSF's sketches are named by the person (``00001``), FERET's photographs
by person, pose and day (``00001fb010_930831``, in colour ``00001_930831_fb_a``). FERET has several of a
person; a list in CUFSF's archive names the one that was drawn.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import read_lines
from ifrp_bench.sources.folder import list_photographs

PROTOCOL = 694   # of CUFSF's 1,194 people are tested, 500 trained on (Zhang, Wang and Tang 2011)
DRAWN_FROM = "names_of_photos_used_for_drawing_sketches.txt"   # as it lies in CUFSF's archive
_PHOTOGRAPHS = re.compile("photo", re.IGNORECASE)
_ENDING = re.compile(r"(?:[-_]sz\d|_f02)$")   # of sketches, and of XM2VTS' photographs on some mirrors
_OF_FERET = re.compile(r"^(\d{5})_?(?:([a-z]{2})\d{3}[a-z]*_(\d{6})|(\d{6})_([a-z]{2}))")
_OF_SKETCH = re.compile(r"^([fm])2-|^([mw])p-")   # what the letter before the number has in sketches alone


def folders_of(root: Path, option: str) -> tuple[list[Path], list[Path]]:
    """The folders of drawings and of photographs under ``root``, in turn: siblings whose names differ in
    ``photo`` and ``sketch``. Where there are several pairs side by side, the one that is called cropped.

    Raises InputError where there is none, and where it is not clear which one is meant.
    """
    by_parent: dict[Path, list[tuple[Path, Path]]] = {}
    for photographs, drawings in sorted(set(_siblings(root))):
        by_parent.setdefault(photographs.parent, []).append((drawings, photographs))
    if not by_parent:
        raise InputError(
            f"{root}: no folder of photographs beside one of sketches in it; {option} wants photo/ and"
            " sketch/, photos/ and sketches/ or the like, in it or in its sub-folders"
        )
    chosen = []
    for parent, pairs in by_parent.items():
        wanted = [pair for pair in pairs if "cropped" in pair[0].name.lower()] if len(pairs) > 1 else pairs
        if len(wanted) != 1:
            named = ", ".join(photographs.name for _, photographs in pairs)
            raise InputError(
                f"{parent}: several folders of photographs ({named}); name one with --real, and its sketches"
                " with --stylized"
            )
        chosen += wanted
    return [drawings for drawings, _ in chosen], [photographs for _, photographs in chosen]


def _siblings(root: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of photographs and their sketches', at most two levels down."""
    for pattern in ("*/", "*/*/", "*/*/*/"):
        for folder in root.glob(pattern):
            if not _PHOTOGRAPHS.search(folder.name) or not list_photographs(folder):
                continue
            for word in ("sketch", "Sketch"):
                name = _PHOTOGRAPHS.sub(word, folder.name)
                for place in (name, name.replace("ketchs", "ketches")):
                    if (folder.parent / place).is_dir():
                        yield folder, folder.parent / place


def stem_of(stem: str) -> str:
    """What the names of a photograph and its sketch in CUFS have in common: ``f-005-01`` of both."""
    return _OF_SKETCH.sub(lambda found: f"{found[1] or found[2]}-", _ENDING.sub("", stem.lower()))


def person_of(stem: str) -> str:
    """The person in CUFSF: the five digits that FERET's names begin with."""
    name = stem.rsplit("/", 1)[-1]
    return name[:5] if name[:5].isdigit() else stem


def stem_of_cufsf(root: Path) -> Callable[[str], str]:
    """What the names of a sketch and its photograph in CUFSF have in common, the person. Where ``root`` has
    CUFSF's list of the photographs that were drawn, any other of FERET's keeps its own name, and so has no
    sketch.

    Raises InputError for a list that names no photograph of FERET's.
    """
    path = root / DRAWN_FROM
    if not path.is_file():
        return person_of
    listed = {_photograph(line.strip()) for line in read_lines(path)} - {None}
    if not listed:
        raise InputError(
            f"{path}: expected names of FERET's photographs (00001fb010_930831), one a line; take CUFSF's own"
        )

    def stem_of(stem: str) -> str:
        taken = _photograph(stem)
        return person_of(stem) if taken is None or taken in listed else stem

    return stem_of


def _photograph(path: str) -> tuple[str, str, str] | None:
    """Person, pose and day in a name of FERET's, grey or colour; None of any other."""
    found = _OF_FERET.match(path.rsplit("/", 1)[-1].lower())
    return (found[1], found[2] or found[5], found[3] or found[4]) if found else None


def drawn(photographs: Path, people: int) -> list[str]:
    """So many of a CUFSF's people, by the hashes of their numbers: the same ones on every machine, whatever
    else is in the folder. The protocol draws them at random and names none.

    Raises InputError where there are fewer.
    """
    stems = (Path(file).with_suffix("").as_posix() for file in list_photographs(photographs))
    there = sorted(set(map(person_of, stems)), key=_place)
    if len(there) < people:
        raise InputError(f"{photographs}: {len(there)} people, {people} asked for; lower --people")
    return there[:people]


def _place(person: str) -> str:
    return hashlib.sha256(f"CUFSF {person}".encode()).hexdigest()

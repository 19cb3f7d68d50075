"""CUFS (Wang and Tang 2009) and CUFSF (Zhang, Wang and Tang 2011), photographs and drawings of the same
people, under the file names that their authors publish.

CUFS has three parts, each with a folder of photographs and one of sketches: CUHK's students (``f-005-01`` and
``f2-005-01-sz1``, ``m1-002-01`` and ``m1-002-01-sz1``), AR (``m-002-1`` and ``Mp-002-1-sz1``) and XM2VTS
(``000_1_1`` and ``000_1_1_sz1``). CUFSF's sketches are named by the person (``00001``), FERET's photographs
by person, pose and day (``00001fb010_930831``).
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources.folder import list_photographs

PROTOCOL = 694   # of CUFSF's 1,194 people are tested, 500 trained on (Zhang, Wang and Tang 2011)
_PHOTOGRAPHS = re.compile("photo", re.IGNORECASE)
_ENDING = re.compile(r"(?:[-_]sz\d|_f02)$")   # of sketches, and of XM2VTS' photographs on some mirrors
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
    return stem[:5] if stem[:5].isdigit() else stem


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

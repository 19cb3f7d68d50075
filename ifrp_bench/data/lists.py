"""Frozen lists of test faces, so that numbers from different people are of the same faces.

A list is ``manifests/lists/NAME.toml`` (title, version, what it is of) and, where it names photographs,
``NAME.csv`` (face, sha256 and eyes, no picture). A recipe takes one as its ``test_list``: these faces are
tested, and nobody of them is trained or validated on. Three kinds:

* ``files``: photographs by name and content, and where the eyes are in each, so that they are aligned the
  same whatever a detector finds;
* ``rule``: CelebA's, whose files cannot be listed here; a rule on its official partition that picks the same
  faces on every machine;
* ``recipe``: rendered people; the recipe of the list's name makes them from nothing.

A list's ``split_sha256`` is of the test split that its recipe makes: faces, styles and misalignments. By it a
data set is known as the frozen one, whoever made it.
"""

import csv
import hashlib
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ifrp_bench.data.format import Dataset, ShardError
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import package_folder
from ifrp_bench.ground.settings import nearest
from ifrp_bench.sources import EYES, Eyes, Face, Faces

KINDS = ("files", "rule", "recipe")
TESTED = "test"


@dataclass(frozen=True)
class FrozenList:
    """A list: its ``name`` and ``version``, what kind it is, how many ``people`` it has.

    ``shards`` are hashes of the test shards by the kind of machine that made them, where that was recorded.
    """

    name: str
    title: str
    version: int
    kind: str
    people: int
    split_sha256: str = ""
    shards: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What results call it."""
        return f"{self.name}-v{self.version}"


def _folder() -> Path:
    return package_folder("manifests") / "lists"


def list_names() -> list[str]:
    """Every list that comes with the package."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


@cache
def open_list(name: str) -> FrozenList:
    """A list by name. Raises InputError for one that there is not."""
    if name not in list_names():
        raise InputError(
            f"test_list {name!r} is none of {', '.join(list_names())}{nearest(name, list_names())}"
        )
    values: dict[str, Any] = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    return FrozenList(name=name, **values)


def listed_faces(name: str) -> dict[str, str]:
    """A list's photographs: sha256 of the file by the face's name, in the list's order; none of a list that
    names no photographs.
    """
    return {row["face"]: row["sha256"] for row in _rows(name)}


def listed_eyes(name: str) -> dict[str, Eyes]:
    """The eyes in a list's photographs, by the file's sha256."""
    found: dict[str, Eyes] = {}
    for row in _rows(name):
        left_x, left_y, right_x, right_y = (float(row[column]) for column in EYES)
        found[row["sha256"]] = left_x, left_y, right_x, right_y
    return found


def _rows(name: str) -> list[dict[str, str]]:
    path = _folder() / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def choose(name: str, faces: list[Face], source: Faces) -> list[Face]:
    """The list's faces among those of a source, in the list's order.

    Raises InputError where some are not there, or are of another content.
    """
    frozen = open_list(name)
    if frozen.kind == "rule":
        return _by_rule(frozen, faces, source)
    if frozen.kind == "recipe":
        raise InputError(f"test_list {name}: these people are rendered; `ifrp-bench synth {name}` makes them")
    wanted, there = listed_faces(name), {face.name: face for face in faces}
    missing = [face for face in wanted if face not in there]
    if missing:
        raise InputError(
            f"test_list {name}: {len(missing)} of its {len(wanted)} photographs are not in the folder, or no"
            f" face was found in them ({_some(missing)}); it is of {frozen.title}"
        )
    other = [face for face, sha256 in wanted.items() if not source.digest(there[face]).startswith(sha256)]
    if other:
        raise InputError(
            f"test_list {name}: {len(other)} of its photographs have another content here ({_some(other)});"
            f" it is of {frozen.title}"
        )
    return [there[face] for face in wanted]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _by_rule(frozen: FrozenList, faces: list[Face], source: Faces) -> list[Face]:
    """Of the official test partition those people whose number's hash is smallest, each by the first of their
    pictures that can be read.
    """
    people: dict[int, list[Face]] = defaultdict(list)
    for face in faces:
        if face.partition == TESTED:
            people[face.identity].append(face)
    if not source.official or len(people) < frozen.people:
        raise InputError(
            f"test_list {frozen.name}: it is of {frozen.people} people of the official test partition, the"
            f" source has {len(people)}; it is of {frozen.title}"
        )
    chosen = []
    for identity in sorted(people, key=lambda one: _digest(frozen, one))[:frozen.people]:
        in_order = sorted(people[identity], key=lambda face: face.name)
        readable = next((face for face in in_order if not source.broken(face)), None)
        if readable is None:
            raise InputError(f"test_list {frozen.name}: no picture of person {identity} can be read")
        chosen.append(readable)
    return chosen


def _digest(frozen: FrozenList, identity: int) -> str:
    return hashlib.sha256(f"{frozen.label} {identity}".encode()).hexdigest()


def frozen_of(data: Dataset) -> FrozenList | None:
    """The list whose test split a data set has; None for a split of one's own."""
    try:
        found = data.split_sha256(TESTED)
    except ShardError:
        return None
    lists = [open_list(name) for name in list_names()]
    return next((frozen for frozen in lists if frozen.split_sha256 == found), None)


def said_of(data: Dataset) -> str:
    """What a user is told of a data set whose test split is a frozen one; empty for another."""
    frozen = frozen_of(data)
    if frozen is None:
        return ""
    said = f"its test split is the frozen list {frozen.name}, version {frozen.version}"
    if not frozen.shards:
        return said
    kind = str(data.info.get("rendered_with", ""))
    known = frozen.shards.get(kind)
    if known is None:
        return f"{said}; no hashes are recorded for this kind of machine ({kind})"
    here = {name: data.info["shards"][name]["sha256"] for name in map(data.name_of, data.shards(TESTED))}
    if here == known:
        return f"{said}, byte for byte"
    return f"{said}, but its shards are not those of {kind}: another version of what renders made them"

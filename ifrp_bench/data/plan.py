"""Which faces go into which split, shard and row. A plan is a function of the recipe and the source alone, so
that a restarted or parallel synthesis, and a later check of the result, all speak of the same pairs.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ifrp_bench.data.format import SPLIT_NAMES, shard_names
from ifrp_bench.data.lists import choose, listed_faces
from ifrp_bench.data.recipe import AUTO, Recipe, with_counts
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import Misalignment, draw_misalignment
from ifrp_bench.sources import Face, Faces, Searching, Skipped

MOST_TEST_FACES = 1_000   # the paper's test gallery


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be: all stylized faces of its real faces, face by face, style by style."""

    name: str
    split: str
    faces: tuple[Face, ...]
    styles: tuple[str, ...]

    def misalignment(self, recipe: Recipe, face: Face, style: str) -> Misalignment:
        """Training and validation: one draw per (face, style).

        Test: one per face, shared by its styles (specification, section 1).
        """
        shared = "test" if self.split == "test" else style
        return draw_misalignment(recipe.misalignment, recipe.seed, self.split, face.name, shared)

    @property
    def pairs(self) -> int:
        return len(self.faces) * len(self.styles)


@dataclass(frozen=True)
class Plan:
    """The resolved recipe (no ``auto`` left), the shards in order and what was left out."""

    recipe: Recipe
    shards: tuple[PlannedShard, ...]
    skipped: tuple[Skipped, ...]

    def faces(self, split: str) -> list[Face]:
        """The faces of a split in the order of its rows."""
        return [face for shard in self.shards if shard.split == split for face in shard.faces]

    def pairs(self, split: str) -> int:
        """How many stylized faces a split has."""
        return sum(shard.pairs for shard in self.shards if shard.split == split)

    @property
    def counts(self) -> dict[str, Any]:
        """Shards in all, and each split's faces and pairs, as ``dataset.json`` has them."""
        of_splits = {
            split: {"faces": len(self.faces(split)), "pairs": self.pairs(split)} for split in SPLIT_NAMES
        }
        return {"shards": len(self.shards)} | of_splits

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows of ``manifest.csv``, in the order of ``MANIFEST_COLUMNS``."""
        for shard in self.shards:
            row = 0
            for face in shard.faces:
                for style in shard.styles:
                    m = shard.misalignment(self.recipe, face, style)
                    who = shard.split, shard.name, row, face.name, face.identity, style
                    yield *who, m.angle_deg, m.scale, m.shift_x, m.shift_y
                    row += 1

    def left_out(self) -> Iterator[tuple[str, str]]:
        """The rows of ``skipped.csv``: name and reason."""
        for entry in self.skipped:
            yield entry.name, entry.reason

    def faces_sha256(self, source: Faces) -> str:
        """One hash over the split, name, identity and content of every face."""
        digest = hashlib.sha256()
        for split in SPLIT_NAMES:
            for face in self.faces(split):
                digest.update(f"{split},{face.name},{face.identity},{source.digest(face)}\n".encode())
        return digest.hexdigest()


def make_plan(recipe: Recipe, source: Faces) -> Plan:
    """Deal the source's faces to the splits.

    ``identity``: a person is in one split; validation and test take one face of each of their people. A
    source with an official partition (CelebA) keeps to it. ``random-image``: faces are dealt whoever they
    show. A face that cannot be read gives its place to the next, and so does a person without one in a folder
    that is searched as needed. Raises InputError if a count is above what the source holds.
    """
    if recipe.search == "needed" and recipe.split == "identity":
        recipe, taken, skipped = _sought(recipe, source)
    else:
        recipe, taken, skipped = _dealt(recipe, source)
    if isinstance(source, Searching):   # by now it knows what was found
        skipped = source.skipped()
        taken = {
            split: [replace(face, note=source.note(face)) for face in faces] for split, faces in taken.items()
        }
    shards = [shard for split in SPLIT_NAMES for shard in _shards(split, taken[split], recipe)]
    skipped += [
        Skipped(face.name, f"used: {face.note}") for shard in shards for face in shard.faces if face.note
    ]
    return Plan(recipe, tuple(shards), tuple(skipped))


Taken = dict[str, list[Face]]


def _dealt(recipe: Recipe, source: Faces) -> tuple[Recipe, Taken, list[Skipped]]:
    """Everyone dealt to a split, then as many taken as are wanted."""
    pools = _pools(recipe, source)
    recipe = _resolve(recipe, pools)
    skipped = list(source.skipped())
    taken: Taken = {}
    for split in SPLIT_NAMES:
        wanted = int(getattr(recipe, f"{split}_faces"))
        taken[split], _ = _take(split, wanted, pools[split], source, skipped)
        if recipe.split == "random-image":   # the splits share one pool
            names = {face.name for face in taken[split]}
            pools = {
                name: [group for group in pool if group[0].name not in names] for name, pool in pools.items()
            }
    return recipe, taken, skipped


def _sought(recipe: Recipe, source: Faces) -> tuple[Recipe, Taken, list[Skipped]]:
    """People one after the other, as their faces are found: first those who are tested, then those who are
    validated on; who is left is trained on. Counts that are ``auto`` are of names.
    """
    faces = source.faces()
    shuffled = [faces[i] for i in generator(recipe.seed, "faces").permutation(len(faces))]
    skipped: list[Skipped] = []
    taken: Taken = {}
    if recipe.test_list:
        names = listed_faces(recipe.test_list)
        listed = [face for face in shuffled if face.name in names]
        if isinstance(source, Searching):
            source.look_at(listed)
        listed = [face for face in listed if not source.broken(face)]
        chosen = choose(recipe.test_list, listed, source)
        taken["test"] = [replace(face, partition="test") for face in chosen]
    tested = {face.identity for face in taken.get("test", [])}
    left = _people(recipe, [face for face in shuffled if face.identity not in tested])
    people = len(left) + len(tested)
    for split in ("test", "val"):
        if split not in taken:
            wanted = _count(recipe, split, people)
            taken[split], used = _take(
                split, wanted, left, source, skipped, exact=getattr(recipe, f"{split}_faces") != AUTO
            )
            left = left[used:]
    trained = {group[0].identity for group in left}
    pool = [[face] for face in shuffled if face.identity in trained]
    taken["train"], _ = _take("train", int(recipe.train_faces), pool, source, skipped)
    counts = [len(taken[split]) for split in ("train", "val", "test")]
    return with_counts(recipe, *counts), taken, skipped


def _pools(recipe: Recipe, source: Faces) -> dict[str, list[list[Face]]]:
    """For each split its candidates in order, as groups of which one face
    is taken (all faces of a person, or a single face).
    """
    faces = source.faces()
    shuffled = [faces[i] for i in generator(recipe.seed, "faces").permutation(len(faces))]
    if recipe.split == "random-image":
        return {split: [[face] for face in shuffled] for split in SPLIT_NAMES}
    listed = choose(recipe.test_list, faces, source) if recipe.test_list else []
    if listed:
        tested = {face.identity for face in listed}
        shuffled = [face for face in shuffled if face.identity not in tested]
    by_split = _by_partition(shuffled) if source.official else _by_identity(recipe, shuffled)
    pools = {
        split: [[face] for face in by_split[split]] if split == "train" else _people(recipe, by_split[split])
        for split in SPLIT_NAMES
    }
    return pools | {"test": [[face] for face in listed]} if listed else pools


def _by_partition(faces: list[Face]) -> dict[str, list[Face]]:
    return {split: [face for face in faces if face.partition == split] for split in SPLIT_NAMES}


def _by_identity(recipe: Recipe, faces: list[Face]) -> dict[str, list[Face]]:
    """People are shuffled; the first are tested, the next validated, the rest trained on."""
    people = _people(recipe, faces)
    test, val = (_count(recipe, split, len(people)) for split in ("test", "val"))
    test = 0 if recipe.test_list else test   # those are dealt already
    dealt = {"test": people[:test], "val": people[test:test + val], "train": people[test + val:]}
    training = {face.name for group in dealt["train"] for face in group}
    return {
        "train": [face for face in faces if face.name in training],
        "val": [face for group in dealt["val"] for face in group],
        "test": [face for group in dealt["test"] for face in group],
    }


def _people(recipe: Recipe, faces: list[Face]) -> list[list[Face]]:
    """Faces by person, people in a random order of their own: in the order of
    the shuffled faces those with many would come first.
    """
    groups: dict[int, list[Face]] = defaultdict(list)
    for face in faces:
        groups[face.identity].append(face)
    identities = sorted(groups)
    return [groups[identities[i]] for i in generator(recipe.seed, "people").permutation(len(identities))]


def _count(recipe: Recipe, split: str, people: int) -> int:
    """``auto``: a fifth of the people for the test, at most 1,000, a twentieth for validation; at least one.
    """
    count = getattr(recipe, f"{split}_faces")
    if count == AUTO:
        return max(1, min(people // 5, MOST_TEST_FACES) if split == "test" else people // 20)
    return int(count)


def _resolve(recipe: Recipe, pools: dict[str, list[list[Face]]]) -> Recipe:
    counts = {split: getattr(recipe, f"{split}_faces") for split in SPLIT_NAMES}
    if recipe.split == "random-image":
        total = len(pools["train"])
        for split in ("test", "val"):
            counts[split] = _count(recipe, split, total)
        left = total - int(counts["test"]) - int(counts["val"])
        counts["train"] = max(left, 0) if counts["train"] == AUTO else counts["train"]
        if sum(int(count) for count in counts.values()) > total:
            raise InputError(
                f"{sum(map(int, counts.values()))} faces asked for ({_named(counts)}), the source holds"
                f" {total}; lower a count with --set"
            )
    else:
        counts = {
            split: len(pools[split]) if count == AUTO else int(count) for split, count in counts.items()
        }
    return with_counts(recipe, int(counts["train"]), int(counts["val"]), int(counts["test"]))


def _named(counts: dict[str, int | str]) -> str:
    return ", ".join(f"{split}_faces={count}" for split, count in counts.items())


def _take(
    split: str, wanted: int, pool: list[list[Face]], source: Faces, skipped: list[Skipped], *,
    exact: bool = True,
) -> tuple[list[Face], int]:
    """The first ``wanted`` groups' first readable face, and how many groups were gone through.

    Raises InputError where there are fewer, unless ``exact`` is False.
    """
    taken: list[Face] = []
    named = {entry.name for entry in skipped}
    used = looked = 0
    for used, group in enumerate(pool):
        if len(taken) == wanted:
            break
        if isinstance(source, Searching) and used == looked:   # as many as are wanted still, together
            looked += wanted - len(taken)
            source.look_at([following[0] for following in pool[used:looked]])
        for face in group:
            reason = source.broken(face)
            if not reason:
                taken.append(face)
                break
            if face.name not in named:
                named.add(face.name)
                skipped.append(Skipped(face.name, reason))
    else:
        used = len(pool)
    if len(taken) < wanted and exact:
        what = "faces" if split == "train" else "people with a readable face"
        example = f" ({skipped[-1].name}: {skipped[-1].reason})" if skipped else ""
        raise InputError(
            f"{split}_faces={wanted}, but the source holds {len(taken)} {what} for it{example}; lower it with"
            f" --set {split}_faces={len(taken)}"
        )
    return [replace(face, partition=split) for face in taken], used


def _shards(split: str, faces: list[Face], recipe: Recipe) -> list[PlannedShard]:
    styles = recipe.styles_of(split)
    size = max(1, recipe.shard_pairs // len(styles))
    parts = [tuple(faces[start:start + size]) for start in range(0, len(faces), size)]
    return [
        PlannedShard(name, split, part, styles) for name, part in zip(shard_names(split, len(parts)), parts)
    ]

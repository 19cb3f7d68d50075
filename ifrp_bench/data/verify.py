"""``ifrp-bench verify``: is a data set on disk what its recipe says? Every problem is named.

Nothing is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.format import (
    SPLIT_NAMES, Dataset, Shard, ShardError, open_dataset, read_manifest, read_shard,
)
from ifrp_bench.data.lists import said_of
from ifrp_bench.data.open_styles import OPEN
from ifrp_bench.data.pairs import PairMaker, open_faces, part_of
from ifrp_bench.data.plan import Plan, make_plan
from ifrp_bench.data.recipe import Recipe, recipe_from
from ifrp_bench.data.styles import Style, Stylizer, pick_styles
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.precision import fast_precision
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.ground.workers import one_thread
from ifrp_bench.sources import Faces

# mean difference in grey levels allowed to another kind of machine: its convolutions round differently
OTHER_MACHINE_LEVELS = 2.0


class _Unchecked(Exception):
    """Why no pair can be rendered again, with nothing wrong about the data set."""


@dataclass
class Report:
    """What was found: ``problems`` make the data set bad, ``notes`` say what was not checked."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shards: int = 0
    pairs: int = 0
    rendered: int = 0


def verify(
    root: Path,
    *,
    faces: Path | None = None,
    styles: Path | None = None,
    device: str = "cpu",
    sample: int = 16,
    quiet: bool = False,
) -> Report:
    """Check schema, counts, ranges, every hash, the manifest, that splits share nobody, and render ``sample``
    pairs again.

    ``faces`` says where the photographs are if they have moved. Raises ShardError only where there is no data
    set to check at all.
    """
    # is there a data set, and does its recipe make sense?
    dataset = open_dataset(root, complete=False)
    report = Report()
    if not dataset.info["complete"]:
        report.problems.append(f"{root}: the synthesis was not finished; run synth again to resume it")
    try:
        recipe = recipe_from(dataset.info["recipe"], where=f"{root / 'dataset.json'}: recipe")
    except (InputError, TypeError) as error:
        report.problems.append(str(error))
        return report

    # every byte of every shard, then what is in it
    # of each what the manifest says as well: a shard kept whole, or a view into it, would keep the data set
    # in memory
    rows: dict[str, list[tuple[bytes, bytes, str]]] = {}
    people: dict[str, set[int]] = {split: set() for split in SPLIT_NAMES}
    for name, entry in tqdm(sorted(dataset.info["shards"].items()), "shards", unit="shard", disable=quiet):
        try:
            shard = dataset.read(root / name)
        except ShardError as error:
            report.problems.append(str(error))
            continue
        report.problems += [f"{root / name}: {problem}" for problem in _contents(shard, entry, recipe)]
        people[entry["split"]].update(shard.identity.tolist())
        report.shards, report.pairs = report.shards + 1, report.pairs + len(shard.stylized)
        rows[name] = list(
            zip(shard.face.tolist(), shard.style.tolist(), map(str, shard.identity.tolist()))
        )

    # shards against each other, against the manifest, and against the recipe, made again
    report.problems += _splits(dataset, recipe, people)
    report.problems += _manifest(dataset, rows)
    frozen = said_of(dataset)
    if frozen:
        report.notes.append(frozen)
    with one_thread():   # as synthesis renders
        _rerender(dataset, recipe, faces, styles, device, sample, report)
    return report


def _contents(shard: Shard, entry: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    """Whether a shard's columns agree with its entry, its recipe and each other."""
    styles, expected = set(shard.style.tolist()), {name.encode() for name in recipe.styles_of(entry["split"])}
    if styles != expected:
        yield f"its styles are {sorted(styles)}, the recipe's {sorted(expected)}"
    for name, pictures in (("stylized", shard.stylized), ("real", shard.real)):
        values = pictures.reshape(len(pictures), -1)
        flat = (values.max(1) == values.min(1)).nonzero()[0]
        if len(flat):
            yield f"{name} picture {flat[0]} is one flat colour ({len(flat)} such in all)"
    areas = np.linalg.det(shard.warp[:, :, :2].astype(np.float64))
    if len(areas) and (areas.min() < 0.5 or areas.max() > 1.05):
        yield f"a warp scales areas by {areas.min():.2f} to {areas.max():.2f}, the tiers give 0.64 to 1"


def _splits(dataset: Dataset, recipe: Recipe, people: dict[str, set[int]]) -> Iterator[str]:
    """Whether counts are the recipe's and identities are kept apart."""
    root, counts, shards = dataset.root, dataset.info["counts"], dataset.info["shards"]
    for split in SPLIT_NAMES:
        made = sum(entry["faces"] for entry in shards.values() if entry["split"] == split)
        wanted = getattr(recipe, f"{split}_faces")
        if made != wanted or made != counts[split]["faces"]:
            yield f"{root}: {made} {split} faces in the shards, the recipe says {wanted}"
    if len(shards) != counts["shards"]:
        yield f"{root}: {len(shards)} shards, dataset.json counts {counts['shards']}"
    if recipe.split == "identity":
        for a, b in combinations(("train", "val", "test"), 2):
            both = people[a] & people[b]
            if both:
                first = f"{len(both)} identities are in {a} and in {b} (the first is {min(both)})"
                yield f"{root}: {first}; the recipe keeps them apart"


def _manifest(dataset: Dataset, rows: dict[str, list[tuple[bytes, bytes, str]]]) -> Iterator[str]:
    """Whether ``manifest.csv`` lists exactly the shards' rows."""
    try:
        manifest = read_manifest(dataset.root)
    except ShardError as error:
        yield str(error)
        return
    listed: dict[str, list[tuple[bytes, bytes, str]]] = {}
    for row in manifest:
        columns = row["face"].encode(), row["style"].encode(), row["identity"]
        listed.setdefault(row["shard"], []).append(columns)
    where = dataset.root / "manifest.csv"
    for name in sorted(listed.keys() - dataset.info["shards"].keys()):
        yield f"{where}: lists {name}, which is not in dataset.json"
    for name, there in rows.items():
        here = listed.get(name, [])
        if here != there:
            yield f"{where}: its {len(here)} rows of {name} are not the {len(there)} in the shard"


def _rerender(
    dataset: Dataset, recipe: Recipe, faces: Path | None, styles: Path | None, device: str, sample: int,
    report: Report,
) -> None:
    """Make a sample of faces again, from the recipe, and compare pixel by pixel."""
    try:
        plan, source, chosen = _planned_again(dataset, recipe, faces, styles, device)
    except _Unchecked as reason:
        report.notes.append(str(reason))
        return
    except InputError as error:
        report.problems.append(str(error))
        return

    # the same kind of machine gives the same bytes
    kind = dataset.info["rendered_with"]
    exact = kind == fingerprint(device)
    if not exact:
        allowed = f"pairs are compared to {OTHER_MACHINE_LEVELS} grey levels, not exactly"
        report.notes.append(f"made on another kind of machine ({kind}): {allowed}")
    precision = recipe.precision if exact else fast_precision(device)
    stylizer = Stylizer(chosen, precision=precision, device=device, batch_size=1)
    maker = PairMaker(plan.recipe, source, stylizer)
    report.problems += _compare(dataset, plan, maker, sample, exact, report)
    wanted = [tuple(map(str, row)) for row in plan.rows()]
    if wanted != [tuple(row.values()) for row in _rows(dataset)]:
        report.problems.append(f"{dataset.root / 'manifest.csv'}: not the rows that the recipe gives")


def _planned_again(
    dataset: Dataset, recipe: Recipe, faces: Path | None, styles: Path | None, device: str
) -> tuple[Plan, Faces, list[Style]]:
    """The plan of a data set, its faces and its style networks, held to the hashes that it was made with.

    Raises _Unchecked where its faces or networks are not at hand, InputError where they are others.
    """
    if not parts.source(recipe.source).made:
        raise _Unchecked("the pairs come from elsewhere: none was rendered again")
    where = faces or (Path(dataset.info["faces"]) if dataset.info["faces"] else None)
    if where is not None and not where.is_dir():
        gone = f"the faces are no longer at {where}; say where they are with --faces"
        raise _Unchecked(f"no pair was rendered again: {gone}")

    # the faces, and the plan that the recipe makes of them
    chosen = pick_styles(recipe.styles, styles, dataset.root / OPEN)
    source = open_faces(
        recipe, where, landmarks=dataset.root / "landmarks.csv", workers=0, device=device, quiet=True,
    )
    others = f"{dataset.root}: the faces at {where or recipe.source} are not those that it was made from"
    try:
        plan = make_plan(recipe, source)
    except InputError as error:   # it could be planned when it was made
        raise InputError(f"{others}: {error}") from None
    if plan.faces_sha256(source) != dataset.info["faces_sha256"]:
        raise InputError(f"{others} (their hash differs)")
    _check_networks(dataset, chosen)
    return plan, source, chosen


def _check_networks(dataset: Dataset, chosen: list[Style]) -> None:
    """Raises InputError where a data set's style networks are others than those here, _Unchecked where they
    are an earlier version of them.
    """
    made_with = dataset.info["styles"]
    other = [style for style in chosen if made_with.get(style.name) != style.sha256]
    for style in other:
        if style.earlier_version(str(made_with.get(style.name))) is None:
            raise InputError(f"{dataset.root}: made with another network of {style.name} than the one here")
    if other:
        names = ", ".join(style.name for style in other)
        raise _Unchecked(
            f"made with an earlier version of the networks of {names}: every hash was checked, no pair was"
            " rendered again"
        )


def _rows(dataset: Dataset) -> list[dict[str, str]]:
    try:
        return read_manifest(dataset.root)
    except ShardError:
        return []   # named already


def _compare(
    dataset: Dataset, plan: Plan, maker: PairMaker, sample: int, exact: bool, report: Report
) -> Iterator[str]:
    """What differs in a sample of faces, each with all of its pairs."""
    whole = [shard for shard in plan.shards if shard.name in dataset.info["shards"]]
    if not whole:
        return
    draws = generator("verify", dataset.info["faces_sha256"])
    for number in sorted(set(draws.integers(len(whole), size=max(1, sample // 4)).tolist())):
        planned = whole[number]
        where = dataset.root / planned.name
        try:
            stored = read_shard(where)
        except ShardError:
            continue   # named already

        # one face of the shard
        first = int(draws.integers(len(planned.faces)))
        face = f"face {planned.faces[first].name}"
        made = maker.make(part_of(planned, slice(first, first + 1)))
        rows = slice(first * len(planned.styles), (first + 1) * len(planned.styles))
        report.rendered += len(made.stylized)
        for name, old, new in (
            ("stylized", stored.stylized[rows], made.stylized),
            ("real", stored.real[first:first + 1], made.real),
        ):
            if old.shape != new.shape:
                yield f"{where}: {name} rows of {face} are missing"
                continue
            off = np.abs(old.astype(np.int16) - new).mean()
            if off > (0 if exact else OTHER_MACHINE_LEVELS):
                yield f"{where}: {name} of {face} differs from its recipe by {off:.3f} grey levels on average"
        if not np.array_equal(stored.warp[rows], made.warp):
            yield f"{where}: warps of {face} differ from the recipe"

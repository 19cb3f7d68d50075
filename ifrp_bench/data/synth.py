"""Stage 1, ``ifrp-bench synth``: recipe + faces + styles -> a data set's shards. What a pair is stands in
``pairs.py``, who is in which split in ``plan.py``, the format in ``format.py``; this module runs them,
over processes, over machines or on a GPU, and survives being killed at any moment.

Of several processes that a launcher started, each makes every n-th shard of the plan, then what slower ones
have not begun, and says in its own journal what is whole. The first one begins the folder before the others
look at it and finishes it after them.
"""

import heapq
import pickle
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.format import (
    Shard, add_entry, forget_journals, journalled, make_info, open_dataset, write_info,
    write_manifest, write_shard, write_skipped,
)
from ifrp_bench.data.pairs import PairMaker, open_faces, part_of, preview_sheet
from ifrp_bench.data.open_styles import OPEN, make_bank
from ifrp_bench.data.plan import Plan, PlannedShard, make_plan
from ifrp_bench.data.recipe import AUTO, SEARCHES, Recipe
from ifrp_bench.data.styles import Style, Stylizer, pick_styles
from ifrp_bench.ground.crew import Crew
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import locked, sha256_of, write_whole
from ifrp_bench.ground.images import write_png
from ifrp_bench.ground.launch import Place, find_place
from ifrp_bench.ground.workers import default_workers, map_in_order, one_thread
from ifrp_bench.sources import Faces
from ifrp_bench.sources.folder import list_photographs

MAKING = "making"   # the first process's word that the folder is begun
PAIR_BYTES = 128 * 128 * 3
# measured: on a CPU one picture's maps stay in the cache, a GPU wants many
BATCH_SIZES = {"cpu": 1, "cuda": 64}
# of each split and by each worker, to say how long all of them will take
TIMED_FACES = {"cpu": 2, "cuda": 64}


def synthesize(
    recipe: Recipe,
    out: Path,
    *,
    faces: Path | None = None,
    styles: Path | None = None,
    style_pictures: Path | None = None,
    landmarks: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    batch_size: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Make the data set ``recipe`` in ``out``, or finish one that was begun there; returns its
    ``dataset.json``.

    ``faces`` is the folder of the recipe's source, ``styles`` a folder of further style folders,
    ``style_pictures`` one of pictures whose styles ``open`` mixes, ``landmarks`` the cache of found faces
    (default: in ``out``). On a CPU no byte depends on ``workers``, ``batch_size`` or the number of processes
    that a launcher started. Raises InputError for anything that does not fit, and where one of those has
    failed.
    """
    pick_styles(recipe.styles, styles)   # before anything is written
    files = _pictures_of(style_pictures, recipe)
    place = find_place()
    make_folder(out)
    if device == "cuda" and place.world > 1:
        import torch

        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    with Crew(out, place) as crew, locked(out) if place.first else nullcontext():
        if place.first:
            crew.forget_earlier()
            for stale in out.glob("[0-9]*/.*.tmp"):
                stale.unlink(missing_ok=True)
        elif _finds_it_whole(out, crew):
            return open_dataset(out).info

        # a bank of one's own belongs to the data set: it is what its pairs are made again with
        if place.first and style_pictures and not (out / OPEN / "card.toml").is_file():
            make_bank(style_pictures, files, out / OPEN)
        # who is in it, what is there already, what is left
        chosen = pick_styles(recipe.styles, styles, out / OPEN)
        source, plan = _planned(recipe, out, faces, landmarks, workers, device, quiet)
        info = _begin(out, plan, source, chosen, faces, device, first=place.first)
        crew.say(MAKING)
        # of a whole data set every shard is looked at, of one that is begun each process looks at its own
        mine = plan.shards if info["complete"] else plan.shards[place.rank::place.world]
        own = [shard for shard in mine if not _is_whole(out, info, shard)]
        others = [shard for shard in _of_others(plan, place) if shard.name not in info["shards"]]
        _check_space(out, own)
        batch_size = batch_size or BATCH_SIZES[device]
        if own or others:
            jobs = _Jobs(plan.recipe, source, chosen, device, batch_size, out)
            _make_shards(jobs, own, others, crew, workers, quiet)

        # what is written once all shards are there
        if place.first and not info["complete"]:
            wanted = {shard.name for shard in plan.shards}
            crew.wait(lambda: info["shards"].keys() | journalled(out) >= wanted, range(1, place.world))
            info["shards"] |= journalled(out)
            _keep_landmarks(landmarks, out)
            _finish(out, plan, source, chosen, info, device, batch_size)
    return info


def _make_shards(
    jobs: "_Jobs", own: list[PlannedShard], others: list[PlannedShard], crew: Crew, workers: int, quiet: bool
) -> None:
    """Its own shards, then those of the others that nobody has begun; each stands in the journal when it is
    whole.
    """
    place = crew.place
    todo = (shard for shard in chain(own, others) if crew.claim(shard.name))
    run = jobs.overlapped(todo) if jobs.device == "cuda" else map_in_order(
        _make, todo, workers=min(workers, len(own) or 1), initializer=_set_jobs, arguments=(jobs,)
    )
    with tqdm(
        total=sum(shard.pairs for shard in own), desc=_part_of(place), unit="pair",
        disable=quiet or not place.first,
    ) as bar:
        for name, entry in run:
            add_entry(jobs.out, place.rank, name, entry)
            bar.update(entry["pairs"])


def _of_others(plan: Plan, place: Place) -> Iterator[PlannedShard]:
    """What the other processes are dealt, each's last first: what a slow one comes to last."""
    for following in range(place.rank + 1, place.rank + place.world):
        yield from reversed(plan.shards[following % place.world::place.world])


def _part_of(place: Place) -> str:
    return "pairs" if place.world == 1 else f"pairs, one process of {place.world}"


def _finds_it_whole(out: Path, crew: Crew) -> bool:
    """Wait until the first process has begun the folder; whether there is nothing to be made: that one may be
    gone by then.
    """
    crew.wait(lambda: _stands(out) or crew.state_of(0) == MAKING, [0])
    return _stands(out)


def _stands(out: Path) -> bool:
    """Whether a finished data set is there with all its files; what is in them is the first process's to see.
    """
    if not (out / "dataset.json").exists():
        return False
    data = open_dataset(out, complete=False)
    return bool(data.info["complete"]) and all((out / name).exists() for name in data.info["shards"])


def _pictures_of(folder: Path | None, recipe: Recipe) -> list[str]:
    """The pictures of a folder for open styles. Raises InputError where there is none, or no use for it."""
    if folder is None:
        return []
    if OPEN not in recipe.styles:
        raise InputError(
            f"--style-pictures {folder}: no split has the style open; add --set train_styles=open"
        )
    files = list_photographs(folder, unread=True) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: no picture in it; --style-pictures wants a folder of paintings")
    return files


def make_folder(out: Path) -> None:
    """Make the output folder. Raises InputError with the reason where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made: {error.strerror}") from None


@dataclass(frozen=True)
class Forecast:
    """What ``synthesize`` would do: the ``plan``, the shards of it that are not there yet, the ``size`` that
    they will take in bytes, and the ``seconds``.
    """

    plan: Plan
    todo: tuple[PlannedShard, ...]
    seconds: float

    @property
    def size(self) -> int:
        """Bytes, to within a few percent."""
        return size_of(self.todo)


def forecast(
    recipe: Recipe,
    out: Path,
    *,
    faces: Path | None,
    styles: Path | None,
    landmarks: Path | None,
    workers: int,
    device: str,
    quiet: bool,
    batch_size: int | None = None,
) -> Forecast:
    """What ``synthesize`` would do, for ``--dry-run``: a few pairs of each kind are made and timed.

    A folder of photographs is searched for faces; what is found is kept in ``landmarks``, as it would be.
    Raises InputError where another data set is in the way.
    """
    chosen = pick_styles(recipe.styles, styles, out / OPEN)
    source, plan = _planned(recipe, out, faces, landmarks, workers, device, quiet)
    there: dict[str, Any] = {}
    if (out / "dataset.json").exists():
        old = open_dataset(out, complete=False).info
        styles_here = {style.name: style.sha256 for style in chosen}
        _check_same(out, old, {"recipe": plan.recipe.as_dict(), "styles": styles_here})
        there = old["shards"]
    todo = tuple(
        shard for shard in plan.shards if shard.name not in there or not (out / shard.name).exists()
    )
    jobs = _Jobs(plan.recipe, source, chosen, device, batch_size or BATCH_SIZES[device], out)
    return Forecast(plan, todo, _time_shards(todo, jobs, min(workers, len(todo)), TIMED_FACES[device]))


def _planned(
    recipe: Recipe, out: Path, faces: Path | None, landmarks: Path | None, workers: int, device: str,
    quiet: bool,
) -> tuple[Faces, Plan]:
    """The real faces, and which of them go where, as it was begun in ``out``."""
    recipe = _as_begun(recipe, out, device)
    source = open_faces(
        recipe, faces,
        landmarks=landmarks or out / "landmarks.csv", workers=workers, device=device, quiet=quiet,
    )
    return source, make_plan(recipe, source)


def _time_shards(shards: Sequence[PlannedShard], jobs: "_Jobs", workers: int, faces: int) -> float:
    """How many seconds the shards will take: of each kind, those of other styles, every worker makes a few
    faces of its own, all at once and in a process of its own, as in synthesis: rendered faces keep threads
    waiting for Python's lock, and would seem to take half as long again.
    """
    makers = max(1, workers if jobs.device == "cpu" else 0)
    kinds = {_kind(shard): shard for shard in reversed(shards)}
    samples = []
    for first in kinds.values():
        parts_of = [part_of(first, slice(start * faces, (start + 1) * faces)) for start in range(makers)]
        samples += [sample if sample.faces else part_of(first, slice(0, faces)) for sample in parts_of]
    barrier = get_context("spawn").Barrier(makers)
    taken = list(map_in_order(
        _seconds_a_face, samples, workers=makers if makers > 1 else 0,
        initializer=_set_jobs_together, arguments=(jobs, barrier),
    ))
    a_face = {
        kind: max(taken[number * makers:(number + 1) * makers]) for number, kind in enumerate(kinds)
    }

    # in order, each to the worker that is free first
    free = [0.0] * makers
    for shard in shards:
        heapq.heapreplace(free, free[0] + a_face[_kind(shard)] * len(shard.faces))
    return max(free)


def _kind(shard: PlannedShard) -> tuple[bool, tuple[str, ...]]:
    """What its faces' time depends on: a test face is misaligned once, others anew for each style."""
    return shard.split == "test", shard.styles


def size_of(shards: Sequence[PlannedShard]) -> int:
    """Bytes that the shards will take, to within a few percent."""
    return sum((shard.pairs + len(shard.faces)) * PAIR_BYTES * 102 // 100 for shard in shards)


def free_bytes(out: Path) -> int:
    """Free space where ``out`` is or will be."""
    while not out.exists():
        out = out.absolute().parent
    return shutil.disk_usage(out).free


def _check_space(out: Path, todo: list[PlannedShard]) -> None:
    free, wanted = free_bytes(out), size_of(todo)
    if wanted > free:
        need = f"{wanted / 2**20:,.0f} MiB needed, {free / 2**20:,.0f} MiB free"
        raise InputError(
            f"{out}: {need}; make space or choose another --out, then run the same command again"
        )


def _begin(
    out: Path, plan: Plan, source: Faces, styles: list[Style], faces: Path | None, device: str, *, first: bool
) -> dict[str, Any]:
    """A new ``dataset.json``, or that of a run to resume, which takes over what journals say; only the
    ``first`` process writes it.

    Raises InputError if that was of another recipe, faces or styles.
    """
    info = make_info(
        recipe=plan.recipe.as_dict(),
        counts=plan.counts,
        faces=faces,
        faces_sha256=plan.faces_sha256(source),
        styles={style.name: style.sha256 for style in styles},
        device=device,
    )
    if not (out / "dataset.json").exists():
        forget_journals(out)
        write_info(out, info)
        return info
    old = open_dataset(out, complete=False).info
    _check_same(out, old, info)
    if old["rendered_with"] != info["rendered_with"] and not old["complete"]:
        kinds = f"{old['rendered_with']}, here {info['rendered_with']}"
        raise InputError(
            f"{out}: begun on another kind of machine ({kinds}); finish it there, or remove the folder"
        )
    if first:
        gone = [name for name in old["shards"] if not (out / name).exists()]
        for name in gone:
            del old["shards"][name]
        if gone or not old["complete"]:
            write_info(out, old | {"complete": False})
            forget_journals(out)
        old["complete"] = old["complete"] and not gone
    return old


def _check_same(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises InputError where ``new`` says that the data set to be made is not the one that is there."""
    for key, what in (("recipe", "recipe"), ("faces_sha256", "faces"), ("styles", "style networks")):
        if key in new and old[key] != new[key]:
            raise InputError(
                f"{out}: holds a data set made with other {what}{_difference(old[key], new[key])}; choose"
                " another --out, or remove the folder"
            )


def _as_begun(recipe: Recipe, out: Path, device: str) -> Recipe:
    """The recipe with what is begun in ``out`` resumed: its precision in place of ``auto``, or else the
    one that is fast here, and its search; data sets begun before folders were searched as needed say nothing
    of it.
    """
    from ifrp_bench.ground.precision import fast_precision

    if (out / "dataset.json").exists():
        begun = open_dataset(out, complete=False).info["recipe"]
        precision, search = begun["precision"], begun.get("search", SEARCHES[0])
    else:
        precision, search = fast_precision(device), recipe.search
    return replace(
        recipe, precision=precision if recipe.precision == AUTO else recipe.precision, search=search
    )


def _difference(old: Any, new: Any) -> str:
    if not isinstance(old, dict):
        return ""
    keys = [key for key in new if old.get(key) != new[key]]
    shown = ", ".join(
        f"{key} {str(old.get(key))[:40]} there, {str(new[key])[:40]} asked for" for key in keys[:3]
    )
    return f" ({shown})" if shown else ""


def _is_whole(out: Path, info: dict[str, Any], shard: PlannedShard) -> bool:
    """Whether the shard is there as its entry says. Raises InputError where it was changed since."""
    entry, path = info["shards"].get(shard.name), out / shard.name
    if entry is None or not path.exists():
        return False
    if sha256_of(path) != entry["sha256"]:
        raise InputError(
            f"{path}: truncated or changed since it was written (its sha256 differs from dataset.json);"
            " remove the file and run synth again"
        )
    return True


def _keep_landmarks(landmarks: Path | None, out: Path) -> None:
    """A copy of a cache that lies elsewhere, so that whoever makes the pairs again need not search for faces.
    """
    if landmarks and landmarks.is_file() and not (out / "landmarks.csv").exists():
        write_whole(out / "landmarks.csv", landmarks.read_bytes())


def _finish(
    out: Path,
    plan: Plan,
    source: Faces,
    styles: list[Style],
    info: dict[str, Any],
    device: str,
    batch_size: int,
) -> None:
    write_manifest(out, plan.rows())
    write_skipped(out, plan.left_out())
    stylizer = Stylizer(styles, precision=plan.recipe.precision, device=device, batch_size=batch_size)
    with one_thread():   # the same picture on any number of cores
        sheet = preview_sheet(plan, PairMaker(plan.recipe, source, stylizer))
    if sheet is not None:
        write_png(out / "preview.png", sheet)
    info["complete"] = True
    info["shards"] = {shard.name: info["shards"][shard.name] for shard in plan.shards}   # whoever made them
    write_info(out, info)
    forget_journals(out)


class _Jobs:
    """What a process needs to make shards; it travels to the workers."""

    def __init__(
        self, recipe: Recipe, source: Faces, styles: list[Style], device: str, batch_size: int, out: Path
    ) -> None:
        self.recipe, self.source, self.styles = recipe, source, styles
        self.device, self.batch_size, self.out = device, batch_size, out

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"source": pickle.dumps(self.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a source of the user's own: its file is read before its classes are asked for
        parts.source(state["recipe"].source)
        self.__dict__.update(state | {"source": pickle.loads(state["source"])})

    def maker(self, **options: Any) -> PairMaker:
        stylizer = Stylizer(
            self.styles, precision=self.recipe.precision, device=self.device, batch_size=self.batch_size
        )
        return PairMaker(self.recipe, self.source, stylizer, **options)

    def write(self, shard: PlannedShard, made: Shard) -> tuple[str, dict[str, Any]]:
        return shard.name, {"split": shard.split} | write_shard(self.out / shard.name, made)

    def overlapped(self, shards: Iterable[PlannedShard]) -> Iterator[tuple[str, dict[str, Any]]]:
        """One process: threads read and warp the next shard and write the last one while the GPU stylizes."""
        with ThreadPoolExecutor(default_workers() or 1) as threads, ThreadPoolExecutor(
            1
        ) as ahead, ThreadPoolExecutor(1) as writer:
            maker = self.maker(map_faces=threads.map)
            left = iter(shards)
            shard = next(left, None)
            coming = shard and ahead.submit(maker.prepare, shard)
            written = None
            while shard and coming:
                prepared = coming.result()
                following = next(left, None)
                coming = following and ahead.submit(maker.prepare, following)
                made = maker.finish(shard, *prepared)
                if written is not None:
                    yield written.result()
                written = writer.submit(self.write, shard, made)
                shard = following
            if written is not None:
                yield written.result()


_here: dict[str, Any] = {}   # one per worker process: what makes its shards, set once


def _set_jobs(jobs: _Jobs) -> None:
    _here.update(jobs=jobs, maker=jobs.maker())


def _set_jobs_together(jobs: _Jobs, barrier: Barrier) -> None:
    """Where workers are timed none may begin while others are still starting."""
    _set_jobs(jobs)
    barrier.wait()


def _seconds_a_face(sample: PlannedShard) -> float:
    maker = _here["maker"]
    maker.make(part_of(sample, slice(0, 1)))   # the first time buffers are made and files are read
    started = time.perf_counter()
    maker.make(sample)
    return (time.perf_counter() - started) / len(sample.faces)


def _make(shard: PlannedShard) -> tuple[str, dict[str, Any]]:
    return _here["jobs"].write(shard, _here["maker"].make(shard))

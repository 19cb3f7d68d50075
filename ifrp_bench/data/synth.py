"""Stage 1, ``ifrp-bench synth``: recipe + faces + styles -> a data set's shards. What a pair is stands in
``pairs.py``, who is in which split in ``plan.py``, the format in ``format.py``; this module runs them,
over processes or on a GPU, and survives being killed at any moment.
"""

import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.format import (
    Shard, make_info, open_dataset, write_info, write_manifest, write_shard, write_skipped,
)
from ifrp_bench.data.pairs import PairMaker, open_faces, preview_sheet
from ifrp_bench.data.open_styles import OPEN, make_bank
from ifrp_bench.data.plan import Plan, PlannedShard, make_plan
from ifrp_bench.data.recipe import AUTO, SEARCHES, Recipe
from ifrp_bench.data.styles import Style, Stylizer, pick_styles
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import locked, sha256_of, write_whole
from ifrp_bench.ground.images import write_png
from ifrp_bench.ground.workers import map_in_order
from ifrp_bench.sources import Faces
from ifrp_bench.sources.folder import list_photographs

PAIR_BYTES = 128 * 128 * 3
# measured: on a CPU one picture's maps stay in the cache, a GPU wants many
BATCH_SIZES = {"cpu": 1, "cuda": 64}
# for estimates only: float32 measured on two cores; a GPU not measured yet
PAIRS_PER_SECOND = {"cpu": 40, "cuda": 1000}


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
    (default: in ``out``). On a CPU no byte depends on ``workers`` or ``batch_size``. Raises InputError for
    anything that does not fit.
    """
    pick_styles(recipe.styles, styles)   # before anything is written
    files = _pictures_of(style_pictures, recipe)
    make_folder(out)
    with locked(out):
        # a bank of one's own belongs to the data set: it is what its pairs are made again with
        if style_pictures and not (out / OPEN / "card.toml").is_file():
            make_bank(style_pictures, files, out / OPEN)
        chosen = pick_styles(recipe.styles, styles, out / OPEN)
        # who is in it, what is there already, what is left
        recipe = _as_begun(recipe, out, device)
        source = open_faces(
            recipe, faces,
            landmarks=landmarks or out / "landmarks.csv", workers=workers, device=device, quiet=quiet,
        )
        plan = make_plan(recipe, source)
        info = _begin(out, plan, source, chosen, faces, device)
        todo = [shard for shard in plan.shards if not _is_whole(out, info, shard)]
        _check_space(out, todo)

        # shard by shard; each stands in dataset.json when it is whole
        batch_size = batch_size or BATCH_SIZES[device]
        if todo:
            jobs = _Jobs(plan.recipe, source, chosen, device, batch_size, out)
            run = jobs.overlapped(todo) if device == "cuda" else map_in_order(
                _make, todo, workers=min(workers, len(todo)), initializer=_set_jobs, arguments=(jobs,)
            )
            with tqdm(
                total=sum(shard.pairs for shard in todo), desc="pairs", unit="pair", disable=quiet
            ) as bar:
                for name, entry in run:
                    info["shards"][name] = entry
                    write_info(out, info)
                    bar.update(entry["pairs"])

        # what is written once all shards are there
        if not info["complete"]:
            _keep_landmarks(landmarks, out)
            _finish(out, plan, source, chosen, info, device, batch_size)
    return info


def _pictures_of(folder: Path | None, recipe: Recipe) -> list[str]:
    """The pictures of a folder for open styles. Raises InputError where there is none, or no use for it."""
    if folder is None:
        return []
    if OPEN not in recipe.styles:
        raise InputError(
            f"--style-pictures {folder}: no split has the style open; add --set train_styles=open"
        )
    files = list_photographs(folder) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: no picture in it; --style-pictures wants a folder of paintings")
    return files


def make_folder(out: Path) -> None:
    """Make the output folder. Raises InputError with the reason where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made: {error.strerror}") from None


def plan_only(
    recipe: Recipe,
    faces: Path | None,
    *,
    styles: Path | None,
    landmarks: Path,
    workers: int,
    device: str,
    quiet: bool,
) -> Plan:
    """What ``synthesize`` would do, for ``--dry-run``; a folder of photographs is searched for faces, and the
    result is kept in ``landmarks``.
    """
    pick_styles(recipe.styles, styles)
    source = open_faces(recipe, faces, landmarks=landmarks, workers=workers, device=device, quiet=quiet)
    return make_plan(recipe, source)


def size_of(shards: list[PlannedShard] | tuple[PlannedShard, ...]) -> int:
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
    out: Path, plan: Plan, source: Faces, styles: list[Style], faces: Path | None, device: str
) -> dict[str, Any]:
    """A new ``dataset.json``, or the one of a run to go on with.

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
        write_info(out, info)
        return info
    old = open_dataset(out, complete=False).info
    for key, what in (("recipe", "recipe"), ("faces_sha256", "faces"), ("styles", "style networks")):
        if old[key] != info[key]:
            raise InputError(
                f"{out}: holds a data set made with other {what}{_difference(old[key], info[key])}; choose"
                " another --out, or remove the folder"
            )
    if old["rendered_with"] != info["rendered_with"] and not old["complete"]:
        kinds = f"{old['rendered_with']}, here {info['rendered_with']}"
        raise InputError(
            f"{out}: begun on another kind of machine ({kinds}); finish it there, or remove the folder"
        )
    return old


def _as_begun(recipe: Recipe, out: Path, device: str) -> Recipe:
    """The recipe with what is begun in ``out`` gone on with: its precision in place of ``auto``, or else the
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
        info["complete"] = False
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
    sheet = preview_sheet(
        plan,
        PairMaker(
            plan.recipe,
            source,
            Stylizer(styles, precision=plan.recipe.precision, device=device, batch_size=batch_size),
        ),
    )
    if sheet is not None:
        write_png(out / "preview.png", sheet)
    info["complete"] = True
    write_info(out, info)


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

    def overlapped(self, shards: list[PlannedShard]) -> Iterator[tuple[str, dict[str, Any]]]:
        """One process: threads read and warp the next shard and write the last one while the GPU stylizes."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads, ThreadPoolExecutor(
            1
        ) as ahead, ThreadPoolExecutor(1) as writer:
            maker = self.maker(map_faces=threads.map)
            coming = ahead.submit(maker.prepare, shards[0])
            written = None
            for number, shard in enumerate(shards):
                prepared = coming.result()
                if number + 1 < len(shards):
                    coming = ahead.submit(maker.prepare, shards[number + 1])
                made = maker.finish(shard, *prepared)
                if written is not None:
                    yield written.result()
                written = writer.submit(self.write, shard, made)
            if written is not None:
                yield written.result()


_here: dict[str, Any] = {}   # one per worker process: what makes its shards, set once


def _set_jobs(jobs: _Jobs) -> None:
    _here.update(jobs=jobs, maker=jobs.maker())


def _make(shard: PlannedShard) -> tuple[str, dict[str, Any]]:
    return _here["jobs"].write(shard, _here["maker"].make(shard))


def estimate_seconds(plan: Plan, device: str) -> float:
    """A rough time for the stylizing, from rates measured elsewhere."""
    return sum(shard.pairs for shard in plan.shards) / PAIRS_PER_SECOND[device]

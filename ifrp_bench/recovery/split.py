"""A data set's split through a method, shard by shard, into ``RUN/recovered/<data set>/<condition>/``, with a
``+`` behind that for a run that is mirrored.

Recovered faces stand row by row as in the shard of the same name. What a checkpoint has made from a data set
under a condition is kept; of several processes each makes its own shards.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ifrp_bench import __version__, parts
from ifrp_bench.data.format import Dataset, Shard, read_recovered, recovered_facts, write_recovered
from ifrp_bench.data.runs import Run
from ifrp_bench.data.split import LookedInto, load_split
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.images import tile, to_faces, to_pictures, write_png
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.ground.processes import Processes
from ifrp_bench.ground.workers import default_workers, on_threads
from ifrp_bench.methods import Setup, Usable
from ifrp_bench.parts import Part
from ifrp_bench.recovery.trained import Trained, load_trained, recover_shard

CONDITIONS = ("raw", "stn", "oracle")
OPTIMISED_AT_ONCE = {"cpu": 8, "cuda": 256}   # faces in one optimiser: a CPU's cache holds the maps of a few
# sha256 of the file that such runs once had
NO_CHECKPOINT = "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576"


@dataclass(frozen=True)
class Task:
    """A split's SFs as a method is to see them.

    ``condition``: ``raw`` the SF as it is, ``oracle`` brought upright with its stored warp, ``stn`` by
    ``aligner``, an aligner's run. ``training`` is the data set whose training split methods look into that
    are not trained; the same one where it is not given.
    """

    data: Dataset
    condition: str = "raw"
    aligner: Run | None = None
    split: str = "test"
    device: str = "cpu"
    quiet: bool = False
    processes: Processes = field(default_factory=lambda: Processes("cpu"))
    training: Dataset | None = None

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise InputError(f"condition {self.condition!r} is none of {', '.join(CONDITIONS)}")
        if self.condition == "stn" and self.aligner is None:
            make = f"`ifrp-bench train --method {parts.aligner_names()[0]} --data {self.data.root}`"
            raise InputError(f"condition stn needs a trained aligner: {make}, or name its run")

    @property
    def facts(self) -> dict[str, str]:
        """What recovered faces depend on beside the method."""
        facts = {"data_sha256": self.data.sha256, "condition": self.condition}
        if self.condition == "stn" and self.aligner:
            facts["aligner_sha256"] = self.aligner.sha256("last")
        return facts

    @cached_property
    def aligning(self) -> Trained:
        """The trained aligner. Raises InputError for a run of a method that is none."""
        assert self.aligner
        trained = load_trained(self.aligner, device=self.device)
        if not trained.part.aligns:
            raise InputError(f"{self.aligner.root}: a run of {self.aligner.method}, which is no aligner")
        return trained

    def stylized(self, shard: Shard) -> np.ndarray:
        """A shard's SFs under the condition, uint8 (n, 128, 128, 3)."""
        if self.condition == "oracle":
            return shard.upright()
        if self.condition == "stn":
            return recover_shard(self.aligning.method, shard.stylized, self.device)
        return shard.stylized


@dataclass(frozen=True)
class _Source:
    """What makes recovered faces: a method's part, how it is built when the
    first missing shard is met, and what they depend on.
    """

    part: Part
    build: Callable[[], Usable]
    facts: Mapping[str, str]


def recover_split(run: Run, task: Task, *, checkpoint: str = "last") -> Path:
    """Recovered shards of a split; returns their folder.

    Shards that this checkpoint made from this data set under this condition are kept.
    """
    part = parts.trainable(run.method)

    def build() -> Usable:
        looks = not part.aligns and part.method.needs_training
        training = LookedInto(task.training or task.data, "train", task.device) if looks else None
        return load_trained(run, checkpoint=checkpoint, device=task.device, training=training).method

    weights = NO_CHECKPOINT if part.use == "optimised" else run.sha256(checkpoint)
    facts = {"checkpoint_sha256": weights, "settings": json.dumps(run.info["config"], sort_keys=True)}
    if run.mirrored:
        facts |= {"sides": "both"}
    folder = run.work / "recovered" / task.data.root.name / f"{task.condition}{run.sign}"
    return _recover_shards(_Source(part, build, facts), task, folder)


def recover_untrained(name: str, task: Task, out: Path) -> Path:
    """Recovered shards of a method that is not trained (the difficulty rows), into ``out/NAME/CONDITION``.

    Returns their folder.
    """
    part = parts.trainable(name)
    if part.use != "fixed":
        raise InputError(f"{name} is trained: evaluate a run of it")
    looked_into = task.training or task.data

    def build() -> Usable:
        there = part.method.needs_training and looked_into.pairs("train")
        training = LookedInto(looked_into, "train", task.device) if there else None
        return part.method.build(part.method.config(**part.settings), Setup(task.device, training=training))

    facts = {"method": name, "version": __version__, "training_sha256": looked_into.sha256}
    return _recover_shards(_Source(part, build, facts), task, out / name / task.condition)


def _recover_shards(source: _Source, task: Task, folder: Path) -> Path:
    """The shards that are not there yet; the method is built when the first of them is met."""
    facts = {**task.facts, **source.facts}
    mine = task.data.shards(task.split)[task.processes.rank::task.processes.world]
    missing = [path for path in mine if recovered_facts(folder / task.data.name_of(path)) != facts]
    if missing:
        exact_float32(task.device)
        method = source.build()
    silent = task.quiet or not task.processes.first
    for path in tqdm(missing, desc=f"{folder.parent.name} {task.condition}", unit="shard", disable=silent):
        shard = task.data.read(path)
        stylized = task.stylized(shard)
        if source.part.use == "optimised":
            kept = _Kept(folder / "parts", json.dumps([task.data.name_of(path), facts]))
            recovered = _recover_slowly(method, stylized, shard.real[shard.real_index], kept, task)
        else:
            recovered = recover_shard(method, stylized, task.device)
        write_recovered(folder / task.data.name_of(path), recovered, facts)
    task.processes.wait()
    if task.processes.first and (missing or not (folder / "preview.png").is_file()):
        write_png(folder / "preview.png", preview_sheet(task.data, task.split, folder))
    return folder


@dataclass(frozen=True)
class _Kept:
    """Batches of a shard that is not whole yet, in ``folder``, under a hash of what they depend on."""

    folder: Path
    facts: str

    @property
    def key(self) -> str:
        """The first part of the files' names."""
        return hashlib.sha256(self.facts.encode()).hexdigest()[:12]

    def read(self, start: int) -> np.ndarray | None:
        """The batch from a row on; None where it is not there or not whole."""
        try:
            return np.load(self._path(start), allow_pickle=False)   # type: ignore[no-any-return]
        except (OSError, ValueError, EOFError):
            return None

    def write(self, start: int, faces: np.ndarray) -> None:
        """Keep the batch from a row on."""
        buffer = io.BytesIO()
        np.save(buffer, faces, allow_pickle=False)
        write_whole(self._path(start), buffer.getvalue())

    def clear(self) -> None:
        """The shard is whole."""
        for path in self.folder.glob(f"{self.key}-*.npy"):
            path.unlink()

    def _path(self, start: int) -> Path:
        return self.folder / f"{self.key}-{start:05d}.npy"


def _recover_slowly(
    method: Usable, stylized: np.ndarray, real: np.ndarray, kept: _Kept, task: Task,
) -> np.ndarray:
    """By a method that optimises each face: in small batches, each kept
    until the shard is whole, so that a kill loses little.
    """
    size = OPTIMISED_AT_ONCE["cpu" if task.device == "cpu" else "cuda"]

    def one(start: int) -> np.ndarray:
        found = kept.read(start)
        if found is not None:
            return found
        rows = slice(start, start + size)
        made = to_pictures(
            method.recover(to_faces(stylized[rows], task.device), to_faces(real[rows], task.device))
        )
        kept.write(start, made)
        return made

    silent = task.quiet or not task.processes.first
    starts = tqdm(range(0, len(stylized), size), desc="faces", unit="batch", leave=False, disable=silent)
    batches = on_threads(one, starts) if task.device == "cpu" else [one(start) for start in starts]
    kept.clear()
    return np.concatenate(batches)


def time_faces(part: Part, config: object, data: Dataset, device: str) -> float:
    """Seconds that a method which optimises each face takes for one with this configuration, all cores at
    work.

    From its recovery of some validation faces.
    """
    method = part.declared.build(config, Setup(device, training=LookedInto(data, "train", device)))
    split = load_split(data, "val", device, upright=True)
    size = OPTIMISED_AT_ONCE["cpu" if device == "cpu" else "cuda"]
    batch = split.pairs(torch.arange(size, device=device) % len(split))
    batches = range(2 * (default_workers() or 1) if device == "cpu" else 2)

    def one(_: int) -> None:
        to_pictures(method.recover(batch.stylized, batch.real))

    one(0)   # what it looks into is looked into once
    started = time.perf_counter()
    if device == "cpu":
        on_threads(one, batches)
    else:
        for number in batches:
            one(number)
    return (time.perf_counter() - started) / (len(batches) * len(batch.real))


def preview_sheet(data: Dataset, split: str, folder: Path, people: int = 4) -> np.ndarray:
    """Two rows a person of the split's first shard: the SF in every style, and what was recovered from it
    with the RF at the end.
    """
    path = data.shards(split)[0]
    shard = data.read(path)
    recovered = read_recovered(folder / data.name_of(path), rows=len(shard.stylized))
    blank = np.full_like(shard.real[0], 255)
    rows = []
    for person in np.unique(shard.real_index)[:people]:
        of_person = np.flatnonzero(shard.real_index == person)
        rows.append([*shard.stylized[of_person], blank])
        rows.append([*recovered[of_person], shard.real[person]])
    return tile(rows)

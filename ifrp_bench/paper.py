"""The stages in their order: recover what is missing, score it, write tables and the report; and, for a whole paper, train what has no run yet.

Stages do not import each other; this module and the command line are where they meet.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from ifrp_bench.catalog import difficulty_rows, load_method
from ifrp_bench.destylize import Task, alignment_errors, recover_split, recover_untrained, time_faces
from ifrp_bench.errors import InputError
from ifrp_bench.evaluate import DEFAULT, Entry, checked_metrics, evaluate
from ifrp_bench.exchange import import_recovered
from ifrp_bench.nets.recogniser import open_recogniser
from ifrp_bench.processes import Processes
from ifrp_bench.report import write_report
from ifrp_bench.runs import Run, open_run
from ifrp_bench.shards import Dataset
from ifrp_bench.tables import tables_of, write_tables
from ifrp_bench.train import split_settings, time_training, train
from ifrp_bench.weights import write_whole

METHODS = ("aligner", "gatys", "gatys-oracle", "johnson", "mgan", "pix2pix", "cyclegan", "srn", "srn-dn", "ifrp")   # rows of the paper, and the aligner first
BUDGET_VALIDATIONS = 4   # of a training that has minutes: they are part of them
SKETCHES = "sketches"   # the folder of a results folder with those of a second, test-only data set


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated with what. ``runs`` are run folders, ``recovered`` names and folders of pictures that other systems made, ``sketches`` a
    test-only data set for the sketch columns, ``aligner`` the run that the condition ``stn`` takes."""

    data: Dataset
    out: Path
    runs: tuple[Path, ...] = ()
    conditions: tuple[str, ...] = ("raw",)
    metrics: tuple[str, ...] = DEFAULT
    recogniser: str = "builtin"
    sketches: Dataset | None = None
    recovered: tuple[tuple[str, Path], ...] = ()
    aligner: Run | None = None
    device: str = "cpu"
    quiet: bool = False


@dataclass(frozen=True)
class Paper:
    """A whole paper: ``methods`` by name, each trained with its ``preset`` into ``runs/NAME``; with ``minutes``, for as long in place of its length."""

    data: Dataset
    runs: Path
    methods: tuple[str, ...]
    preset: str
    minutes: float | None = None
    seed: int = 0
    device: str = "cpu"
    quiet: bool = False

    def settings(self, name: str) -> tuple[ModuleType, dict[str, Any]]:
        """The method's module and its settings. Raises InputError for a method that is not trained, and for a preset that it does not have."""
        module, variant = load_method(name)
        if not module.TRAINABLE and not getattr(module, "OPTIMISED", False):
            raise InputError(f"{name} is a difficulty row: it stands in every table without being named")
        presets = getattr(module, "PRESETS", {})
        if self.preset not in presets:
            raise InputError(f"preset {self.preset!r} is none of {name}'s: {', '.join(presets) or 'it has none'}")
        return module, presets[self.preset] | variant | {"seed": self.seed}

    def root(self, name: str) -> Path:
        """The run's folder."""
        return self.runs / Path(name).stem


@dataclass(frozen=True)
class Planned:
    """A method's run to be: its resolved settings, and how many seconds its training will take (0 if there is none to come)."""

    name: str
    module: ModuleType
    settings: dict[str, Any]
    seconds: float = 0.0


def plan(paper: Paper, say: Callable[[str], None]) -> list[Planned]:
    """What is to be trained, and for how long: from a few steps of each method timed here, said method by method. A run that is begun keeps its length.

    Raises InputError for a method or a preset that does not exist before anything is timed.
    """
    settings = {name: paper.settings(name) for name in paper.methods}
    return [
        (_plan_optimised if getattr(module, "OPTIMISED", False) else _plan_training)(paper, name, module, chosen, say)
        for name, (module, chosen) in settings.items()
    ]


def _plan_optimised(paper: Paper, name: str, module: ModuleType, settings: dict[str, Any], say: Callable[[str], None]) -> Planned:
    """Of a method that optimises each face: the budget is for the test faces under one condition."""
    key = module.OPTIMISED
    _, config = split_settings(module, name, {"steps": 1} | settings)
    a_step = time_faces(module, config, paper.data, paper.device) / getattr(config, key)
    faces = paper.data.info["counts"]["test"]["pairs"]
    if paper.minutes:
        settings = settings | {key: _begun_with(paper.root(name), "config", key) or max(1, int(60 * paper.minutes / (faces * a_step)))}
    steps = settings.get(key, getattr(config, key))
    seconds = a_step * steps
    say(f"{name}: not trained; {steps} steps a face, {seconds:.2f} s a face, about {seconds * faces / 60:.1f} minutes of the evaluation under each condition")
    return Planned(name, module, settings)


def _plan_training(paper: Paper, name: str, module: ModuleType, settings: dict[str, Any], say: Callable[[str], None]) -> Planned:
    root = paper.root(name)
    if _finished(root):
        say(f"{name}: finished")
        return Planned(name, module, settings)
    if paper.minutes:
        settings = settings | {"validations": BUDGET_VALIDATIONS}
    timing = time_training(module, name, settings, paper.data, paper.device)
    if paper.minutes:
        steps = _begun_with(root, "loop", "steps") or timing.steps_in(60 * paper.minutes)
        settings, timing = settings | {"steps": steps, "epochs": 0.0}, replace(timing, steps=steps)
    say(f"{name}: {timing.steps} steps, about {timing.seconds / 60:.1f} minutes at {timing.a_step:.2f} s a step")
    return Planned(name, module, settings, timing.seconds)


def _begun_with(root: Path, part: str, key: str) -> int | None:
    """The length that a run which is begun has; None if there is none."""
    return int(open_run(root).info[part][key]) if (root / "run.json").is_file() else None


def train_all(paper: Paper, planned: list[Planned]) -> list[Path]:
    """Train every method that lacks a finished run, one after the other; gives the runs' folders. Stopped, it goes on where it was."""
    for run in planned:
        if not _finished(paper.root(run.name)):
            train(run.module, run.name, run.settings, paper.data, paper.root(run.name), device=paper.device, quiet=paper.quiet)
    return [paper.root(run.name) for run in planned]


def _finished(root: Path) -> bool:
    """Whether a run has reached its last step."""
    if not (root / "last.json").is_file():
        return False
    step, steps = open_run(root).progress("last")
    return step == steps


def evaluate_all(wanted: Evaluation) -> list[Path]:
    """Recover, score, and write tables and the report; gives their paths (none in the second and later of several processes)."""
    processes = Processes(wanted.device)
    embedder = open_recogniser(wanted.recogniser, processes.device) if any(name in ("frr", "fcr", "vr") for name in wanted.metrics) else None
    checked_metrics(wanted.metrics, embedder)
    runs = [open_run(root) for root in wanted.runs]
    for run in runs:
        _check_data(run, wanted.data)
    for data, out in [(wanted.data, wanted.out), *([(wanted.sketches, wanted.out / SKETCHES)] if wanted.sketches else [])]:
        entries = list(_entries(wanted, runs, data, out, processes))
        evaluate(entries, data, out, metrics=wanted.metrics, recogniser=embedder, processes=processes, quiet=wanted.quiet)
    if not processes.first:
        return []
    _write_alignment(wanted)
    if not wanted.sketches:   # an earlier evaluation's would stand beside rows that they do not go with
        (wanted.out / SKETCHES / "scores.csv").unlink(missing_ok=True)
    return write_results(wanted.out)


def _write_alignment(wanted: Evaluation) -> None:
    """``alignment.csv``: how far the aligner of the condition ``stn`` is off on each SF."""
    path = wanted.out / "alignment.csv"
    if "stn" not in wanted.conditions or wanted.aligner is None:
        path.unlink(missing_ok=True)
        return
    frame = pd.DataFrame(alignment_errors(Task(wanted.data, "stn", wanted.aligner, device=wanted.device)))
    seen = frame["style"].isin(wanted.data.info["recipe"]["train_styles"])
    frame = frame.assign(method="aligner", run=wanted.aligner.root.name, condition="raw", seen=seen, data_sha256=wanted.data.sha256)
    write_whole(path, frame.to_csv(index=False, float_format="%.6g").encode())


def write_results(folder: Path) -> list[Path]:
    """Tables and the report of a results folder, from its scores and those of its ``sketches/``; gives their paths, the report's last."""
    sketches = folder / SKETCHES if (folder / SKETCHES / "scores.csv").is_file() else None
    tables = tables_of(folder, sketches)
    return [*write_tables(folder, sketches, tables), write_report(folder, sketches, tables)]


def _check_data(run: Run, data: Dataset) -> None:
    """A run is tested on the data set that it was trained on, or on one without a training split. Raises InputError for another one."""
    if run.info["data_sha256"] != data.sha256 and data.info["counts"]["train"]["pairs"]:
        raise InputError(
            f"{run.root}: trained on another data set ({run.info.get('data')}, {run.info['data_sha256'][:12]}...) than {data.root} ({data.sha256[:12]}...), "
            "so people it is tested on may have been trained on; evaluate it on its own, or train it again"
        )


def _entries(wanted: Evaluation, runs: list[Run], data: Dataset, out: Path, processes: Processes) -> Iterable[Entry]:
    """Every row of the tables, its faces recovered."""
    for condition in wanted.conditions:
        task = Task(data, condition, wanted.aligner, device=processes.device, quiet=wanted.quiet, processes=processes, training=wanted.data)
        for name in difficulty_rows() if wanted.data.info["counts"]["train"]["pairs"] else ["copy"]:
            yield Entry(name, "", condition, recover_untrained(name, task, out / "recovered"), condition == _headline("raw", wanted))
        for run in runs:
            module, _ = load_method(run.method)
            if not getattr(module, "TABLE_ROW", True):
                continue
            headline = _headline(getattr(module, "HEADLINE", "raw"), wanted)
            yield Entry(Path(run.method).stem, run.root.name, condition, recover_split(run, task), condition == headline, _note(run, module))
    for name, pictures in wanted.recovered if data is wanted.data else ():
        folder = out / "recovered" / name / "given"
        if processes.first:
            import_recovered(pictures, data, folder)
        processes.wait()
        yield Entry(name, pictures.name, "given", folder)


def _note(run: Run, module: ModuleType) -> str:
    """What a reader of the tables must know of a run: how far it is, its method's own words, and those on its features."""
    step, steps = run.progress("last")
    parts = [
        f"stands at step {step} of {steps}" if step < steps else "", getattr(module, "VARIANT_NOTES", {}).get(run.method, ""),
        getattr(module, "NOTE", "") if run.info["config"].get("features") != "vgg19" else "",
    ]
    return "; ".join(part for part in parts if part)


def _headline(condition: str, wanted: Evaluation) -> str:
    """The condition of a paper's table, or the first that was asked for."""
    return condition if condition in wanted.conditions else wanted.conditions[0]

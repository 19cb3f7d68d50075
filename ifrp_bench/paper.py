"""The stages in their order: recover what is missing, score it, write tables and the report; and, for a whole paper, train what has no run yet.

Stages do not import each other; this module and the command line are where they meet.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from ifrp_bench.train import split_settings, time_steps, train
from ifrp_bench.weights import write_whole

METHODS = ("aligner", "gatys", "gatys-oracle", "johnson", "mgan", "pix2pix", "cyclegan", "srn", "srn-dn", "ifrp")   # rows of the paper, and the aligner first
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
    """A whole paper: ``methods`` by name, each trained with its ``preset`` into ``runs/NAME``."""

    data: Dataset
    runs: Path
    methods: tuple[str, ...]
    preset: str
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


def estimate(paper: Paper, say: Callable[[str], None]) -> float:
    """Seconds that training what is not finished will take, from a few steps of each method timed here; says them method by method."""
    total = 0.0
    for name in paper.methods:
        module, settings = paper.settings(name)
        if getattr(module, "OPTIMISED", False):
            _, config = split_settings(module, name, {"steps": 1} | settings)
            seconds = time_faces(module, config, paper.data, paper.device)
            minutes = seconds * paper.data.info["counts"]["test"]["pairs"] / 60
            say(f"{name}: not trained; {seconds:.2f} s a face, about {minutes:.1f} minutes of the evaluation under each condition")
            continue
        if _finished(paper.root(name)):
            say(f"{name}: finished")
            continue
        seconds, steps = time_steps(module, name, settings, paper.data, paper.device)
        say(f"{name}: {steps} steps, about {seconds * steps / 60:.1f} minutes at {seconds:.2f} s a step")
        total += seconds * steps
    return total


def train_all(paper: Paper) -> list[Path]:
    """Train every method that lacks a finished run, one after the other; gives the runs' folders. Stopped, it goes on where it was."""
    for name in paper.methods:
        paper.settings(name)   # all of them are checked before the first is trained
    for name in paper.methods:
        if not _finished(paper.root(name)):
            module, settings = paper.settings(name)
            train(module, name, settings, paper.data, paper.root(name), device=paper.device, quiet=paper.quiet)
    return [paper.root(name) for name in paper.methods]


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

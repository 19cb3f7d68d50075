"""The stages in their order: recover what is missing, score it, write tables and the report; and train what
has no run yet.

Stages do not import each other; this module and the command line are where they meet.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ifrp_bench import parts
from ifrp_bench.data.exchange import import_recovered
from ifrp_bench.data.format import Dataset
from ifrp_bench.data.runs import Run, open_run
from ifrp_bench.data.shipped import Shipped, check_unseen, find_run
from ifrp_bench.forecast import rates, recovery_seconds
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.processes import Processes
from ifrp_bench.methods import Setup
from ifrp_bench.metrics import Metric
from ifrp_bench.nets.recogniser import Recogniser, best_installed, open_recogniser
from ifrp_bench.parts import Part
from ifrp_bench.recovery.alignment import alignment_errors
from ifrp_bench.recovery.split import Task, recover_split, recover_untrained, time_faces
from ifrp_bench.recovery.trained import name_of
from ifrp_bench.results.evaluate import Entry, check_recognisers, evaluate, named_metrics, needs_recogniser
from ifrp_bench.results.report import write_report
from ifrp_bench.results.tables import tables_of, write_tables
from ifrp_bench.robustness import Judged, Rendering, contenders, write_curves, write_left_out
from ifrp_bench.training.loop import train
from ifrp_bench.training.resolve import Job, resolve
from ifrp_bench.training.timing import begun_loop, timed_for

TIMED_STEPS = 3   # of a method that optimises each face
LEFT_OUT = "left-out"   # the folder of runs that lack a style
SKETCHES = "sketches"   # the folder of a results folder with those of a second, test-only data set

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated with what.

    ``runs`` are run folders, ``recovered`` names and folders of pictures that other systems made,
    ``sketches`` a test-only data set for the sketch columns, ``aligner`` the run that the condition ``stn``
    takes, ``metrics`` None for those computed by default. ``recognisers`` are names and files, the first
    one's columns have plain names; none: the best one at hand for the data set's faces. With
    ``headline_only`` a run is evaluated under the condition of its row in the paper's tables alone (the first
    of ``conditions`` where that is not among them), the difficulty rows under all. With ``curves`` so many
    test faces are made again for the robustness curves; ``faces`` and ``styles`` say where photographs and
    further styles are.
    """

    data: Dataset
    out: Path
    runs: tuple[Path, ...] = ()
    conditions: tuple[str, ...] = ("raw",)
    headline_only: bool = False
    metrics: tuple[str, ...] | None = None
    recognisers: tuple[str, ...] = ()
    sketches: Dataset | None = None
    recovered: tuple[tuple[str, Path], ...] = ()
    aligner: Run | None = None
    curves: int = 0
    faces: Path | None = None
    styles: Path | None = None
    device: str = "cpu"
    quiet: bool = False

    @property
    def named(self) -> dict[str, Metric]:
        """What is computed, by name."""
        return named_metrics(parts.default_metrics() if self.metrics is None else self.metrics)

    def judges(self, device: str) -> list[Recogniser]:
        """Its recognisers, where a metric needs one."""
        names = self.recognisers if needs_recogniser(self.named) else ()
        return [open_recogniser(name, device) for name in names]


@dataclass(frozen=True)
class Paper:
    """A whole paper: ``methods`` by name, each trained with its ``preset`` into ``runs/NAME``.

    With ``minutes``, for as long in place of the preset's length. ``without_style`` is left out of every
    training; ``ending`` stands behind the runs' names.
    """

    data: Dataset
    runs: Path
    methods: tuple[str, ...]
    preset: str
    minutes: float | None = None
    seed: int = 0
    device: str = "cpu"
    quiet: bool = False
    without_style: str = ""
    ending: str = ""

    def job(self, name: str) -> Job:
        """The method's job.

        Raises InputError for a method that is not trained, and for a preset that it does not have.
        """
        settings = {"without_style": self.without_style} if self.without_style else {}
        return resolve(name, self.preset, settings, seed=self.seed)

    def root(self, name: str) -> Path:
        """The run's folder."""
        return self.runs / f"{Path(name).stem}{self.ending}"

    def of_seed(self, number: int) -> "Paper":
        """The same trainings from another seed; those of the first have plain names."""
        return self if number == 0 else replace(self, seed=self.seed + number, ending=f"-seed{number}")

    def left_out(self, style: str) -> "Paper":
        """The same trainings without a style, of the methods that are trained."""
        trained = tuple(name for name in self.methods if parts.trainable(name).use == "trained")
        return replace(
            self, runs=self.runs / LEFT_OUT / style, methods=trained, without_style=style
        )

    def finished(self, name: str) -> bool:
        """Whether the run is there and done: at its last step, or, of a method that is not trained, begun."""
        root = self.root(name)
        if not (root / "run.json").is_file():
            return False
        return parts.trainable(name).use == "optimised" or open_run(root).finished()


@dataclass(frozen=True)
class Planned:
    """A method's run to be, and how many seconds its training will take (0 if there is none to come)."""

    job: Job
    seconds: float = 0.0


def plan(paper: Paper, say: Say, *, as_long_as: Sequence[Planned] = ()) -> list[Planned]:
    """What is to be trained, and for how long: from a few steps of each method timed here, said method by
    method.

    A run that is begun keeps its length. With minutes, ``as_long_as`` are the runs whose lengths the others
    take, another seed's or those with all styles: what is compared differs in nothing else. Raises InputError
    for a method or a preset that does not exist before anything is timed.
    """
    jobs = [paper.job(name) for name in paper.methods]
    others = {run.job.name: run.job for run in as_long_as}
    return [
        (_plan_optimised if job.loop is None else _plan_training)(paper, job, others.get(job.name), say)
        for job in jobs
    ]


def _plan_optimised(paper: Paper, job: Job, other: Job | None, say: Say) -> Planned:
    """Of a method that optimises each face: the budget is for the test faces under one condition."""
    a_step = _seconds_a_step(job, paper.data, paper.device)
    faces = paper.data.pairs("test")
    if paper.minutes:
        begun = _begun_with(paper.root(job.name), job.part.method.steps_setting)
        length = begun or (other.steps_a_face if other else int(60 * paper.minutes / (faces * a_step)))
        job = job.with_steps(max(1, length))
    seconds = a_step * job.steps_a_face
    said = f"{job.steps_a_face} steps a face, {seconds:.2f} s a face"
    say(
        f"{job.name}: not trained; {said}, about {seconds * faces / 60:.1f} minutes of the evaluation under"
        " each condition"
    )
    return Planned(job)


def _seconds_a_step(job: Job, data: Dataset, device: str) -> float:
    """Of a face, by a method that optimises each."""
    return time_faces(job.part, job.with_steps(TIMED_STEPS).config, data, device) / TIMED_STEPS


def _plan_training(paper: Paper, job: Job, other: Job | None, say: Say) -> Planned:
    root, minutes = paper.root(job.name), paper.minutes
    length = begun_loop(root) or (other and other.loop) if minutes else None
    if length:
        job, minutes = job.as_long_as(length), None
    if paper.finished(job.name):
        say(f"{job.name}: finished")
        return Planned(job)
    job, timing = timed_for(job, paper.data, root, paper.device, minutes)
    say(f"{job.name}: {timing.said}")
    return Planned(job, timing.seconds)


def _begun_with(root: Path, setting: str) -> int | None:
    """The length that a run of a method that is not trained was begun with; None if there is none."""
    return int(open_run(root).info["config"][setting]) if (root / "run.json").is_file() else None


def train_all(paper: Paper, planned: list[Planned]) -> list[Path]:
    """Train every method that lacks a finished run, one after the other; returns the runs' folders.

    Stopped, it is resumed.
    """
    folders = []
    for run in planned:
        root = paper.root(run.job.name)
        if not paper.finished(run.job.name):
            train(run.job, paper.data, root, device=paper.device, quiet=paper.quiet)
        folders.append(root)
    return folders


def evaluation_seconds(wanted: Evaluation, planned: Sequence[Planned]) -> float:
    """How long the evaluation of these runs will take where nothing is kept from an earlier one: from a few
    faces recovered and scored here. Curves are not counted.
    """
    found = rates(wanted.data, list(wanted.named.values()), wanted.judges(wanted.device))
    times = [(run.job.part.aligns, _seconds_a_face(run.job, wanted.data, wanted.device)) for run in planned]
    recoveries = [a_face for aligns, a_face in times if not aligns]
    aligning = max((a_face for aligns, a_face in times if aligns), default=0.0)
    seconds = 0.0
    for data in filter(None, (wanted.data, wanted.sketches)):
        counts = data.info["counts"]["test"]
        fixed = len(_difficulty_rows(data, wanted.data))
        seconds += found.seconds(
            counts["pairs"], counts["faces"], recoveries, wanted.conditions, aligning, fixed
        )
    return seconds


def _seconds_a_face(job: Job, data: Dataset, device: str) -> float:
    """Of recovery, by a method with the weights that it begins with: it takes as long with others."""
    if job.loop is None:
        return job.steps_a_face * _seconds_a_step(job, data, device)
    method = job.part.declared.build(job.config, Setup(device, trains=False))
    return recovery_seconds(method, data, device)


def find_aligner(runs: Path) -> Path:
    """The run of an aligner in a folder of runs, or where one would be."""
    for path in sorted(runs.glob("*/run.json")):
        if parts.trainable(open_run(path.parent).method).aligns:
            return path.parent
    return runs / parts.aligner_names()[0]


def evaluate_all(wanted: Evaluation) -> list[Path]:
    """Recover, score, and write tables and the report.

    Returns their paths (none in the second and later of several processes).
    """
    processes = Processes(wanted.device)
    wanted, _ = pick_recognisers(wanted)
    metrics, judges = wanted.named, wanted.judges(processes.device)
    check_recognisers(metrics, judges)
    runs = [find_run(root) for root in wanted.runs]
    shipped = [wanted.aligner] if isinstance(wanted.aligner, Shipped) else []
    for run in (*runs, *shipped):
        check_unseen(run, wanted.data)
    _check_names(runs, wanted.recovered)

    # the data set, and the sketches beside it
    todo = [(wanted.data, wanted.out)]
    if wanted.sketches:
        todo.append((wanted.sketches, wanted.out / SKETCHES))
    for data, out in todo:
        entries = list(_entries(wanted, runs, data, out, processes))
        evaluate(
            entries, data, out,
            metrics=metrics, recogniser=judges, processes=processes, quiet=wanted.quiet,
        )
    if not processes.first:
        return []

    _write_alignment(wanted)
    _write_curves(wanted, runs, judges)
    if not wanted.sketches:   # an earlier evaluation's would stand beside rows that they do not go with
        (wanted.out / SKETCHES / "scores.csv").unlink(missing_ok=True)
    return write_results(wanted.out)


def pick_recognisers(wanted: Evaluation) -> tuple[Evaluation, str]:
    """The evaluation with the best recogniser at hand for its faces, where none is named and one is needed;
    and what its user must know of that.
    """
    if wanted.recognisers or not needs_recogniser(wanted.named):
        return wanted, ""
    rendered = _is_rendered(wanted.data)
    name = best_installed(rendered=rendered)
    said = f"recogniser {name}; --recogniser names another"
    if name == best_installed(rendered=True) and not rendered:
        said = (
            f"recogniser {name}: it knows rendered faces, what it says of photographs means little; for"
            " those pip install 'ifrp-bench[dlib]', or ifrp-bench fetch facenet, or --recogniser FILE.onnx"
        )
    return replace(wanted, recognisers=(name,)), said


def _is_rendered(data: Dataset) -> bool:
    """Whether this project drew the faces; those of a source of the user's own are taken for photographs."""
    source = data.info["recipe"]["source"]
    return source in parts.source_names() and parts.source(source).rendered


def _write_alignment(wanted: Evaluation) -> None:
    """``alignment.csv``: how far the aligner of the condition ``stn`` is off on each SF."""
    path = wanted.out / "alignment.csv"
    if "stn" not in wanted.conditions or wanted.aligner is None:
        path.unlink(missing_ok=True)
        return
    frame = pd.DataFrame(alignment_errors(Task(wanted.data, "stn", wanted.aligner, device=wanted.device)))
    frame = frame.assign(
        method=name_of(wanted.aligner),
        run=wanted.aligner.root.name,
        condition="raw",
        seen=frame["style"].isin(wanted.data.seen),
        data_sha256=wanted.data.sha256,
    )
    write_whole(path, frame.to_csv(index=False, float_format="%.6g").encode())


def _write_curves(wanted: Evaluation, runs: list[Run], judges: list[Recogniser]) -> None:
    """``curves.csv``: how scores change with one thing at a time. Judged by the first recogniser."""
    if not wanted.curves:
        (wanted.out / "curves.csv").unlink(missing_ok=True)
        return
    if not judges:
        raise InputError("the curves need a recogniser: leave --metrics out, or name frr, fcr or vr too")
    rendering = Rendering(wanted.data, wanted.curves, wanted.faces, wanted.styles, wanted.device)
    write_curves(
        Judged(wanted.data, judges[0]),
        contenders(runs, wanted.aligner, wanted.device),
        rendering,
        wanted.out,
        quiet=wanted.quiet,
    )


def leave_styles_out(
    paper: Paper, with_all: Sequence[Planned], wanted: Evaluation, say: Say
) -> list[Path]:
    """Train every method without each of the training styles in turn, test it on the one, and write
    ``left-out.csv``, its table and the report again; returns their paths.

    The runs that lack no style, ``with_all``, stand beside; with minutes the others are as long as they are.
    Stopped, it is resumed.
    """
    styles = paper.data.seen
    if len(styles) < 2:
        raise InputError(f"{paper.data.root}: trained on {', '.join(styles)} alone; nothing can be left out")
    tested = {name for name in paper.data.info["recipe"]["test_styles"]}
    missing = [style for style in styles if style not in tested]
    if missing:
        raise InputError(f"{paper.data.root}: {', '.join(missing)} are trained on and not tested")
    wanted, _ = pick_recognisers(wanted)
    judged = Judged(wanted.data, open_recogniser(wanted.recognisers[0], wanted.device))
    compared = [("", one) for one in contenders(map(open_run, wanted.runs), wanted.aligner, wanted.device)]
    for style in styles:
        without = paper.left_out(style)
        say(f"without {style}:")
        planned = plan(without, say, as_long_as=with_all)
        runs = [open_run(folder) for folder in train_all(without, planned)]
        aligner = next((run for run in runs if parts.trainable(run.method).aligns), None)
        found = contenders(runs, aligner, wanted.device)
        compared += [(style, one) for one in found if one.run]
    write_left_out(judged, compared, wanted.out)
    return write_results(wanted.out)


def write_results(folder: Path) -> list[Path]:
    """Tables and the report of a results folder, from its scores and those of its ``sketches/``.

    Returns their paths, the report's last.
    """
    sketches = folder / SKETCHES if (folder / SKETCHES / "scores.csv").is_file() else None
    tables = tables_of(folder, sketches)
    return [*write_tables(folder, sketches, tables), write_report(folder, sketches, tables)]


def _check_names(runs: Sequence[Run], recovered: Iterable[tuple[str, Path]]) -> None:
    """Rows that can be told apart, before any work: a run is known by its method and its folder's name, other
    systems' faces by the name that they were given.

    Raises InputError for two of one name, and for a name that is no name of a folder.
    """
    names = [f"{name_of(run)} of a run called {run.name}" for run in runs]
    folders = [run.root for run in runs]
    for name, folder in recovered:
        printed = name.isprintable() and name.strip()
        if not printed or name.startswith(".") or set(name) & set("/\\"):
            raise InputError(
                f"--recovered {name}={folder}: {name!r} is to be a folder's name in the results; expected"
                " characters that can be printed, no slash, no dot in front; give one with NAME=DIR"
            )
        names.append(f"{name} of other systems")
        folders.append(folder)
    for name, count in Counter(names).items():
        if count > 1:
            alike = ", ".join(str(folder) for other, folder in zip(names, folders) if other == name)
            raise InputError(
                f"{alike}: {count} rows would be {name}; rename a run's folder, or give other systems' faces"
                " a name each with --recovered NAME=DIR"
            )


def _entries(
    wanted: Evaluation, runs: list[Run], data: Dataset, out: Path, processes: Processes,
) -> Iterator[Entry]:
    """Every row of the tables, its faces recovered."""
    fixed = _difficulty_rows(data, wanted.data)
    for condition in wanted.conditions:
        task = Task(
            data, condition, wanted.aligner,
            device=processes.device, quiet=wanted.quiet, processes=processes, training=wanted.data,
        )

        # rows that are neither trained nor optimised
        for name in fixed:
            folder = recover_untrained(name, task, out / "recovered")
            headline = _headline(parts.trainable(name).method.headline, wanted)
            yield Entry(name, "", condition, folder, headline=condition == headline)

        # runs; an aligner's recovers no faces
        for run in runs:
            part = parts.trainable(run.method)
            if part.aligns:
                continue
            headline = _headline(part.method.headline, wanted)
            if wanted.headline_only and condition != headline:
                continue
            folder = recover_split(run, task)
            yield Entry(
                name_of(run), run.name, condition, folder, condition == headline, _note(run, part, data),
                run.styles_trained(), run.mirrored,
            )

    # faces that other systems recovered
    for name, pictures in wanted.recovered if data is wanted.data else ():
        folder = out / "recovered" / name / "given"
        if processes.first:
            import_recovered(pictures, data, folder)
        processes.wait()
        yield Entry(name, pictures.name, "given", folder)


def _difficulty_rows(data: Dataset, training: Dataset) -> list[str]:
    source = data.info["recipe"]["source"]
    drawn = source in parts.source_names() and not parts.source(source).made
    return parts.difficulty_rows(with_training=bool(training.pairs("train")), of_sketches=drawn)


def _note(run: Run, part: Part, data: Dataset) -> str:
    """What a reader of the tables must know of a run: how far it is, its method's own words, and which styles
    stand as unseen that it has seen.
    """
    config: Any = part.declared.config(**run.info["config"])
    notes = list(part.method.notes(config))
    if run.mirrored:
        notes.append("the mean of what it makes of the SF and of its mirror image")
    tested, trained_on = data.info["recipe"]["test_styles"], run.styles_trained() or {}
    known = [style for style in tested if style in trained_on and style not in data.seen]
    if known:
        notes.append(f"was trained on {', '.join(known)}, too, which stand as unseen")
    if part.use == "trained":
        step, steps = run.progress("last")
        if step < steps:
            notes.insert(0, f"stands at step {step} of {steps}")
    return "; ".join(notes)


def _headline(condition: str, wanted: Evaluation) -> str:
    """The condition of a paper's table, or the first that was asked for."""
    return condition if condition in wanted.conditions else wanted.conditions[0]

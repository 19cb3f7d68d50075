"""Commands that score, compare and report."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ifrp_bench.cli.options import (
    CONDITIONS, FOLDER, aligner_option, device_option, find_aligner, opened, part_names, pick_device,
    quiet_option, refuse_given, seed_option, sketches_option, styles_option, words,
)

if TYPE_CHECKING:
    from ifrp_bench.paper import Evaluation

recogniser_option = click.option(
    "--recogniser",
    "recognisers",
    metavar="NAME|FILE.onnx",
    multiple=True,
    help=(
        "For frr, fcr and vr: builtin (for rendered faces), facenet (see fetch), dlib (extra dlib), or an"
        " ONNX file with a card (FILE.json) beside it; may be repeated, each has columns of its own."
        " [default: the best one installed for the faces]"
    ),
)


@click.command("eval")
@click.argument("runs", nargs=-1, type=FOLDER, metavar="[RUN]...")
@click.option(
    "--data",
    type=FOLDER,
    default=Path("data/demo"),
    show_default=True,
    help="The data set whose test split is evaluated.",
)
@click.option(
    "--metrics",
    metavar="NAME,NAME|FILE,...",
    help=f"Only these of {part_names('metrics')}, or files of your own. [default: psnr,ssim,frr,fcr,vr]",
)
@recogniser_option
@click.option(
    "--condition",
    "conditions",
    type=click.Choice(CONDITIONS),
    multiple=True,
    default=("raw",),
    show_default=True,
    help=(
        "What methods see; may be repeated: the SF as it is, brought upright by an aligner, or with its"
        " stored warp."
    ),
)
@click.option(
    "--headline-only",
    is_flag=True,
    help=(
        "Of the conditions each run under one alone, that of its row in the paper's tables: stn for the"
        " baselines, raw for the others. Difficulty rows under all."
    ),
)
@sketches_option
@click.option(
    "--recovered",
    multiple=True,
    metavar="[NAME=]DIR",
    help="Faces recovered by another system, named as `pictures` names the SFs; may be repeated.",
)
@aligner_option
@click.option(
    "--curves",
    is_flag=True,
    help=(
        "Also robustness: faces made again with another rotation, scale, shift, strength of the style, blur"
        " and JPEG quality, one at a time."
    ),
)
@click.option(
    "--curve-faces", type=click.IntRange(2), default=50, show_default=True, help="Test faces of the curves."
)
@click.option(
    "--portraits",
    type=FOLDER,
    help=(
        "In place of a test split: a folder of portraits without real faces, one sub-folder a person where"
        " there are several of one. Without RUN, by the shipped weights."
    ),
)
@click.option("--faces", type=FOLDER, help="For the curves: where the photographs are, if they have moved.")
@styles_option
@click.option("--out", type=FOLDER, help="Where to write. [default: results/DATA]")
@device_option
@quiet_option
def evaluate(
    runs: tuple[Path, ...],
    data: Path,
    metrics: str | None,
    recognisers: tuple[str, ...],
    conditions: tuple[str, ...],
    headline_only: bool,
    sketches: Path | None,
    recovered: tuple[str, ...],
    aligner: Path | None,
    curves: bool,
    curve_faces: int,
    portraits: Path | None,
    faces: Path | None,
    styles: Path | None,
    out: Path | None,
    device: str,
    quiet: bool,
) -> None:
    """Score trained runs and the difficulty rows (copy, mean-face, nearest-face) on a test split, and write
    tables and a report.

    Without RUN, all of runs/DATA/; RUN+ is a row of its own, the mean of what RUN makes of each SF and of its
    mirror image. What was recovered, scored and embedded before is used again. Several processes share the
    work: `torchrun --nproc-per-node 2 -m ifrp_bench eval ...`.

    \b
    Examples:
      ifrp-bench eval
      ifrp-bench eval --metrics frr,fcr
      ifrp-bench eval ifrp ifrp+ --data data/lfw
      ifrp-bench eval runs/lfw/ifrp --data data/lfw --recogniser faces.onnx --condition raw --condition oracle
      ifrp-bench eval --data data/lfw --recovered theirs=recovered_by_them --sketches data/sketches
      ifrp-bench eval --curves
      ifrp-bench eval --portraits paintings --data data/lfw
    """
    if portraits:
        refuse_given(
            "metrics", "conditions", "headline_only", "sketches", "recovered", "aligner", "curves",
            "curve_faces", "faces", "styles", because="--portraits has no real faces to score against",
        )
        return _portraits(portraits, runs, data, recognisers, out, device, quiet)
    from ifrp_bench.data.shipped import find_run

    if not curves:
        refuse_given("curve_faces", "faces", "styles", because="they are for --curves")
    dataset, drawings = opened(data, quiet), opened(sketches) if sketches else None
    for run in runs:
        find_run(run)

    from ifrp_bench.paper import Evaluation, evaluate_all

    out = out or Path("results") / data.name
    all_runs = sorted(path.parent for path in (Path("runs") / data.name).glob("*/run.json"))
    wanted = Evaluation(
        data=dataset,
        out=out,
        runs=runs or tuple(all_runs),
        conditions=conditions,
        headline_only=headline_only,
        metrics=words(metrics),
        recognisers=recognisers,
        sketches=drawings,
        recovered=tuple(named_folder(text) for text in recovered),
        aligner=find_aligner(conditions, aligner, data),
        curves=curve_faces if curves else 0,
        faces=faces,
        styles=styles,
        device=pick_device(device),
        quiet=quiet,
    )
    show_tables(evaluate_all(with_recogniser(wanted)), out)


def _portraits(
    folder: Path,
    runs: tuple[Path, ...],
    data: Path,
    recognisers: tuple[str, ...],
    out: Path | None,
    device: str,
    quiet: bool,
) -> None:
    import numpy as np

    dataset = opened(data)

    from ifrp_bench.data.shipped import DEFAULT, find_run
    from ifrp_bench.nets.recogniser import best_installed, open_recogniser
    from ifrp_bench.portraits import evaluate_portraits

    if len(recognisers) > 1:
        raise click.UsageError("--portraits takes one --recogniser")
    real = np.concatenate([dataset.read(path).real for path in dataset.shards("test")])
    name = recognisers[0] if recognisers else best_installed(rendered=False)
    page = evaluate_portraits(
        folder,
        [find_run(run) for run in runs or (Path(DEFAULT),)],
        open_recogniser(name, pick_device(device)),
        real,
        out or Path("results") / folder.resolve().name,
        device=pick_device(device),
        quiet=quiet,
    )
    click.echo(f"recogniser {name}; look at {page}")


def with_recogniser(wanted: "Evaluation") -> "Evaluation":
    """The evaluation with a recogniser picked where none was named and one is needed; said to the user."""
    from ifrp_bench.paper import pick_recognisers

    picked, said = pick_recognisers(wanted)
    if said and not wanted.quiet:
        click.echo(said)
    return picked


@click.command()
@click.option(
    "--data", type=FOLDER, default=Path("data/demo"), show_default=True, help="A data set that `synth` made."
)
@click.option(
    "--preset", default="smoke", show_default=True, help="Length of every training: paper, short, cpu, smoke."
)
@click.option(
    "--methods",
    metavar="NAME,NAME",
    help="Only these. [default: aligner, the five baselines, the ablations and ifrp]",
)
@click.option(
    "--condition",
    "conditions",
    type=click.Choice(CONDITIONS),
    multiple=True,
    default=CONDITIONS,
    show_default=True,
    help="As for eval; may be repeated.",
)
@recogniser_option
@sketches_option
@click.option("--runs", type=FOLDER, help="Where runs are kept. [default: runs/DATA]")
@click.option("--out", type=FOLDER, help="Where to write. [default: results/DATA]")
@seed_option
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=(
        "An equal budget in place of the preset's lengths: so many minutes of training for each method, of"
        " optimising for Gatys under each condition."
    ),
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True,
    help="Trainings of each method, from as many seeds; tables get their spread.",
)
@click.option(
    "--leave-one-style-out", "leave_out", is_flag=True,
    help="Also train every method without each training style in turn, and test it on the one.",
)
@click.option(
    "--dry-run", is_flag=True, help="Time a few steps of each method, say how long all will take, and stop."
)
@device_option
@quiet_option
def paper(
    data: Path,
    preset: str,
    methods: str | None,
    conditions: tuple[str, ...],
    recognisers: tuple[str, ...],
    sketches: Path | None,
    runs: Path | None,
    out: Path | None,
    seed: int,
    minutes: float | None,
    seeds: int,
    leave_out: bool,
    dry_run: bool,
    device: str,
    quiet: bool,
) -> None:
    """The whole comparison in one command: train every method that lacks a finished run, evaluate all under
    the three conditions, write tables and the report. Stopped anywhere, the same command resumes.

    \b
    Examples:
      ifrp-bench paper --dry-run
      ifrp-bench paper --data data/lfw --preset cpu --recogniser mobilefacenet.onnx
      ifrp-bench paper --data data/lfw --preset cpu --minutes 20
      ifrp-bench paper --seeds 3 --leave-one-style-out
    """
    dataset, drawings = opened(data, quiet), opened(sketches) if sketches else None

    from ifrp_bench import parts
    from ifrp_bench.data.runs import open_run
    from ifrp_bench.paper import (
        Evaluation, Paper, evaluate_all, evaluation_seconds, leave_styles_out, plan, train_all,
    )

    device = pick_device(device)
    chosen = words(methods) or parts.paper_rows()
    aligners = [name for name in chosen if parts.trainable(name).aligns]
    if "stn" in conditions and not aligners:
        aligners = parts.aligner_names()[:1]
        chosen = (*aligners, *chosen)
    wanted = Paper(
        data=dataset,
        runs=runs or Path("runs") / data.name,
        methods=chosen,
        preset=preset,
        minutes=minutes,
        seed=seed,
        device=device,
        quiet=quiet,
    )
    trainings = [wanted.of_seed(number) for number in range(seeds)]
    first = plan(wanted, click.echo)
    planned = [first, *(plan(training, click.echo, as_long_as=first) for training in trainings[1:])]
    total = sum(run.seconds for runs in planned for run in runs) / 60
    said = f"about {total:.0f} minutes of training"
    if leave_out:
        more = len(dataset.seen) * sum(run.seconds for run in first) / 60
        said += f", {more:.0f} more without a style each"
    out = out or Path("results") / data.name
    evaluation = with_recogniser(Evaluation(
        data=dataset,
        out=out,
        conditions=conditions,
        recognisers=recognisers,
        sketches=drawings,
        device=device,
        quiet=quiet,
    ))
    if dry_run:   # it takes minutes to find out: whoever wants to train is not to wait for it
        scoring = evaluation_seconds(evaluation, [run for runs in planned for run in runs]) / 60
        click.echo(f"{said}; then about {scoring:.0f} minutes of evaluation")
        return
    click.echo(f"{said}; the evaluation comes after it")

    folders = [folder for paper, runs in zip(trainings, planned) for folder in train_all(paper, runs)]
    aligner = open_run(wanted.root(aligners[0])) if aligners else None
    evaluation = replace(evaluation, runs=tuple(folders), aligner=aligner)
    tables = evaluate_all(evaluation)
    if leave_out:
        tables = leave_styles_out(wanted, first, evaluation, click.echo)
    show_tables(tables, out)


def show_tables(written: list[Path], out: Path) -> None:
    """Print Tables 1 and 2 and where the rest is."""
    for path in written:
        if path.suffix == ".md" and path.stem in ("table1", "table2"):
            click.echo(path.read_text(encoding="utf-8"))
    if written:
        click.echo(f"{out}: scores.csv, results.json, tables/; look at {out / 'report.html'}")


def named_folder(text: str) -> tuple[str, Path]:
    """``NAME=DIR`` or ``DIR``, which is its own name."""
    name, equals, folder = text.partition("=")
    path = Path(folder if equals else text)
    return (name if equals else path.resolve().name), path


@click.command()
@click.argument("results", type=FOLDER)
def report(results: Path) -> None:
    """Write tables and the report of a results folder again, from its scores.

    \b
    Example:
      ifrp-bench report results/demo
    """
    from ifrp_bench.results.tables import read_scores

    read_scores(results)   # before anything that takes seconds to import

    from ifrp_bench.paper import write_results

    click.echo(f"look at {write_results(results)[-1]}")

"""The command that trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ifrp_bench.cli.options import (
    FOLDER, device_option, opened, pick_device, quiet_option, refuse_given, seed_option, settings_option,
    styles_option,
)
from ifrp_bench.ground.errors import InputError

if TYPE_CHECKING:
    from ifrp_bench.data.format import Dataset
    from ifrp_bench.training.resolve import Job


@click.command()
@click.option(
    "--method",
    default="ifrp",
    show_default=True,
    metavar="NAME|FILE",
    help="A method or ablation (`ifrp-bench list`), or a file of your own.",
)
@click.option(
    "--data",
    type=FOLDER,
    help="A data set that `synth` made. [default: data/demo; with --resume the run's own, under data/]",
)
@click.option("--out", type=FOLDER, help="The run's folder. [default: runs/DATA/METHOD]")
@click.option(
    "--preset",
    help=(
        "Length and options: paper, short, cpu, smoke. [default: smoke on data/demo; else short on a GPU, cpu"
        " on a CPU]"
    ),
)
@settings_option("Change a setting, e.g. epochs=100, batch_size=32, features=vgg19.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=(
        "As many steps as fit into so many minutes of this machine, validations counted, in place of the"
        " preset's length: from a few steps timed first. A run that is begun keeps its length."
    ),
)
@seed_option
@click.option(
    "--faces",
    type=FOLDER,
    help="Where the data set's photographs are, for redraw=EPOCHS. [default: where they were]",
)
@styles_option
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out with the settings that it was started with."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
@device_option
@quiet_option
def train(
    method: str,
    data: Path | None,
    out: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    minutes: float | None,
    seed: int,
    faces: Path | None,
    styles: Path | None,
    resume: bool,
    dry_run: bool,
    device: str,
    quiet: bool,
) -> None:
    """Train a method on a data set.

    The run's folder holds the settings, the log, pictures and checkpoints. Stopped or killed, the same
    command resumes and ends with the same weights. Several processes: `torchrun --nproc-per-node 2 -m
    ifrp_bench train ...` or `accelerate launch`.

    \b
    Examples:
      ifrp-bench train
      ifrp-bench train --method ifrp --data data/lfw --preset cpu --out runs/lfw/ifrp
      ifrp-bench train --method align-restore --data data/lfw --preset cpu --minutes 30
      ifrp-bench train --method srn --data data/celeba --preset paper --set features=vgg19
      ifrp-bench train --resume --out runs/lfw/ifrp
    """
    from ifrp_bench.data.runs import Run, open_run

    if resume:
        if out is None:
            raise InputError("--resume: name the run's folder with --out")
        refuse_given(
            "method", "preset", "settings", "minutes", "seed",
            because=f"--resume continues {out} as it was begun; for another training leave --resume out and"
            " choose another --out",
        )
        there = open_run(out)
        data = data or Path("data") / there.info["data"]
    else:
        there, data = None, data or Path("data/demo")
    dataset = opened(data, quiet)

    from ifrp_bench.ground.launch import find_place
    from ifrp_bench.ground.settings import parse_settings
    from ifrp_bench.training import resolve
    from ifrp_bench.training.loop import describe, train as run_training

    device = pick_device(device)
    if there:
        job = resolve.resume(there)
    else:
        chosen = preset or resolve.default_preset(method, demo=data == Path("data/demo"), device=device)
        job = resolve.resolve(method, chosen, parse_settings(settings), seed=seed)
    if job.loop is None or not job.loop.redraw:
        refuse_given("faces", "styles", because="they are for --set redraw=EPOCHS, which makes pairs anew")
    out = out or Path("runs") / data.name / Path(job.name).stem
    if minutes:
        job = _for_minutes(job, parse_settings(settings), minutes, dataset, out, device)
    if dry_run:
        click.echo(describe(job, dataset))
        return

    begun = Run(out, {}).has("last")   # what it started from may be gone since
    if job.loop and job.loop.init and not begun and find_place().first:
        _say_known(job.loop.init, dataset)
    run = run_training(job, dataset, out, faces=faces, styles=styles, device=device, quiet=quiet)
    if not find_place().first:   # of several processes one speaks
        return
    if job.loop is None:
        use = "`ifrp-bench eval` or `destylize --split` uses the run"
        click.echo(f"{out}: {job.name} is not trained; it optimises each face when {use}")
        return
    facts = run.summary()
    if facts["best_db"] is None:
        click.echo(f"{out}: finished; its log is gone, and with it what it scored")
    else:
        length = f"{facts['step']} steps in {facts['seconds'] / 60:.1f} minutes"
        scored = f"{facts['best_db']:.2f} dB on validation (the mean face: {facts['mean_face_db']:.2f} dB)"
        click.echo(f"{out}: {length}, {scored}")
    click.echo(f"Look at {out / 'pictures'}; use it with `ifrp-bench destylize {out} PICTURE`.")


def _say_known(init: str, data: "Dataset") -> None:
    """A word where what a training starts from knows the people that it is validated on."""
    from ifrp_bench.data.shipped import known_before, people_of

    people = people_of(data, "val")
    known = known_before(init, people)
    if known:
        click.echo(
            f"init={init}: {len(known)} of the {len(people)} people of the val split were trained on; what"
            " validation says is of people who are known"
        )


def _for_minutes(
    job: "Job", asked: Mapping[str, Any], minutes: float, data: "Dataset", out: Path, device: str
) -> "Job":
    """The job at the length that fits into so many minutes, said to the user.

    Raises click.UsageError where minutes cannot say the length.
    """
    from ifrp_bench.ground.launch import find_place
    from ifrp_bench.training.timing import timed_for

    lengths = [key for key in ("steps", "epochs") if key in asked]
    if lengths:
        raise click.UsageError(f"--minutes and {lengths[0]}={asked[lengths[0]]} both say how long to train")
    if job.loop is None:
        raise click.UsageError(f"--minutes: {job.name} is not trained; `ifrp-bench paper --minutes` has it")
    if find_place().world > 1:
        raise click.UsageError("--minutes is timed in one process; of several give --set steps=N")
    job, timing = timed_for(job, data, out, device, minutes, int(asked.get("validations", 0)))
    click.echo(timing.said)
    return job

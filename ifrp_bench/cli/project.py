"""Commands around the project itself: what there is, downloads, speed, and everything at once, small."""

import json
import sys
from pathlib import Path

import click

from ifrp_bench.cli.data import synth, verify
from ifrp_bench.cli.options import FOLDER, device_option, pick_device, quiet_option, settings_option
from ifrp_bench.cli.results import evaluate
from ifrp_bench.ground.errors import InputError

DEMO_METHOD = "align-restore"   # what the demo's short training shows: it learns soonest
DEMO_VALIDATIONS = 6   # points of its learning curve


@click.command()
@click.argument("name")
@click.option(
    "--from",
    "where",
    metavar="FILE|URL",
    help="Your copy, or another address. [default: where its authors publish it]",
)
def fetch(name: str, where: str | None) -> None:
    """Download weights (vgg16, vgg19, facenet, inception, lpips) into the cache, checked by their hashes.
    Nothing else uses the network.

    \b
    Example:
      ifrp-bench fetch vgg16
    """
    from ifrp_bench.ground.weights import fetch_weights

    click.echo(f"placed {fetch_weights(name, where)}")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_all(as_json: bool) -> None:
    """Recipes, face sources, styles, methods, metrics and shipped weights."""
    from ifrp_bench.data.catalog import catalogue

    if as_json:
        click.echo(json.dumps(dict(catalogue()), indent=1))
        return
    for room, rows in catalogue():   # as they come: the methods want torch
        click.echo(f"{room}:")
        for row in rows:
            click.echo(f"  {row['name']:<18}{row.get('description') or row.get('title', '')}".rstrip())


@click.command()
@click.argument("names", nargs=-1, metavar="[synth|train|eval|baselines]...")
@click.option(
    "--data",
    type=FOLDER,
    default=Path("data/demo"),
    show_default=True,
    help="The data set that trainings and evaluations are timed on.",
)
def bench(names: tuple[str, ...], data: Path) -> None:
    """Print the speed ratios of this machine; needs a clone, whose benchmarks/ it runs.

    \b
    Example:
      ifrp-bench bench train
    """
    import subprocess

    folder = Path(__file__).parents[2] / "benchmarks"
    known = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    if not known:
        raise InputError(
            f"{folder}: no benchmarks here; they come with a clone of the project, not with an installed"
            " package"
        )
    for name in names or known:
        if name not in known:
            raise InputError(f"benchmark {name!r} is none of {', '.join(known)}")
        done = subprocess.run(
            [sys.executable, str(known[name]), *(("--data", str(data)) if name != "synth" else ())]
        )
        if done.returncode:
            sys.exit(done.returncode)


@click.command()
@click.option(
    "--out",
    type=FOLDER,
    default=Path("data/demo"),
    show_default=True,
    help="The data set.",
)
@click.option(
    "--run", "run_folder", type=FOLDER, default=Path("runs/demo") / DEMO_METHOD, show_default=True,
    help="The short training.",
)
@click.option(
    "--results",
    type=FOLDER,
    default=Path("results/demo"),
    show_default=True,
    help="Scores, tables and the report.",
)
@settings_option("Change a setting of the short training, e.g. steps=40.")
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    help="Of the short training at the end; 0 leaves it out.",
)
@device_option
@quiet_option
@click.pass_context
def demo(
    ctx: click.Context,
    out: Path,
    run_folder: Path,
    results: Path,
    settings: tuple[str, ...],
    minutes: float,
    device: str,
    quiet: bool,
) -> None:
    """Everything that there is, small, on rendered faces: make the demo data set, check it, recover people
    with the weights that come along and have never seen them, score them beside the difficulty rows, write
    tables and a report to look at; then a short training, to see a method learn.
    """
    from ifrp_bench.data.shipped import DEFAULT

    ctx.invoke(synth, recipe="demo", out=out, device=device, quiet=quiet)
    ctx.invoke(verify, data=out, device=device, quiet=quiet)
    ctx.invoke(evaluate, runs=(Path(DEFAULT),), data=out, out=results, device=device, quiet=quiet)
    if minutes:
        learn(out, run_folder, settings, minutes, pick_device(device), quiet)
    click.echo(
        "Next:\n"
        "  ifrp-bench destylize portrait.jpg --compare    # your own picture, painting or drawing\n"
        f"  ifrp-bench train --method {DEMO_METHOD} --data {out} --preset cpu --out runs/demo/longer\n"
        "  ifrp-bench list                                # recipes, styles, methods, metrics, weights"
    )


def learn(
    data: Path, run_folder: Path, settings: tuple[str, ...], minutes: float, device: str, quiet: bool
) -> None:
    """Train for so many minutes, validations counted, and say what was learned by when."""
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.ground.settings import parse_settings
    from ifrp_bench.training.loop import train as run_training
    from ifrp_bench.training.resolve import resolve
    from ifrp_bench.training.timing import timed_for

    # as many steps as fit; a training that is begun keeps its length
    dataset, asked = open_dataset(data), {"validations": DEMO_VALIDATIONS} | parse_settings(settings)
    job = resolve(DEMO_METHOD, "smoke", asked)
    if not {"steps", "epochs"} & set(asked):
        job, _ = timed_for(job, dataset, run_folder, device, minutes, job.trained.validations)
    run = run_training(job, dataset, run_folder, device=device, quiet=quiet)

    learned = f"{DEMO_METHOD}, from nothing, on {dataset.pairs('train')} pairs"
    click.echo(f"{learned}; minutes, and PSNR on people whom it is not trained on:")
    for facts in run.read_log():
        if "val_psnr_db" in facts:
            best = max(facts["val_psnr_db"], facts.get("val_psnr_ema_db", 0.0))
            click.echo(f"  {facts['seconds'] / 60:5.1f}  {best:5.2f} dB")
    mean_face = run.summary()["mean_face_db"]
    scored = "its log is gone" if mean_face is None else f"the mean face: {mean_face:.2f} dB"
    click.echo(f"  ({scored}; look at {run_folder / 'pictures'})")

"""Commands around the project itself: what there is, downloads, speed, and everything at once, small."""

import json
import sys
import time
from pathlib import Path

import click

from ifrp_bench.cli.data import synth, verify
from ifrp_bench.cli.options import FOLDER, device_option, pick_device, quiet_option, settings_option
from ifrp_bench.cli.results import evaluate
from ifrp_bench.cli.training import train
from ifrp_bench.ground.errors import InputError

# kept back of the demo's minutes: half of it on the machine of benchmarks/results.md
DEMO_EVALUATION_SECONDS = 75


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
    """Recipes, face sources, styles, methods and metrics."""
    from ifrp_bench.data.catalog import catalogue

    found = catalogue()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for room, rows in found.items():
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
    help="The data set; the run goes to runs/demo/ifrp.",
)
@click.option(
    "--run", "run_folder", type=FOLDER, default=Path("runs/demo/ifrp"), show_default=True, help="The run."
)
@click.option(
    "--results",
    type=FOLDER,
    default=Path("results/demo"),
    show_default=True,
    help="Scores, tables and the report.",
)
@settings_option("Change a setting of the training, e.g. steps=40.")
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="For all of it: a machine that is too slow for IFRP trains pix2pix.",
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
    """Everything that there is, small, on rendered faces: make the demo data set, check it, train IFRP on it,
    recover faces of people whom it has never seen, score them beside the difficulty rows, and write tables
    and a report to look at.

    A machine on which IFRP's training does not fit into the minutes trains pix2pix on upright faces in its
    place, and says so.
    """
    started = time.monotonic()
    ctx.invoke(synth, recipe="demo", out=out, device=device, quiet=quiet)
    ctx.invoke(verify, data=out, device=device, quiet=quiet)
    left = 60 * minutes - DEMO_EVALUATION_SECONDS - (time.monotonic() - started)
    method = demo_method(settings, left, out, run_folder, pick_device(device))
    run_folder, condition = (
        (run_folder, "raw") if method == "ifrp" else (run_folder.with_name(method), "oracle")
    )
    ctx.invoke(
        train,
        method=method,
        data=out,
        out=run_folder,
        preset="smoke",
        settings=settings,
        device=device,
        quiet=quiet,
    )
    ctx.invoke(
        evaluate,
        runs=(run_folder,),
        data=out,
        conditions=(condition,),
        out=results,
        device=device,
        quiet=quiet,
    )


def demo_method(settings: tuple[str, ...], seconds: float, data: Path, run_folder: Path, device: str) -> str:
    """``ifrp`` if it is begun or its training fits into so many seconds; else ``pix2pix``, which shows a face
    after fewer steps, with a word.
    """
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.ground.settings import parse_settings
    from ifrp_bench.training.resolve import resolve
    from ifrp_bench.training.timing import time_training

    if (run_folder / "last.json").is_file():
        return "ifrp"
    job = resolve("ifrp", "smoke", parse_settings(settings))
    needed = time_training(job, open_dataset(data), device, timed=1).seconds
    if needed <= seconds:
        return "ifrp"
    click.echo(
        f"note: IFRP would take {needed / 60:.0f} minutes of training here; pix2pix, on upright faces, is"
        " trained in its place (--minutes 60 trains IFRP)",
        err=True,
    )
    return "pix2pix"

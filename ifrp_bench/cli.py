"""The command line: options are checked here, each command makes one call. Everything heavy is imported inside the commands."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from ifrp_bench import __version__
from ifrp_bench.errors import InputError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
CONDITIONS = ("raw", "stn", "oracle")
DEMO_EVALUATION_SECONDS = 75   # kept back of the demo's minutes: half of it on the machine of benchmarks/results.md


class _Commands(click.Group):
    """Users' mistakes and full disks end in one line and exit code 1, Ctrl-C in 130; a traceback is always a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno is None:
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror}; what is whole is kept: mend it and run the same command again") from None
        except KeyboardInterrupt:
            click.echo("Interrupted; run the same command again to go on.", err=True)
            ctx.exit(130)


def device_option(function: Any) -> Any:
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option("--device", type=choice, default="auto", show_default=True, help="auto takes a GPU where there is one.")(function)


def quiet_option(function: Any) -> Any:
    return click.option("--quiet", is_flag=True, help="No progress bars.")(function)


def workers_option(function: Any) -> Any:
    return click.option("--workers", type=click.IntRange(0), help="Processes; 0 is this process itself. [default: one a core]")(function)


def checkpoint_option(function: Any) -> Any:
    choice = click.Choice(["last", "best"])
    return click.option("--checkpoint", type=choice, default="last", show_default=True, help="The end of training, or the best on validation.")(function)


def aligner_option(function: Any) -> Any:
    return click.option("--aligner", type=FOLDER, help="The run that aligns for the condition stn. [default: runs/DATA/aligner]")(function)


def styles_option(function: Any) -> Any:
    return click.option("--styles", type=FOLDER, help="A folder of your own style folders, beside the eight.")(function)


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Synthesize, train and evaluate face recovery from stylized portraits.

    \b
    Start here (no data needed):
      ifrp-bench demo
    """


@cli.command()
@click.argument("recipe", default="demo")
@click.option("--faces", type=FOLDER, help="Real faces: CelebA's folder, or photographs in one folder per person.")
@click.option("--out", type=FOLDER, help="Where to write. [default: data/RECIPE]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, e.g. train_faces=40.")
@click.option("--seed", type=click.IntRange(0), help="Another draw of faces and misalignments. [default: the recipe's, 0]")
@click.option("--landmarks", type=FILE, help="Where found faces are kept, to share between runs. [default: OUT/landmarks.csv]")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures a network takes at once. [default: 1 on CPU, 64 on GPU]")
@click.option("--dry-run", is_flag=True, help="Say how many pairs, bytes and minutes, and stop; faces found in photographs are kept.")
@styles_option
@workers_option
@device_option
@quiet_option
def synth(
    recipe: str, faces: Path | None, out: Path | None, settings: tuple[str, ...], seed: int | None, landmarks: Path | None,
    batch_size: int | None, dry_run: bool, styles: Path | None, workers: int | None, device: str, quiet: bool,
) -> None:
    """Make a data set of stylized/real face pairs.

    RECIPE is the name of a recipe (`ifrp-bench list`) or a TOML file. A run that was stopped goes on where it was; workers and
    batch size change its speed, not one byte of the result.

    \b
    Examples:
      ifrp-bench synth
      ifrp-bench synth photos --faces lfw --out data/lfw
      ifrp-bench synth celeba-paper --faces CelebA
      ifrp-bench synth demo --set train_faces=40 --set test_faces=10 --out data/tiny
    """
    from ifrp_bench.recipe import load_recipe
    from ifrp_bench.synth import synthesize
    from ifrp_bench.workers import default_workers

    chosen = load_recipe(recipe, settings, seed)
    out = out or Path("data") / chosen.name
    workers = default_workers() if workers is None else workers
    device = pick_device(device)
    if dry_run:
        _dry_run(chosen, faces, out, styles, landmarks, workers, device, quiet)
        return
    info = synthesize(
        chosen, out, faces=faces, styles=styles, landmarks=landmarks, device=device, workers=workers, batch_size=batch_size, quiet=quiet
    )
    counts = info["counts"]
    click.echo(f"{out}: " + ", ".join(f"{counts[split]['pairs']} {split} pairs of {counts[split]['faces']} faces" for split in ("train", "val", "test")))
    click.echo(f"Look at {out / 'preview.png'}; left out: {out / 'skipped.csv'}; check it with `ifrp-bench verify {out}`.")


def _dry_run(recipe: Any, faces: Path | None, out: Path, styles: Path | None, landmarks: Path | None, workers: int, device: str, quiet: bool) -> None:
    from ifrp_bench.synth import estimate_seconds, free_bytes, plan_only, size_of

    plan = plan_only(recipe, faces, styles=styles, landmarks=landmarks or out / "landmarks.csv", workers=workers, device=device, quiet=quiet)
    for split in ("train", "val", "test"):
        click.echo(f"{split}: {len(plan.faces(split))} faces, {plan.pairs(split)} pairs in {len(plan.recipe.styles_of(split))} styles")
    size, free = size_of(plan.shards), free_bytes(out)
    minutes = estimate_seconds(plan, device) / 60
    click.echo(f"{out}: {size / 2**20:,.0f} MiB in {len(plan.shards)} shards ({free / 2**20:,.0f} MiB free), about {minutes:.1f} minutes on {device}")
    if size > free:
        raise InputError(f"{out}: not enough space; make space or choose another --out")


@cli.command()
@click.argument("data", type=FOLDER, default=Path("data/demo"))
@click.option("--faces", type=FOLDER, help="Where the real faces are, if they have moved.")
@click.option("--sample", type=click.IntRange(0), default=16, show_default=True, help="About how many pairs to render again and compare.")
@styles_option
@device_option
@quiet_option
def verify(data: Path, faces: Path | None, sample: int, styles: Path | None, device: str, quiet: bool) -> None:
    """Check a data set: schema, counts, ranges, every hash, the splits, and a sample of pairs rendered again.

    \b
    Example:
      ifrp-bench verify data/demo
    """
    from ifrp_bench.verify import verify as check

    report = check(data, faces=faces, styles=styles, device=pick_device(device), sample=sample, quiet=quiet)
    for note in report.notes:
        click.echo(f"note: {note}")
    if report.problems:
        for problem in report.problems:
            click.echo(f"Error: {problem}", err=True)
        sys.exit(1)
    click.echo(f"{data}: good ({report.shards} shards, {report.pairs} pairs, every hash; {report.rendered} pairs rendered again and equal)")


@cli.command()
@click.option("--method", default="ifrp", show_default=True, metavar="NAME|FILE", help="A method or ablation (`ifrp-bench list`), or a file of your own.")
@click.option("--data", type=FOLDER, help="A data set that `synth` made. [default: data/demo; with --resume the run's own, under data/]")
@click.option("--out", type=FOLDER, help="The run's folder. [default: runs/DATA/METHOD]")
@click.option("--preset", help="Length and options: paper, short, cpu, smoke. [default: smoke on data/demo; else short on a GPU, cpu on a CPU]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. epochs=100, batch_size=32, features=vgg19.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with the run in --out with the settings that it was started with.")
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
@device_option
@quiet_option
def train(
    method: str, data: Path | None, out: Path | None, preset: str | None, settings: tuple[str, ...], seed: int, resume: bool, dry_run: bool, device: str,
    quiet: bool,
) -> None:
    """Train a method on a data set.

    The run's folder holds the settings, the log, pictures and checkpoints. Stopped or killed, the same command goes on where it was and
    ends with the same weights. Several processes: `torchrun --nproc-per-node 2 -m ifrp_bench train ...` or `accelerate launch`.

    \b
    Examples:
      ifrp-bench train
      ifrp-bench train --method ifrp --data data/lfw --preset cpu --out runs/lfw/ifrp
      ifrp-bench train --method srn --data data/celeba --preset paper --set features=vgg19
      ifrp-bench train --resume --out runs/lfw/ifrp
    """
    from ifrp_bench.catalog import load_method
    from ifrp_bench.runs import open_run
    from ifrp_bench.settings import parse_settings
    from ifrp_bench.shards import open_dataset
    from ifrp_bench.train import describe, train as run_training

    device = pick_device(device)
    if resume:
        if out is None:
            raise InputError("--resume: name the run's folder with --out")
        there = open_run(out)
        method, chosen = there.method, there.info["loop"] | there.info["config"]
        module, _ = load_method(method)
        data = data or Path("data") / there.info["data"]
    else:
        module, chosen = load_method(method)
        if not module.TRAINABLE and not getattr(module, "OPTIMISED", False):
            raise InputError(f"{method} is not trained: it is a row that says how hard a data set is")
        data = data or Path("data/demo")
        presets = getattr(module, "PRESETS", {})
        name = preset or ("smoke" if data == Path("data/demo") else "cpu" if device == "cpu" else "short")
        if name not in presets and (preset or presets):
            raise InputError(f"preset {name!r} is none of {method}'s: {', '.join(presets) or 'it has none'}")
        chosen = presets.get(name, {}) | chosen | {"seed": seed} | length_given(parse_settings(settings))
    dataset = open_dataset(data)
    out = out or Path("runs") / data.name / Path(method).stem
    if dry_run:
        click.echo(describe(module, method, chosen, dataset))
        return
    run = run_training(module, method, chosen, dataset, out, device=device, quiet=quiet)
    if int(os.environ.get("RANK", "0")):   # of several processes one speaks
        return
    if getattr(module, "OPTIMISED", False):
        click.echo(f"{out}: {method} is not trained; it optimises each face when `ifrp-bench eval` or `destylize --split` uses the run")
        return
    facts = run.summary()
    click.echo(
        f"{out}: {facts['step']} steps in {facts['seconds'] / 60:.1f} minutes, {facts['best_db']:.2f} dB on validation "
        f"(the mean face: {facts['mean_face_db']:.2f} dB)"
    )
    click.echo(f"Look at {out / 'pictures'}; use it with `ifrp-bench destylize {out} PICTURE`.")


def length_given(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which a length given in steps replaces a preset's epochs, and the other way round."""
    if ("epochs" in settings) != ("steps" in settings):
        return settings | ({"steps": 0} if "epochs" in settings else {"epochs": 0.0})
    return settings


@cli.command()
@click.argument("run", type=FOLDER)
@click.argument("pictures", nargs=-1, type=FILE, metavar="[PICTURE]...")
@click.option("--out", type=FOLDER, help="Where recovered faces are written. [default: RUN/destylized]")
@click.option(
    "--crop", type=click.Choice(["auto", "face", "centre", "none"]), default="auto", show_default=True,
    help="auto: the face that MTCNN finds, or else the middle; none: the whole picture is an SF already.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Instead of pictures: a data set's split, into RUN/recovered/.")
@click.option("--data", type=FOLDER, help="The data set of --split. [default: the one named in the run, under data/]")
@click.option(
    "--condition", type=click.Choice(CONDITIONS), default="raw", show_default=True,
    help="With --split: the SF as it is, brought upright by an aligner, or with its stored warp.",
)
@aligner_option
@checkpoint_option
@click.option("--bf16", is_flag=True, help="Faster, within a few grey levels; pictures only.")
@device_option
@quiet_option
def destylize(
    run: Path, pictures: tuple[Path, ...], out: Path | None, crop: str, split: str | None, data: Path | None, condition: str,
    aligner: Path | None, checkpoint: str, bf16: bool, device: str, quiet: bool,
) -> None:
    """Recover real faces with a trained run: from any pictures, paintings and sketches included, or from a split of a data set.

    Each picture gives NAME.png and NAME-compared.png. The network's 128x128 faces are shown in CelebA's proportions.

    \b
    Examples:
      ifrp-bench destylize runs/demo/ifrp portrait.jpg sketch.png --out recovered
      ifrp-bench destylize runs/lfw/ifrp --split test --data data/lfw
    """
    from ifrp_bench.destylize import Task, load_trained, recover_pictures, recover_split, write_results
    from ifrp_bench.precision import has_bfloat16
    from ifrp_bench.runs import open_run
    from ifrp_bench.shards import open_dataset

    if bool(pictures) == bool(split):
        raise click.UsageError("name pictures, or a split of a data set with --split")
    there, device = open_run(run), pick_device(device)
    if split:
        dataset = open_dataset(data or Path("data") / there.info["data"])
        task = Task(dataset, condition, open_aligner(condition, aligner, dataset.root), split, device, quiet)
        folder = recover_split(there, task, checkpoint=checkpoint)
        click.echo(f"{folder}: recovered faces of {split}, {condition}; look at {folder / 'preview.png'} (stylized, recovered, real)")
        return
    trained = load_trained(there, checkpoint=checkpoint, device=device)
    if trained.step < trained.steps:
        click.echo(f"note: {run} stands at step {trained.step} of {trained.steps}", err=True)
    if bf16 and not has_bfloat16(device):
        click.echo(f"note: this {device} has no bfloat16 instructions; float32 is faster here and is taken", err=True)
    results = recover_pictures(pictures, trained.method, crop=crop, device=device, bfloat16=bf16 and has_bfloat16(device))
    _, bad = write_results(results, out or run / "destylized", lambda line: click.echo(line, err=line.startswith("Error")))
    sys.exit(1 if bad else 0)


@cli.command("eval")
@click.argument("runs", nargs=-1, type=FOLDER, metavar="[RUN]...")
@click.option("--data", type=FOLDER, default=Path("data/demo"), show_default=True, help="The data set whose test split is evaluated.")
@click.option(
    "--metrics", metavar="psnr,ssim,frr,fcr,vr,...", help="Only these; there are also residual (what the STNs left of the misalignment), lpips, fid, kid.",
)
@click.option(
    "--recogniser", metavar="NAME|FILE.onnx", default="builtin", show_default=True,
    help="For frr, fcr and vr: builtin (for rendered faces), facenet (see fetch), or an ONNX file with a card (FILE.json) beside it.",
)
@click.option(
    "--condition", "conditions", type=click.Choice(CONDITIONS), multiple=True, default=("raw",), show_default=True,
    help="What methods see; may be repeated: the SF as it is, brought upright by an aligner, or with its stored warp.",
)
@click.option("--sketches", type=FOLDER, help="A data set that import-pairs made, for the sketch columns.")
@click.option("--recovered", multiple=True, metavar="[NAME=]DIR", help="Faces recovered by another system, named as `pictures` names the SFs; may be repeated.")
@aligner_option
@click.option("--out", type=FOLDER, help="Where to write. [default: results/DATA]")
@device_option
@quiet_option
def evaluate(
    runs: tuple[Path, ...], data: Path, metrics: str | None, recogniser: str, conditions: tuple[str, ...], sketches: Path | None, recovered: tuple[str, ...],
    aligner: Path | None, out: Path | None, device: str, quiet: bool,
) -> None:
    """Score trained runs and the difficulty rows (copy, mean-face, nearest-face) on a test split, and write tables and a report.

    Without RUN, all of runs/DATA/. What was recovered, scored and embedded before is used again. Several processes share the work:
    `torchrun --nproc-per-node 2 -m ifrp_bench eval ...`.

    \b
    Examples:
      ifrp-bench eval
      ifrp-bench eval --metrics frr,fcr
      ifrp-bench eval runs/lfw/ifrp --data data/lfw --recogniser mobilefacenet.onnx --condition raw --condition oracle
      ifrp-bench eval --data data/lfw --recovered theirs=recovered_by_them --sketches data/sketches
    """
    from ifrp_bench.evaluate import DEFAULT
    from ifrp_bench.paper import Evaluation, evaluate_all
    from ifrp_bench.shards import open_dataset

    out = out or Path("results") / data.name
    folders = runs or tuple(sorted(path.parent for path in (Path("runs") / data.name).glob("*/run.json")))
    wanted = Evaluation(
        open_dataset(data), out, folders, conditions, tuple(name.strip() for name in metrics.split(",")) if metrics else DEFAULT, recogniser,
        open_dataset(sketches) if sketches else None, tuple(named_folder(text) for text in recovered), open_aligner("".join(conditions), aligner, data),
        pick_device(device), quiet,
    )
    show_tables(evaluate_all(wanted), out)


@cli.command()
@click.option("--data", type=FOLDER, default=Path("data/demo"), show_default=True, help="A data set that `synth` made.")
@click.option("--preset", default="smoke", show_default=True, help="Length of every training: paper, short, cpu, smoke.")
@click.option("--methods", metavar="NAME,NAME", help="Only these. [default: aligner, the five baselines, the ablations and ifrp]")
@click.option(
    "--condition", "conditions", type=click.Choice(CONDITIONS), multiple=True, default=CONDITIONS, show_default=True, help="As for eval; may be repeated.",
)
@click.option("--recogniser", metavar="NAME|FILE.onnx", default="builtin", show_default=True, help="As for eval.")
@click.option("--sketches", type=FOLDER, help="A data set that import-pairs made, for the sketch columns.")
@click.option("--runs", type=FOLDER, help="Where runs are kept. [default: runs/DATA]")
@click.option("--out", type=FOLDER, help="Where to write. [default: results/DATA]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True),
    help="An equal budget in place of the preset's lengths: so many minutes of training for each method, of optimising for Gatys under each condition.",
)
@click.option("--dry-run", is_flag=True, help="Time a few steps of each method, say how long all will take, and stop.")
@device_option
@quiet_option
def paper(
    data: Path, preset: str, methods: str | None, conditions: tuple[str, ...], recogniser: str, sketches: Path | None, runs: Path | None, out: Path | None,
    seed: int, minutes: float | None, dry_run: bool, device: str, quiet: bool,
) -> None:
    """The whole comparison in one command: train every method that lacks a finished run, evaluate all under the three conditions, write tables and
    the report. Stopped anywhere, the same command goes on.

    \b
    Examples:
      ifrp-bench paper --dry-run
      ifrp-bench paper --data data/lfw --preset cpu --recogniser mobilefacenet.onnx
      ifrp-bench paper --data data/lfw --preset cpu --minutes 20
    """
    from ifrp_bench.paper import METHODS, Evaluation, Paper, evaluate_all, plan, train_all
    from ifrp_bench.runs import open_run
    from ifrp_bench.shards import open_dataset

    dataset, device = open_dataset(data), pick_device(device)
    chosen = tuple(name.strip() for name in methods.split(",")) if methods else METHODS
    if "stn" in conditions and "aligner" not in chosen:
        chosen = ("aligner", *chosen)
    wanted = Paper(dataset, runs or Path("runs") / data.name, chosen, preset, minutes, seed, device, quiet)
    planned = plan(wanted, click.echo)
    click.echo(f"about {sum(training.seconds for training in planned) / 60:.0f} minutes of training; the evaluation comes after it")
    if dry_run:
        return
    folders = train_all(wanted, planned)
    out = out or Path("results") / data.name
    aligner = open_run(wanted.root("aligner")) if "aligner" in chosen else None
    tables = evaluate_all(Evaluation(
        dataset, out, tuple(folders), conditions, recogniser=recogniser, sketches=open_dataset(sketches) if sketches else None, aligner=aligner,
        device=device, quiet=quiet,
    ))
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
    return (name if equals else path.name), path


def open_aligner(condition: str, aligner: Path | None, data: Path) -> Any:
    """The run that aligns, where a condition wants one. Raises InputError that says how to train it."""
    from ifrp_bench.runs import open_run

    return open_run(aligner or Path("runs") / data.name / "aligner") if "stn" in condition else None


@cli.command()
@click.argument("results", type=FOLDER)
def report(results: Path) -> None:
    """Write tables and the report of a results folder again, from its scores.

    \b
    Example:
      ifrp-bench report results/demo
    """
    from ifrp_bench.paper import write_results

    click.echo(f"look at {write_results(results)[-1]}")


@cli.command("import-pairs")
@click.option("--stylized", type=FOLDER, multiple=True, required=True, help="Drawings; a file has the name of its photograph. May be repeated, with --real.")
@click.option("--real", type=FOLDER, multiple=True, required=True, help="Photographs.")
@click.option("--style", default="sketch", show_default=True, help="What the drawings are called.")
@click.option("--misalignment", default="lab", show_default=True, help="The tier by which drawings are turned and moved: none, mild, rotation, lab.")
@click.option("--out", type=FOLDER, help="Where to write. [default: data/STYLE]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@workers_option
@quiet_option
def import_pairs(
    stylized: tuple[Path, ...], real: tuple[Path, ...], style: str, misalignment: str, out: Path | None, seed: int, workers: int | None, quiet: bool,
) -> None:
    """Make a test-only data set of photographs and drawings of the same people (CUFS, CUFSF), for `eval --sketches`.

    \b
    Example:
      ifrp-bench import-pairs --stylized AR/sketches --real AR/photos --stylized CUHK/sketches --real CUHK/photos --out data/sketches
    """
    from ifrp_bench.exchange import import_pairs as make
    from ifrp_bench.workers import default_workers

    out = out or Path("data") / style
    made = make(
        stylized, real, out, style=style, misalignment=misalignment, seed=seed, workers=default_workers() if workers is None else workers, quiet=quiet
    )
    click.echo(f"{out}: {made.info['counts']['test']['pairs']} pairs; look at {out / 'preview.png'}; left out: {out / 'skipped.csv'}")


@cli.command()
@click.argument("data", type=FOLDER, default=Path("data/demo"))
@click.option("--out", type=FOLDER, required=True, help="Gets stylized/ and real/.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Which faces.")
@click.option("--condition", type=click.Choice(["raw", "oracle"]), default="raw", show_default=True, help="oracle: brought upright with the stored warp.")
@quiet_option
def pictures(data: Path, out: Path, split: str, condition: str, quiet: bool) -> None:
    """Write a split's stylized and real faces as PNG files named by their id, for other systems to work on; `eval --recovered` takes what they make.

    \b
    Example:
      ifrp-bench pictures data/lfw --out lfw-pictures
    """
    from ifrp_bench.exchange import write_pictures
    from ifrp_bench.shards import open_dataset

    count = write_pictures(open_dataset(data), out, split=split, condition=condition, quiet=quiet)
    click.echo(f"{out}: {count} stylized faces and as many real ones; return recovered faces under the same names")


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--onnx", "onnx_file", type=FILE, required=True, help="The file to write.")
@checkpoint_option
def export(run: Path, onnx_file: Path, checkpoint: str) -> None:
    """Write a trained run as an ONNX model and compare it with the run. Needs the extra `onnx`.

    \b
    Example:
      ifrp-bench export runs/demo/ifrp --onnx ifrp.onnx
    """
    from ifrp_bench.destylize import export_onnx, load_trained
    from ifrp_bench.runs import open_run

    difference = export_onnx(load_trained(open_run(run), checkpoint=checkpoint), onnx_file)
    click.echo(f"{onnx_file}: reloaded, differs by at most {difference:.1e} (on faces in [0, 1])")
    if difference > 1e-3:
        raise InputError(f"{onnx_file}: the reloaded model differs by more than 1e-3; try another onnxruntime")


@cli.group(cls=_Commands)
def styles() -> None:
    """The style networks: list them, train them, place a style picture."""


@styles.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def styles_list(as_json: bool) -> None:
    """A table of the styles: role, title, and how far each network's Gram loss fell on faces it had not seen."""
    from ifrp_bench.catalog import catalogue

    rows = catalogue()["styles"]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'style':<17}{'role':<8}{'Gram fall':>10}{'AUC':>7}  {'title, artist, year'}")
    for row in rows:
        fall = f"{row['gram_fall_percent']:.1f} %" if row["gram_fall_percent"] is not None else "-"
        auc = f"{row['auc']:.3f}" if row["auc"] is not None else "-"
        click.echo(f"{row['name']:<17}{row['role']:<8}{fall:>10}{auc:>7}  {row['title']}, {row['artist']}, {row['year']}")


@styles.command("train")
@click.argument("style")
@click.option("--faces", type=FOLDER, required=True, help="Photographs to stylize: one folder per person, or a flat folder.")
@click.option("--features", metavar="vgg16|vgg19|FILE", required=True, help="What fetch placed, or a file of torchvision's or vgg_normalised weights.")
@click.option("--picture", type=FILE, help="The style picture. [default: where `styles fetch` placed it]")
@click.option("--out", type=FOLDER, help="The style's folder. [default: styles/STYLE]")
@click.option("--init", metavar="STYLE", help="Start from another style's network: seven of the eight took 700 updates so.")
@click.option("--steps", type=click.IntRange(1), help="Updates. [default: 1200]")
@click.option("--batch-size", type=click.IntRange(1), help="Crops an update. [default: 4]")
@click.option("--style-weight", type=click.FloatRange(0), help="More style, less face. [default: 25]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--landmarks", type=FILE, help="Where found faces are kept. [default: OUT/training/landmarks.csv]")
@styles_option
@workers_option
@device_option
@quiet_option
def styles_train(
    style: str, faces: Path, features: str, picture: Path | None, out: Path | None, init: str | None, steps: int | None, batch_size: int | None,
    style_weight: float | None, seed: int, landmarks: Path | None, styles: Path | None, workers: int | None, device: str, quiet: bool,
) -> None:
    """Train the network of STYLE (one of the eight, or a new name) and write its card. Stopped, it goes on where it was.

    \b
    Example:
      ifrp-bench styles train candy --picture candy.jpg --faces lfw --features vgg16
    """
    from ifrp_bench.sources.folder import open_source
    from ifrp_bench.stylize import Style, find_styles, pick_styles, picture_of
    from ifrp_bench.train_style import Config, train_style
    from ifrp_bench.workers import default_workers

    known = find_styles(styles)
    card = {key: value for key, value in known[style].card.items() if key not in ("net", "training", "losses", "measured")} if style in known else {
        "title": style, "artist": "", "year": "", "seen": False}
    target = Style(style, out or Path("styles") / style, card)
    given = {"steps": steps, "batch_size": batch_size, "style_weight": style_weight}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    source = open_source(
        faces, landmarks=landmarks or target.folder / "training" / "landmarks.csv", workers=default_workers() if workers is None else workers, quiet=quiet
    )
    command = f"ifrp-bench styles train {style} --faces {faces.name} --features {Path(features).name}"
    command += f" --init {init}" if init else ""
    command += "".join(f" --{key.replace('_', '-')} {value}" for key, value in chosen.items())
    trained = train_style(
        target, picture or picture_of(target), source, features, Config(**chosen, seed=seed), command=command,
        init=pick_styles([init], styles)[0] if init else None, device=pick_device(device), quiet=quiet,
    )
    losses = trained["losses"]
    click.echo(f"{target.folder}: Gram loss on {losses['held_out_faces']} held-out faces fell by {losses['gram_fall_percent']} %")


@styles.command("fetch")
@click.argument("style")
@click.option("--from", "where", required=True, metavar="FILE|URL", help="Your copy of the picture, or where to download it.")
def styles_fetch(style: str, where: str) -> None:
    """Place a style picture in the cache after checking its sha256 against the card. No picture comes with the project.

    \b
    Example:
      ifrp-bench styles fetch candy --from ~/Downloads/candy.jpg
    """
    from ifrp_bench.stylize import find_styles, place_picture

    known = find_styles()
    if style not in known:
        raise InputError(f"style {style!r} is none of {', '.join(known)}")
    click.echo(f"placed {place_picture(known[style], where)}")


@cli.command()
@click.argument("name")
@click.option("--from", "where", metavar="FILE|URL", help="Your copy, or another address. [default: where its authors publish it]")
def fetch(name: str, where: str | None) -> None:
    """Download weights (vgg16, vgg19, facenet, inception, lpips) into the cache, checked by their hashes. Nothing else uses the network.

    \b
    Example:
      ifrp-bench fetch vgg16
    """
    from ifrp_bench.weights import fetch_weights

    click.echo(f"placed {fetch_weights(name, where)}")


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_all(as_json: bool) -> None:
    """Recipes, face sources, styles and methods."""
    from ifrp_bench.catalog import catalogue

    found = catalogue()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for room, rows in found.items():
        click.echo(f"{room}:")
        for row in rows:
            click.echo(f"  {row['name']:<18}{row.get('description') or row.get('title', '')}".rstrip())


@cli.command()
@click.argument("names", nargs=-1, metavar="[synth|train|eval|baselines]...")
@click.option("--data", type=FOLDER, default=Path("data/demo"), show_default=True, help="The data set that trainings and evaluations are timed on.")
def bench(names: tuple[str, ...], data: Path) -> None:
    """Print the speed ratios of this machine; needs a clone, whose benchmarks/ it runs.

    \b
    Example:
      ifrp-bench bench train
    """
    import subprocess

    folder = Path(__file__).parent.parent / "benchmarks"
    known = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    if not known:
        raise InputError(f"{folder}: no benchmarks here; they come with a clone of the project, not with an installed package")
    for name in names or known:
        if name not in known:
            raise InputError(f"benchmark {name!r} is none of {', '.join(known)}")
        done = subprocess.run([sys.executable, str(known[name]), *(("--data", str(data)) if name != "synth" else ())])
        if done.returncode:
            sys.exit(done.returncode)


@cli.command()
@click.option("--out", type=FOLDER, default=Path("data/demo"), show_default=True, help="The data set; the run goes to runs/demo/ifrp.")
@click.option("--run", "run_folder", type=FOLDER, default=Path("runs/demo/ifrp"), show_default=True, help="The run.")
@click.option("--results", type=FOLDER, default=Path("results/demo"), show_default=True, help="Scores, tables and the report.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the training, e.g. steps=40.")
@click.option("--minutes", type=click.FloatRange(0), default=10.0, show_default=True, help="For all of it: a machine that is too slow for IFRP trains pix2pix.")
@device_option
@quiet_option
@click.pass_context
def demo(ctx: click.Context, out: Path, run_folder: Path, results: Path, settings: tuple[str, ...], minutes: float, device: str, quiet: bool) -> None:
    """Everything that there is, small, on rendered faces: make the demo data set, check it, train IFRP on it, recover faces of people whom
    it has never seen, score them beside the difficulty rows, and write tables and a report to look at.

    A machine on which IFRP's training does not fit into the minutes trains pix2pix on upright faces in its place, and says so.
    """
    started = time.monotonic()
    ctx.invoke(synth, recipe="demo", out=out, device=device, quiet=quiet)
    ctx.invoke(verify, data=out, device=device, quiet=quiet)
    left = 60 * minutes - DEMO_EVALUATION_SECONDS - (time.monotonic() - started)
    method = demo_method(settings, left, out, run_folder, pick_device(device))
    run_folder, condition = (run_folder, "raw") if method == "ifrp" else (run_folder.with_name(method), "oracle")
    ctx.invoke(train, method=method, data=out, out=run_folder, preset="smoke", settings=settings, device=device, quiet=quiet)
    ctx.invoke(evaluate, runs=(run_folder,), data=out, conditions=(condition,), out=results, device=device, quiet=quiet)


def demo_method(settings: tuple[str, ...], seconds: float, data: Path, run_folder: Path, device: str) -> str:
    """``ifrp`` if it is begun or its training fits into so many seconds; else ``pix2pix``, which shows a face after fewer steps, with a word."""
    from ifrp_bench.catalog import load_method
    from ifrp_bench.settings import parse_settings
    from ifrp_bench.shards import open_dataset
    from ifrp_bench.train import time_training

    if (run_folder / "last.json").is_file():
        return "ifrp"
    module, _ = load_method("ifrp")
    chosen = module.PRESETS["smoke"] | length_given(parse_settings(settings))
    needed = time_training(module, "ifrp", chosen, open_dataset(data), device, timed=1).seconds
    if needed <= seconds:
        return "ifrp"
    click.echo(
        f"note: IFRP would take {needed / 60:.0f} minutes of training here; pix2pix, on upright faces, is trained in its place "
        "(--minutes 60 trains IFRP)", err=True,
    )
    return "pix2pix"


def pick_device(name: str) -> str:
    """``cuda`` or ``cpu``. Raises InputError where cuda is asked for and there is none."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu, or install a torch that fits the driver")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def main() -> None:
    """Entry point of ``ifrp-bench``."""
    cli()

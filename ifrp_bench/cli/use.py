"""Commands that use a trained run."""

import sys
from pathlib import Path

import click

from ifrp_bench.cli.options import (
    CONDITIONS, FILE, FOLDER, SPLITS, aligner_option, checkpoint_option, device_option, find_aligner,
    pick_device, quiet_option, refuse_given,
)
from ifrp_bench.ground.errors import InputError


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("pictures", nargs=-1, type=FILE, metavar="[PICTURE]...")
@click.option("--out", type=FOLDER, help="Where recovered faces are written. [default: RUN/destylized]")
@click.option(
    "--crop",
    type=click.Choice(["auto", "face", "centre", "none"]),
    default="auto",
    show_default=True,
    help="auto: the face that MTCNN finds, or else the middle; none: the whole picture is an SF already.",
)
@click.option(
    "--split", type=click.Choice(SPLITS), help="Instead of pictures: a data set's split, into RUN/recovered/."
)
@click.option(
    "--data", type=FOLDER, help="The data set of --split. [default: the one named in the run, under data/]"
)
@click.option(
    "--condition",
    type=click.Choice(CONDITIONS),
    default="raw",
    show_default=True,
    help="With --split: the SF as it is, brought upright by an aligner, or with its stored warp.",
)
@aligner_option
@checkpoint_option
@click.option("--bf16", is_flag=True, help="Faster, within a few grey levels; pictures only.")
@device_option
@quiet_option
def destylize(
    run: Path,
    pictures: tuple[Path, ...],
    out: Path | None,
    crop: str,
    split: str | None,
    data: Path | None,
    condition: str,
    aligner: Path | None,
    checkpoint: str,
    bf16: bool,
    device: str,
    quiet: bool,
) -> None:
    """Recover real faces with a trained run: from any pictures, paintings and sketches included, or from a
    split of a data set.

    Each picture gives NAME.png and NAME-compared.png (a number is added where a picture that was named would
    be written over). The network's 128x128 faces are shown in CelebA's proportions.

    \b
    Examples:
      ifrp-bench destylize runs/demo/ifrp portrait.jpg sketch.png --out recovered
      ifrp-bench destylize runs/lfw/ifrp --split test --data data/lfw
    """
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.data.runs import open_run
    from ifrp_bench.ground.precision import has_bfloat16
    from ifrp_bench.recovery.pictures import recover_pictures, write_results
    from ifrp_bench.recovery.split import Task, recover_split
    from ifrp_bench.recovery.trained import load_trained

    if bool(pictures) == bool(split):
        raise click.UsageError("name pictures, or a split of a data set with --split")
    if split:
        refuse_given("out", "crop", "bf16", because="with --split, faces go into RUN/recovered as they are")
    else:
        refuse_given("data", "condition", "aligner", because="they go with --split, and pictures are named")
    there, device = open_run(run), pick_device(device)
    if split:
        dataset = open_dataset(data or Path("data") / there.info["data"])
        task = Task(dataset, condition, find_aligner(condition, aligner, dataset.root), split, device, quiet)
        folder = recover_split(there, task, checkpoint=checkpoint)
        look = f"look at {folder / 'preview.png'} (stylized, recovered, real)"
        click.echo(f"{folder}: recovered faces of {split}, {condition}; {look}")
        return
    trained = load_trained(there, checkpoint=checkpoint, device=device)
    if trained.step < trained.steps:
        click.echo(f"note: {run} stands at step {trained.step} of {trained.steps}", err=True)
    if bf16 and not has_bfloat16(device):
        click.echo(
            f"note: this {device} has no bfloat16 instructions; float32 is faster here and is taken", err=True
        )
        bf16 = False
    results = recover_pictures(pictures, trained.method, crop=crop, device=device, bfloat16=bf16)

    def say(line: str) -> None:
        click.echo(line, err=line.startswith("Error"))

    _, bad = write_results(results, out or run / "destylized", say, keep=pictures)
    sys.exit(1 if bad else 0)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--onnx", "onnx_file", type=FILE, required=True, help="The file to write.")
@checkpoint_option
def export(run: Path, onnx_file: Path, checkpoint: str) -> None:
    """Write a trained run as an ONNX model and compare it with the run. Needs the extra `onnx`.

    \b
    Example:
      ifrp-bench export runs/demo/ifrp --onnx ifrp.onnx
    """
    from ifrp_bench.data.runs import open_run
    from ifrp_bench.recovery.onnx import export_onnx
    from ifrp_bench.recovery.trained import load_trained

    difference = export_onnx(load_trained(open_run(run), checkpoint=checkpoint), onnx_file)
    click.echo(f"{onnx_file}: reloaded, differs by at most {difference:.1e} (on faces in [0, 1])")
    if difference > 1e-3:
        raise InputError(
            f"{onnx_file}: the reloaded model differs by more than 1e-3; try another onnxruntime"
        )

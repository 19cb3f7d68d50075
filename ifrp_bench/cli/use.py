"""Commands that use a trained run, or the weights that come with the package."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ifrp_bench.cli.options import (
    CONDITIONS, FILE, FOLDER, SPLITS, aligner_option, checkpoint_option, device_option, find_aligner,
    opened, pick_device, quiet_option, refuse_given,
)
from ifrp_bench.ground.errors import InputError

if TYPE_CHECKING:
    from ifrp_bench.data.runs import Run

STREAM = Path("-")   # standard input as a picture, standard output as --out
LINES = 20   # pictures up to which each face is said


@click.command()
@click.argument(
    "paths", nargs=-1, type=click.Path(path_type=Path, allow_dash=True), metavar="[RUN] [PICTURE|FOLDER]..."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where recovered faces are written; - is standard output. [default: RUN/destylized, or destylized]",
)
@click.option(
    "--crop",
    type=click.Choice(["auto", "face", "centre", "none"]),
    default="auto",
    show_default=True,
    help="auto: the face that MTCNN finds, or else the middle; none: the whole picture is an SF already.",
)
@click.option(
    "--faces",
    type=click.Choice(["central", "all"]),
    default="central",
    show_default=True,
    help="Of several faces in a picture: the most central one, or each into a file of its own.",
)
@click.option("--paste", is_flag=True, help="Also the picture with the face put back: NAME-pasted.png.")
@click.option(
    "--compare",
    is_flag=True,
    help="Also the face beside the portrait: NAME-compared.png, and of several contact-sheet.png.",
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
    paths: tuple[Path, ...],
    out: Path | None,
    crop: str,
    faces: str,
    paste: bool,
    compare: bool,
    split: str | None,
    data: Path | None,
    condition: str,
    aligner: Path | None,
    checkpoint: str,
    bf16: bool,
    device: str,
    quiet: bool,
) -> None:
    """Recover real faces from any pictures: paintings, drawings, stylized photographs, or from a split of a
    data set.

    Without RUN, with the weights that come with ifrp-bench; RUN is a training's folder, or the name of
    shipped weights (`ifrp-bench list`); RUN+ takes the mean of what it makes of each face and of its mirror
    image: nearer to the person, a little smoother, in up to twice the time. A folder is searched whole, and
    its structure kept. Each face becomes NAME.png in CelebA's proportions, and a line of recovered.csv;
    a number is added where a picture that was named would be written over. Run again, it does what is
    missing.

    \b
    Examples:
      ifrp-bench destylize portrait.jpg
      ifrp-bench destylize paintings --out faces --compare --paste
      ifrp-bench destylize portraits+ portrait.jpg
      ifrp-bench destylize runs/demo/ifrp portrait.jpg sketch.png --out recovered
      ifrp-bench destylize - < portrait.jpg > face.png
      ifrp-bench destylize runs/lfw/ifrp --split test --data data/lfw
    """
    from ifrp_bench.data import shipped

    named = bool(paths) and shipped.is_run(paths[0])
    run, pictures = (paths[0], paths[1:]) if named else (Path(shipped.DEFAULT), paths)
    if bool(pictures) == bool(split):
        raise click.UsageError("name pictures, or a split of a data set with --split")
    there = shipped.find_run(run)
    if split:
        refuse_given(
            "out", "crop", "faces", "paste", "compare", "bf16",
            because="with --split, faces go into RUN/recovered as they are",
        )
        _destylize_split(there, split, data, condition, aligner, checkpoint, pick_device(device), quiet)
        return
    refuse_given("data", "condition", "aligner", because="they go with --split, and pictures are named")
    if not any(path.exists() or path == STREAM for path in pictures):
        raise InputError(f"no such picture or folder: {', '.join(map(str, pictures))}")

    from ifrp_bench.ground.precision import has_bfloat16
    from ifrp_bench.recovery.pictures import Wishes

    device = pick_device(device)
    if bf16 and not has_bfloat16(device):
        click.echo(
            f"note: this {device} has no bfloat16 instructions; float32 is faster here and is taken", err=True
        )
        bf16 = False
    beside = there.root if named and not isinstance(there, shipped.Shipped) else Path()
    out = out or (STREAM if pictures == (STREAM,) else beside / "destylized")
    if out == STREAM:
        refuse_given("faces", "paste", "compare", "bf16", because="one face goes to standard output")
        _destylize_stream(run, pictures, crop, device)
        return
    wishes = Wishes(crop, every=faces == "all", compare=compare, paste=paste, bfloat16=bf16)
    sys.exit(_destylize_pictures(there, pictures, out, wishes, checkpoint, device, quiet))


def _destylize_split(
    run: "Run", split: str, data: Path | None, condition: str, aligner: Path | None, checkpoint: str,
    device: str, quiet: bool,
) -> None:
    from ifrp_bench.recovery.split import Task, recover_split

    name = run.info["data"] if "data_sha256" in run.info else None
    if data is None and name is None:
        raise click.UsageError("--split of shipped weights wants the data set that it is of: --data")
    dataset = opened(data or Path("data") / str(name))
    task = Task(dataset, condition, find_aligner(condition, aligner, dataset.root), split, device, quiet)
    folder = recover_split(run, task, checkpoint=checkpoint)
    look = f"look at {folder / 'preview.png'} (stylized, recovered, real)"
    click.echo(f"{folder}: recovered faces of {split}, {condition}; {look}")


def _destylize_stream(run: Path, pictures: tuple[Path, ...], crop: str, device: str) -> None:
    """One picture, from a file or standard input, to standard output."""
    from ifrp_bench import destylize as recovered
    from ifrp_bench.ground.images import encode_png

    if len(pictures) != 1 or pictures[0].is_dir():
        raise click.UsageError("--out - takes one picture")
    picture = sys.stdin.buffer.read() if pictures[0] == STREAM else pictures[0]
    sys.stdout.buffer.write(encode_png(recovered(picture, run, crop=crop, device=device)))


def _destylize_pictures(
    run: "Run", pictures: tuple[Path, ...], out: Path, wishes: Any, checkpoint: str, device: str, quiet: bool,
) -> int:
    """Pictures and folders into a folder; returns the exit code."""
    from tqdm import tqdm

    from ifrp_bench.recovery.pictures import Recovery, find_pictures, write_contact_sheet
    from ifrp_bench.recovery.trained import load_trained

    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file; --out is the folder that faces are written into")
    jobs = find_pictures(pictures, out)
    trained = load_trained(run, checkpoint=checkpoint, device=device)
    if trained.step < trained.steps:
        click.echo(f"note: {run.root} stands at step {trained.step} of {trained.steps}", err=True)
    weights = run.sha256(checkpoint) + run.sign
    recovery = Recovery(trained.method, out, wishes, weights=weights, device=device)

    # a line a face while one can read them; of many, what is wrong
    done, many = [], len(jobs) > LINES
    bar = tqdm(total=len(jobs), desc=out.name, unit="picture", disable=quiet or not many)
    for rows in recovery.rows(jobs):
        for row in rows:
            wrong = row.note.startswith("Error: ")
            line = f"{row.file}: {row.note}; {out / row.face}"
            if wrong:
                line = f"Error: {row.file}: {row.note.removeprefix('Error: ')}"
            if wrong or not (many or quiet):
                with tqdm.external_write_mode():
                    click.echo(line, err=wrong)
        done += rows
        bar.update()
    bar.close()

    sheet = write_contact_sheet(out, done) if wishes.compare else None
    bad = sum(not row.face for row in done)
    if many or sheet:
        unread = f", {bad} pictures gave none" if bad else ""
        look = f"; look at {sheet}" if sheet else ""
        click.echo(f"{out}: {len(done) - bad} faces{unread}; recovered.csv{look}")
    return 1 if bad else 0


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
    from ifrp_bench.data.shipped import find_run
    from ifrp_bench.recovery.onnx import export_onnx
    from ifrp_bench.recovery.trained import load_trained

    difference = export_onnx(load_trained(find_run(run), checkpoint=checkpoint), onnx_file)
    click.echo(f"{onnx_file}: reloaded, differs by at most {difference:.1e} (on faces in [0, 1])")
    if difference > 1e-3:
        raise InputError(
            f"{onnx_file}: the reloaded model differs by more than 1e-3; try another onnxruntime"
        )

"""Commands that make, check and exchange data sets."""

import sys
from pathlib import Path
from typing import Any

import click

from ifrp_bench.cli.options import (
    FILE, FOLDER, SPLITS, device_option, opened, pick_device, pick_workers, quiet_option, seed_option,
    settings_option, styles_option, workers_option,
)
from ifrp_bench.ground.errors import InputError


@click.command()
@click.argument("recipe", default="demo")
@click.option(
    "--faces", type=FOLDER, help="Real faces: CelebA's folder, or photographs in one folder per person."
)
@click.option(
    "--style-pictures",
    type=FOLDER,
    help="Paintings whose styles `open` mixes, for train_styles=open. [default: a bank that comes along]",
)
@click.option("--out", type=FOLDER, help="Where to write. [default: data/RECIPE]")
@settings_option("Change a key of the recipe, e.g. train_faces=40.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Another draw of faces and misalignments. [default: the recipe's, 0]",
)
@click.option(
    "--landmarks",
    type=FILE,
    help="Where found faces are kept, to share between runs. [default: OUT/landmarks.csv]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Pictures a network takes at once. [default: 1 on CPU, 64 on GPU]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say how many pairs, bytes and minutes, and stop; faces found in photographs are kept.",
)
@styles_option
@workers_option
@device_option
@quiet_option
def synth(
    recipe: str,
    faces: Path | None,
    style_pictures: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    landmarks: Path | None,
    batch_size: int | None,
    dry_run: bool,
    styles: Path | None,
    workers: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Make a data set of stylized/real face pairs.

    RECIPE is the name of a recipe (`ifrp-bench list`) or a TOML file. A run that was stopped is resumed;
    workers and batch size change its speed, not one byte of the result.

    \b
    Examples:
      ifrp-bench synth
      ifrp-bench synth photos --faces lfw --out data/lfw
      ifrp-bench synth photos-open --faces lfw --style-pictures paintings
      ifrp-bench synth celeba-paper --faces CelebA
      ifrp-bench synth demo --set train_faces=40 --set test_faces=10 --out data/tiny
    """
    from ifrp_bench.data.recipe import load_recipe
    from ifrp_bench.data.synth import synthesize
    from ifrp_bench.ground.launch import find_place

    chosen = load_recipe(recipe, settings, seed)
    out = out or Path("data") / chosen.name
    workers, device = pick_workers(workers), pick_device(device)
    where: dict[str, Any] = {
        "faces": faces,
        "styles": styles,
        "landmarks": landmarks,
        "workers": workers,
        "device": device,
        "quiet": quiet,
    }
    if dry_run:
        _dry_run(chosen, out, batch_size, where)
        return
    info = synthesize(chosen, out, batch_size=batch_size, style_pictures=style_pictures, **where)
    if not find_place().first:   # of several processes one speaks
        return
    counts = info["counts"]
    made = [f"{counts[split]['pairs']} {split} pairs of {counts[split]['faces']} faces" for split in SPLITS]
    click.echo(f"{out}: {', '.join(made)}")
    click.echo(
        f"Look at {out / 'preview.png'}; left out: {out / 'skipped.csv'}; check it with `ifrp-bench verify"
        f" {out}`."
    )


def _dry_run(recipe: Any, out: Path, batch_size: int | None, where: dict[str, Any]) -> None:
    from ifrp_bench.data.synth import forecast, free_bytes

    found = forecast(recipe, out, batch_size=batch_size, **where)
    plan = found.plan
    for split in SPLITS:
        styles = plan.recipe.styles_of(split)
        click.echo(
            f"{split}: {len(plan.faces(split))} faces, {plan.pairs(split)} pairs in {len(styles)} styles"
        )
    free = free_bytes(out)
    todo, shards = len(found.todo), len(plan.shards)
    left = f"{todo}" if todo == shards else f"{todo} of {shards}"
    room = f"{found.size / 2**20:,.0f} MiB in {left} shards ({free / 2**20:,.0f} MiB free)"
    length = f"{found.seconds / 60:.1f} minutes on {where['device']}, from a few pairs timed here"
    click.echo(f"{out}: {room}, about {length}")
    if found.size > free:
        raise InputError(f"{out}: not enough space; make space or choose another --out")


@click.command()
@click.argument("data", type=FOLDER, default=Path("data/demo"))
@click.option("--faces", type=FOLDER, help="Where the real faces are, if they have moved.")
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="About how many pairs to render again and compare.",
)
@styles_option
@device_option
@quiet_option
def verify(
    data: Path, faces: Path | None, sample: int, styles: Path | None, device: str, quiet: bool
) -> None:
    """Check a data set: schema, counts, ranges, every hash, the splits, and a sample of pairs rendered again.

    \b
    Example:
      ifrp-bench verify data/demo
    """
    opened(data, complete=False)

    from ifrp_bench.data.verify import verify as check

    report = check(data, faces=faces, styles=styles, device=pick_device(device), sample=sample, quiet=quiet)
    for note in report.notes:
        click.echo(f"note: {note}")
    if report.problems:
        for problem in report.problems:
            click.echo(f"Error: {problem}", err=True)
        sys.exit(1)
    found = (
        f"{report.shards} shards, {report.pairs} pairs, every hash; {report.rendered} pairs rendered again"
        " and equal"
    )
    click.echo(f"{data}: good ({found})")


@click.command("import-pairs")
@click.option(
    "--stylized",
    type=FOLDER,
    multiple=True,
    help="Drawings; a file has the name of its photograph. May be repeated, with --real.",
)
@click.option("--real", type=FOLDER, multiple=True, help="Photographs.")
@click.option("--fs2k", type=FOLDER, help="In place of both: FS2K's folder, as its authors publish it.")
@click.option("--cufs", type=FOLDER, help="In place of both: CUFS' folder, any of its three parts.")
@click.option(
    "--cufsf", type=FOLDER, help="In place of both: a folder with CUFSF's sketches and FERET's photographs."
)
@click.option(
    "--people",
    type=click.IntRange(1),
    help="With --cufsf: so many, drawn once for all; the field tests on 694.",
)
@click.option("--style", default="sketch", show_default=True, help="What the drawings are called.")
@click.option(
    "--misalignment",
    default="lab",
    show_default=True,
    help="The tier by which drawings are turned and moved: none, mild, rotation, lab.",
)
@click.option("--out", type=FOLDER, help="Where to write. [default: data/STYLE]")
@seed_option
@workers_option
@quiet_option
def import_pairs(
    stylized: tuple[Path, ...],
    real: tuple[Path, ...],
    fs2k: Path | None,
    cufs: Path | None,
    cufsf: Path | None,
    people: int | None,
    style: str,
    misalignment: str,
    out: Path | None,
    seed: int,
    workers: int | None,
    quiet: bool,
) -> None:
    """Make a test-only data set of photographs and drawings of the same people (CUFS, CUFSF), for `eval
    --sketches`.

    \b
    Example:
      ifrp-bench import-pairs --stylized AR/sketches --real AR/photos --out data/sketches
      ifrp-bench import-pairs --fs2k FS2K --out data/fs2k
      ifrp-bench import-pairs --cufsf CUFSF --people 694 --out data/cufsf
    """
    from ifrp_bench.data.exchange import import_pairs as make

    published = {"--fs2k": fs2k, "--cufs": cufs, "--cufsf": cufsf}
    named = [option for option, folder in published.items() if folder]
    if len(named) > 1 or named and (stylized or real):
        raise click.UsageError(
            f"{named[0]} names photographs and drawings; leave --stylized, --real and the others out"
        )
    if not named and not (stylized and real):
        raise click.UsageError(f"name --stylized and --real, in turn, or {', '.join(published)}")
    if people and not cufsf:
        raise click.UsageError("--people goes with --cufsf")
    options: dict[str, Any] = {}
    if named:
        stylized, real, options = _as_published(fs2k, cufs, cufsf, people)

    out = out or Path("data") / style
    made = make(
        stylized, real, out,
        style=style, misalignment=misalignment, seed=seed, workers=pick_workers(workers), quiet=quiet,
        **options,
    )
    click.echo(
        f"{out}: {made.pairs('test')} pairs; look at {out / 'preview.png'}; left out: {out / 'skipped.csv'}"
    )


def _as_published(
    fs2k: Path | None, cufs: Path | None, cufsf: Path | None, people: int | None
) -> tuple[tuple[Path, ...], tuple[Path, ...], dict[str, Any]]:
    """Folders of drawings and photographs in a published layout, and how their files go together."""
    from ifrp_bench.data import cufs as sketches, fs2k as styles

    if fs2k:
        stylized, real = styles.folders_of(fs2k)
        options: dict[str, Any] = {"stem_of": styles.stem_of, "listed": styles.tested(fs2k)}
    elif cufs:
        stylized, real = sketches.folders_of(cufs, "--cufs")
        options = {"stem_of": sketches.stem_of}
    else:
        assert cufsf
        stylized, real = sketches.folders_of(cufsf, "--cufsf")
        if len(real) > 1:
            raise InputError(f"{cufsf}: {len(real)} folders of photographs; --cufsf wants one of them")
        options = {"stem_of": sketches.stem_of_cufsf(cufsf)}
        if people:
            options["listed"] = sketches.drawn(real[0], people)
    return tuple(stylized), tuple(real), options


@click.command()
@click.argument("data", type=FOLDER, default=Path("data/demo"))
@click.option("--out", type=FOLDER, required=True, help="Gets stylized/ and real/.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Which faces.")
@click.option(
    "--condition",
    type=click.Choice(["raw", "oracle"]),
    default="raw",
    show_default=True,
    help="oracle: brought upright with the stored warp.",
)
@quiet_option
def pictures(data: Path, out: Path, split: str, condition: str, quiet: bool) -> None:
    """Write a split's stylized and real faces as PNG files named by their id, for other systems to work on;
    `eval --recovered` takes what they make.

    \b
    Example:
      ifrp-bench pictures data/lfw --out lfw-pictures
    """
    dataset = opened(data)

    from ifrp_bench.data.exchange import write_pictures

    count = write_pictures(dataset, out, split=split, condition=condition, quiet=quiet)
    click.echo(
        f"{out}: {count} stylized faces and as many real ones; return recovered faces under the same names"
    )

"""The command line: options are checked here, each command makes one call. Everything heavy is imported inside the commands."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from ifrp_bench import __version__
from ifrp_bench.errors import InputError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


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
    """Download weights (vgg16, vgg19) into the cache, checked by their sha256. Nothing else uses the network.

    \b
    Example:
      ifrp-bench fetch vgg16
    """
    from ifrp_bench.weights import fetch_weights

    click.echo(f"placed {fetch_weights(name, where)}")


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_all(as_json: bool) -> None:
    """Recipes, face sources and styles."""
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
@click.option("--out", type=FOLDER, default=Path("data/demo"), show_default=True)
@device_option
@quiet_option
@click.pass_context
def demo(ctx: click.Context, out: Path, device: str, quiet: bool) -> None:
    """Everything that there is, small, on rendered faces: make the demo data set, check it, and say what to look at."""
    ctx.invoke(synth, recipe="demo", out=out, device=device, quiet=quiet)
    ctx.invoke(verify, data=out, device=device, quiet=quiet)


def pick_device(name: str) -> str:
    """``cuda`` or ``cpu``. Raises InputError where cuda is asked for and there is none."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu, or install a torch that fits the driver")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def main() -> None:
    """Entry point of ``ifrp-bench``."""
    cli()

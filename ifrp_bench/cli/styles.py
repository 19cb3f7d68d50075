"""Commands around the style networks."""

import json
from pathlib import Path
from typing import Any

import click

from ifrp_bench.cli.options import (
    FILE, FOLDER, Commands, device_option, pick_device, pick_workers, quiet_option, seed_option,
    styles_option, workers_option,
)
from ifrp_bench.ground.errors import InputError


@click.group(cls=Commands)
def styles() -> None:
    """The style networks: list them, train them, place a style picture."""


@styles.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def styles_list(as_json: bool) -> None:
    """A table of the styles: role, title, and what of a photograph's Gram distance to the painting is gone on
    faces that the network had not seen: at 256 pixels, where it stylizes, and at 128, which is stored.
    """
    from ifrp_bench.data.catalog import style_rows
    from ifrp_bench.data.open_styles import OPEN, facts

    rows = style_rows()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'style':<17}{'role':<8}{'at 256':>8}{'at 128':>8}{'AUC':>7}  title, artist, year")
    for row in rows:
        large = f"{row['gram_fall_percent']:.1f} %" if row["gram_fall_percent"] is not None else "-"
        stored = f"{100 * row['stored_gone']:.1f} %" if row["stored_gone"] is not None else "-"
        auc = f"{row['auc']:.3f}" if row["auc"] is not None else "-"
        painting = f"{row['title']}, {row['artist']}, {row['year']}"
        click.echo(f"{row['name']:<17}{row['role']:<8}{large:>8}{stored:>8}{auc:>7}  {painting}")
    known = facts()["bank"]
    each = f"each face in one of its own, of {known['styles']} squares of {known['pictures']} pictures"
    click.echo(f"{OPEN:<17}{'':<8}{'':>8}{'':>8}{'':>7}  {each}, or of yours (synth --style-pictures)")


@styles.command("train")
@click.argument("style")
@click.option(
    "--faces",
    type=FOLDER,
    required=True,
    help="Photographs to stylize: one folder per person, or a flat folder.",
)
@click.option(
    "--features",
    metavar="vgg16|vgg19|FILE",
    required=True,
    help="What fetch placed, or a file of torchvision's or vgg_normalised weights.",
)
@click.option("--picture", type=FILE, help="The style picture. [default: where `styles fetch` placed it]")
@click.option("--out", type=FOLDER, help="The style's folder. [default: styles/STYLE]")
@click.option(
    "--init",
    metavar="STYLE",
    help=(
        "Start from a network that is trained already: five of the eight took 160 to 410 updates from their"
        " first versions."
    ),
)
@click.option("--steps", type=click.IntRange(1), help="Updates. [default: 1200]")
@click.option("--batch-size", type=click.IntRange(1), help="Crops an update. [default: 4]")
@click.option("--style-weight", type=click.FloatRange(0), help="More style, less face. [default: 8]")
@seed_option
@click.option(
    "--landmarks", type=FILE, help="Where found faces are kept. [default: OUT/training/landmarks.csv]"
)
@styles_option
@workers_option
@device_option
@quiet_option
def styles_train(
    style: str,
    faces: Path,
    features: str,
    picture: Path | None,
    out: Path | None,
    init: str | None,
    steps: int | None,
    batch_size: int | None,
    style_weight: float | None,
    seed: int,
    landmarks: Path | None,
    styles: Path | None,
    workers: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train the network of STYLE (one of the eight, or a new name) and write its card. Stopped, it is
    resumed by the same command.

    \b
    Example:
      ifrp-bench styles train candy --picture candy.jpg --faces lfw --features vgg16
    """
    from ifrp_bench.data.styles import Style, find_styles, pick_styles, picture_of
    from ifrp_bench.making.style import Config, train_style
    from ifrp_bench.sources.folder import open_folder

    known = find_styles(styles)
    made_by_training = ("net", "training", "losses", "measured")
    card: dict[str, Any] = {"title": style, "artist": "", "year": "", "seen": False}
    if style in known:
        card = {key: value for key, value in known[style].card.items() if key not in made_by_training}
    target = Style(style, out or Path("styles") / style, card)
    given = {"steps": steps, "batch_size": batch_size, "style_weight": style_weight}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}

    # the command as the card will have it
    command = f"ifrp-bench styles train {style} --faces {faces.name} --features {Path(features).name}"
    command += f" --init {init}" if init else ""
    command += "".join(f" --{key.replace('_', '-')} {value}" for key, value in chosen.items())

    found = open_folder(
        faces,
        landmarks=landmarks or target.folder / "training" / "landmarks.csv",
        workers=pick_workers(workers),
        quiet=quiet,
    )
    trained = train_style(
        target, picture or picture_of(target), found, features, Config(**chosen, seed=seed),
        command=command,
        init=pick_styles([init], styles)[0] if init else None,
        device=pick_device(device),
        quiet=quiet,
    )
    losses = trained["losses"]
    large, stored = losses["gram_fall_percent"], 100 * losses["stored_gone"]
    click.echo(
        f"{target.folder}: Gram loss on {losses['held_out_faces']} held-out faces fell by {large} %, at the"
        f" stored size by {stored:.1f} %"
    )


@styles.command("fetch")
@click.argument("style")
@click.option(
    "--from",
    "where",
    required=True,
    metavar="FILE|URL",
    help="Your copy of the picture, or where to download it.",
)
def styles_fetch(style: str, where: str) -> None:
    """Place a style picture in the cache after checking its sha256 against the card. No picture comes with
    the project.

    \b
    Example:
      ifrp-bench styles fetch candy --from ~/Downloads/candy.jpg
    """
    from ifrp_bench.data.styles import find_styles, place_picture

    known = find_styles()
    if style not in known:
        raise InputError(f"style {style!r} is none of {', '.join(known)}")
    click.echo(f"placed {place_picture(known[style], where)}")


@styles.command("apply")
@click.argument("picture", type=FILE)
@click.option(
    "--style",
    required=True,
    metavar="NAME|FILE",
    help="A style of `styles list` or of --styles, or a picture whose style it is to be.",
)
@click.option("--out", type=FILE, help="Where to write. [default: PICTURE-STYLE.png, here]")
@click.option(
    "--size",
    type=click.IntRange(64, 2048),
    default=256,
    show_default=True,
    help="Shorter side in pixels; data sets are stylized at 256.",
)
@styles_option
@device_option
def styles_apply(
    picture: Path, style: str, out: Path | None, size: int, styles: Path | None, device: str
) -> None:
    """Try a style on PICTURE: one of the eight, one of your own, or that of any picture.

    \b
    Examples:
      ifrp-bench styles apply photograph.jpg --style candy
      ifrp-bench styles apply photograph.jpg --style painting.jpg --out like-the-painting.png
    """
    from ifrp_bench.data.apply_styles import apply_style
    from ifrp_bench.ground.images import PictureError, read_picture, resize_shorter_side, write_png

    out = out or Path(f"{picture.stem}-{Path(style).stem}.png")
    for given in (picture, Path(style)):
        if out.exists() and given.exists() and out.samefile(given):
            raise InputError(f"{out}: would replace what it is made of; choose another --out")
    try:
        read = read_picture(picture)
    except PictureError as error:
        raise InputError(f"{picture}: {error}") from None
    made = apply_style(resize_shorter_side(read, size), style, extra=styles, device=pick_device(device))
    write_png(out, made)
    click.echo(f"{out}: {made.shape[1]}x{made.shape[0]}")


@styles.command("import")
@click.argument("weights", type=FILE)
@click.option("--name", required=True, help="The style's name.")
@click.option(
    "--out", type=FOLDER, default=Path("my-styles"), show_default=True, help="The folder of style folders."
)
def styles_import(weights: Path, name: str, out: Path) -> None:
    """Take over a style network of PyTorch's examples (fast_neural_style, a .pth or .model file) as a style
    folder, for --styles. It makes the same pictures; nothing in the file is run.

    \b
    Example:
      ifrp-bench styles import rain_princess.pth --name rain_princess
      ifrp-bench synth demo --styles my-styles --set test_styles=rain_princess --out data/rain
    """
    from ifrp_bench.data.apply_styles import import_style

    style = import_style(weights, name, out)
    click.echo(f"{style.folder}: width {style.card['net']['width']}, sha256 {style.sha256[:12]}...")

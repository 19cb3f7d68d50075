"""Commands around the leaderboard: enter results, check entries, make the page."""

from pathlib import Path

import click

from ifrp_bench.cli.options import FILE, FOLDER, Commands, device_option, pick_device, words

folder_option = click.option(
    "--leaderboard", "leaderboard_folder", type=FOLDER, default=Path("leaderboard"), show_default=True,
    help="The folder of entries, one sub-folder a test set.",
)


@click.group("leaderboard", cls=Commands)
def leaderboard() -> None:
    """Results as files that merge, and a page of them."""


@leaderboard.command()
@click.argument("results", type=FOLDER)
@click.option("--name", default="", help="What the page calls it. [default: the method's name]")
@click.option("--method", default="", help="Which of the results' methods, or METHOD/RUN, of several.")
@click.option("--code", default="", help="Where its code is, an address.")
@click.option("--who", default="", help="Whose entry it is.")
@click.option("--note", default="", help="What a reader must know of it, in a line.")
@click.option(
    "--trained-on", metavar="STYLE,STYLE", help="Of another system's faces: the styles it was trained on."
)
@click.option("--minutes", type=click.FloatRange(0), help="Training, in minutes, where the run does not say.")
@click.option("--pairs", type=click.IntRange(0), help="Training pairs, where the run does not say.")
@click.option("--parameters", type=click.IntRange(0), help="Of the network, where the run does not say.")
@click.option("--machine", help="What it was trained on, where the run does not say.")
@click.option(
    "--latency-ms", type=click.FloatRange(0), help="One face's time in use, where it was measured otherwise."
)
@click.option("--replace", "replace_old", is_flag=True, help="Take the place of the entry of this name.")
@folder_option
@device_option
def submit(
    results: Path,
    name: str,
    method: str,
    code: str,
    who: str,
    note: str,
    trained_on: str | None,
    minutes: float | None,
    pairs: int | None,
    parameters: int | None,
    machine: str | None,
    latency_ms: float | None,
    replace_old: bool,
    leaderboard_folder: Path,
    device: str,
) -> None:
    """Write the entry of a method of the results folder RESULTS: LEADERBOARD/TEST SET/NAME.json, and the
    scores of every face beside it.

    Scores come from the results, cost from the run: pairs, minutes, machine, parameters, operations, and the
    time of one face, which is measured here: on a machine that does nothing else.

    \b
    Examples:
      ifrp-bench leaderboard submit results/lfw --method ifrp --code https://github.com/me/mine --who me
      ifrp-bench leaderboard submit results/lfw --method theirs --trained-on candy,feathers --minutes 90
    """
    from ifrp_bench.results.entries import Entrant
    from ifrp_bench.submission import submit as write

    entrant = Entrant(name=name, code=code, who=who, note=note, trained_on=words(trained_on))
    cost = {
        "minutes": minutes,
        "pairs": pairs,
        "parameters": parameters,
        "machine": machine,
        "latency_ms": latency_ms,
    }
    path = write(
        results, leaderboard_folder, entrant,
        method=method, cost=cost, replace_old=replace_old, device=pick_device(device),
    )
    click.echo(f"{path}; look at it with `ifrp-bench leaderboard build {leaderboard_folder}`")


@leaderboard.command()
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
def check(files: tuple[Path, ...]) -> None:
    """Hold entries to the schema, to what numbers can be, and to their rows.

    \b
    Example:
      ifrp-bench leaderboard check leaderboard/lfw/ifrp.json
    """
    from ifrp_bench.results.entries import read_entry

    for path in files:
        facts = read_entry(path)
        click.echo(f"{path}: good: {facts['name']} on {facts['test_set']['name']}")


@leaderboard.command()
@click.argument("folder", type=FOLDER, default=Path("leaderboard"))
@click.option("--out", type=FILE, help="The page. [default: FOLDER/index.html]")
def build(folder: Path, out: Path | None) -> None:
    """Make the page of all entries in FOLDER: one file that needs no network.

    \b
    Example:
      ifrp-bench leaderboard build
    """
    from ifrp_bench import parts
    from ifrp_bench.results.leaderboard import build as make

    path, left_out = make(folder, out or folder / "index.html", parts.reported_values())
    for one in left_out:
        click.echo(f"left out: {one.path}: {one.reason}")
    click.echo(f"look at {path}")

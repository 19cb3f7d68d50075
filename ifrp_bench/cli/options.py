"""What commands share: options, how mistakes end, and which device is meant."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ifrp_bench.ground.errors import InputError

if TYPE_CHECKING:
    from ifrp_bench.data.format import Dataset

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
CONDITIONS = ("raw", "stn", "oracle")
SPLITS = ("train", "val", "test")


class Commands(click.Group):
    """Users' mistakes and full disks end in one line and exit code 1, Ctrl-C in 130.

    A traceback is always a bug.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            if error.errno in (None, errno.EPIPE):   # a reader that has had enough is no mistake
                raise
            where = f"{error.filename}: " if error.filename else ""
            mend = "what is whole is kept: mend it and run the same command again"
            raise click.ClickException(f"{where}{error.strerror}; {mend}") from None
        except KeyboardInterrupt:
            click.echo("Interrupted; run the same command again to resume.", err=True)
            ctx.exit(130)


def device_option(function: Any) -> Any:
    """``--device``."""
    return click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="auto takes a GPU where there is one.",
    )(function)


def settings_option(text: str) -> Any:
    """``--set KEY=VALUE``, repeated, with its help text."""
    return click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=text)


def sketches_option(function: Any) -> Any:
    """``--sketches``."""
    return click.option(
        "--sketches", type=FOLDER, help="A data set that import-pairs made, for the sketch columns."
    )(function)


def quiet_option(function: Any) -> Any:
    """``--quiet``."""
    return click.option("--quiet", is_flag=True, help="No progress bars.")(function)


def workers_option(function: Any) -> Any:
    """``--workers``."""
    return click.option(
        "--workers",
        type=click.IntRange(0),
        help="Processes; 0 is this process itself. [default: one a core]",
    )(function)


def checkpoint_option(function: Any) -> Any:
    """``--checkpoint``."""
    return click.option(
        "--checkpoint", type=click.Choice(["last", "best"]), default="last", show_default=True,
        help="The end of training, or the best on validation.",
    )(function)


def aligner_option(function: Any) -> Any:
    """``--aligner``."""
    return click.option(
        "--aligner", type=FOLDER,
        help=(
            "The run that aligns for the condition stn; aligner is the shipped one, trained on photographs."
            " [default: an aligner's run in runs/DATA]"
        ),
    )(function)


def styles_option(function: Any) -> Any:
    """``--styles``."""
    return click.option(
        "--styles", type=FOLDER, help="A folder of your own style folders, beside the eight."
    )(function)


def seed_option(function: Any) -> Any:
    """``--seed``, 0 unless it is given."""
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True)(function)


def refuse_given(*names: str, because: str) -> None:
    """Options of the running command that mean nothing here end it where they were given, rather than being
    ignored. Raises click.UsageError.

    A command that calls another gives no source for what it leaves at its default.
    """
    context = click.get_current_context()
    options = {option.name: option.opts[0] for option in context.command.params}
    not_given = (None, click.core.ParameterSource.DEFAULT)
    given = [options[name] for name in names if context.get_parameter_source(name) not in not_given]
    if given:
        raise click.UsageError(f"{', '.join(given)} would be ignored: {because}")


def part_names(kind: str) -> str:
    """What there is in a folder of parts, by its files alone: no part is imported for a help text."""
    folder = Path(__file__).parents[1] / kind
    names = sorted(path.stem for path in folder.iterdir() if not path.name.startswith("_"))
    return ", ".join(name.replace("_", "-") for name in names)


def pick_device(name: str) -> str:
    """``cuda`` or ``cpu``. Raises InputError where cuda is asked for and there is none."""
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        mend = "use --device cpu, or install a torch that fits the driver"
        raise InputError(f"--device cuda: torch sees no GPU; {mend}")
    if name == "auto":
        return "cuda" if there else "cpu"
    return name


def pick_workers(workers: int | None) -> int:
    """The count given, or one a core."""
    from ifrp_bench.ground.workers import default_workers

    return default_workers() if workers is None else workers


def opened(data: Path, quiet: bool = True, *, complete: bool = True) -> "Dataset":
    """A finished data set, said what it holds unless ``quiet``. To be called before anything that takes
    seconds to import, so that whoever mistypes a name learns it at once.
    """
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.ground.launch import find_place

    dataset = open_dataset(data, complete=complete)
    if not quiet and find_place().first:
        pairs = ", ".join(f"{dataset.pairs(split)} {split}" for split in SPLITS if dataset.pairs(split))
        click.echo(f"{data}: {pairs} pairs")
    return dataset


def words(text: str | None) -> tuple[str, ...] | None:
    """What ``a,b,c`` names; None where nothing is given."""
    return tuple(name.strip() for name in text.split(",")) if text else None


def find_aligner(conditions: tuple[str, ...] | str, aligner: Path | None, data: Path) -> Any:
    """The run that aligns, where a condition wants one. Raises InputError that says how to train it."""
    from ifrp_bench import paper, parts
    from ifrp_bench.data.shipped import find_run, shipped_names

    if conditions != "stn" and "stn" not in conditions:
        return None
    found = aligner or paper.find_aligner(Path("runs") / data.name)
    if aligner is None and not (found / "run.json").is_file():
        name = parts.aligner_names()[0]
        shipped = "; or take the shipped one, trained on photographs: --aligner aligner"
        raise InputError(
            f"condition stn needs an aligner, and there is no run of one in {found.parent}: `ifrp-bench train"
            f" --method {name} --data {data}` makes it{shipped if name in shipped_names() else ''}"
        )
    return find_run(found)

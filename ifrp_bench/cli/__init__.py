"""The command line: a module a group of commands, each of which checks its options and makes one call.

Everything heavy is imported inside the commands.
"""

from typing import Any

import click

from ifrp_bench import __version__
from ifrp_bench.cli.data import import_pairs, pictures, synth, verify
from ifrp_bench.cli.leaderboard import leaderboard
from ifrp_bench.cli.options import CONTEXT, Commands
from ifrp_bench.cli.project import bench, demo, fetch, list_all
from ifrp_bench.cli.results import evaluate, paper, report
from ifrp_bench.cli.styles import styles
from ifrp_bench.cli.training import train
from ifrp_bench.cli.use import destylize, export


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Synthesize, train and evaluate face recovery from stylized portraits.

    \b
    Start here (no data needed):
      ifrp-bench demo
    """


_COMMANDS: list[Any] = [
    synth,
    verify,
    import_pairs,
    pictures,
    styles,
    train,
    destylize,
    export,
    evaluate,
    report,
    paper,
    leaderboard,
    list_all,
    fetch,
    bench,
    demo,
]
for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Entry point of ``ifrp-bench``."""
    cli()

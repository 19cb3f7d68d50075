"""The stylized face itself: what a method that has learned nothing returns. A difficulty row of every table.

Under the condition ``raw`` it says how hard the data set is, under ``oracle`` how much of a face the styles
leave.
"""

from dataclasses import dataclass

from ifrp_bench.methods import Fixed, Method, Setup, unchanged


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, setup: Setup) -> Fixed:
    """The method."""
    return Fixed(unchanged)


METHOD = Method(Config, build, use="fixed")

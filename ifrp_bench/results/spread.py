"""Tables of what changes: scores along the robustness curves, of a style that was left out of the training,
and between trainings from different seeds.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ifrp_bench.metrics import Column
from ifrp_bench.results.statistics import TableColumn, summarize

SCORES = (   # of a face in ``curves.csv`` and ``left-out.csv``
    Column("psnr_db", "psnr", unit="dB"),
    Column("ssim", "ssim", digits=3),
    Column("hit_top1", "rank1", unit="%", hits=True, top=1),
    Column("hit_top5", "frr", unit="%", hits=True, top=5),
    Column("cosine", "cosine", digits=3),
    Column("verified", "vr", unit="%", hits=True, far=0.001),
)
SEED = re.compile(r"-seed\d+$")   # at the end of the name of a further training's run


def curve_points(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per entry, curve, value and score of ``curves.csv``: ``mean`` with ``low`` and ``high``, and how
    many
    ``rows`` it is of.
    """
    found = []
    for (curve, value), rows in frame.groupby(["curve", "value"], sort=False):   # type: ignore[misc]
        columns = [_of_all(column) for column in SCORES if column.name in rows]
        points = summarize(rows, columns, tests=False).rename(columns={"column": "score"})
        found.append(points.assign(curve=str(curve), value=float(value)))   # type: ignore[arg-type]
    kept = ["method", "run", "condition", "curve", "value", "score", "mean", "low", "high", "rows"]
    return pd.concat(found, ignore_index=True)[kept]


def _of_all(column: Column) -> TableColumn:
    return TableColumn(
        column.label, column.name, lambda frame: pd.Series(True, index=frame.index),
        hits=column.hits, digits=column.digits, top=column.top, far=column.far,
    )


def left_out_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Of ``left-out.csv``: each score style by style, of runs that lack the style and of runs that do not."""
    columns = []
    for column in SCORES:
        for style in dict.fromkeys(frame["style"]):
            columns.append(TableColumn(
                f"{column.label} {style}", column.name, _of_style(style),
                hits=column.hits, digits=column.digits, top=column.top, far=column.far, ours=True,
            ))
    return summarize(frame, columns)


def _of_style(style: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame["style"] == style


def seeds_table(conditions: pd.DataFrame) -> pd.DataFrame:
    """Of methods that were trained from several seeds: the mean over trainings with the mean interval between
    faces, and as columns ``sd`` the standard deviation between trainings. Empty where there are none.
    """
    base = conditions["run"].fillna("").str.replace(SEED, "", regex=True)
    rows = []
    for (method, run, condition, column), same in conditions.groupby(
        ["method", base, "condition", "column"], sort=False
    ):
        if len(same) < 2:
            continue
        first = same.iloc[0].to_dict() | {"run": run, "best": False, "second": False, "reported": np.nan}
        half = (same["high"] - same["low"]).mean() / 2
        mean = same["mean"].mean()
        nothing = {"low": np.nan, "high": np.nan, "chance": np.nan}
        rows.append(first | {"mean": mean, "low": mean - half, "high": mean + half})
        name = f"{column} sd of {len(same)}"
        rows.append(first | nothing | {"column": name, "mean": same["mean"].std(ddof=1)})
    return pd.DataFrame(rows)


def read_rows(path: Path) -> pd.DataFrame | None:
    """A file of rows with its faces' names as text; None where there is none."""
    if not path.is_file():
        return None
    frame = pd.read_csv(path, dtype={"face": str, "run": str}, keep_default_na=False, na_values=[""])
    return frame.fillna({"run": ""})

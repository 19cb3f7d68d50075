"""Tables of what changes: scores along the robustness curves, of a style that was left out of the training,
with the number of training styles, and between trainings from different seeds.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ifrp_bench import parts
from ifrp_bench.metrics import Column
from ifrp_bench.results.statistics import ENTRY, TableColumn, everything, of_style, summarize

METRICS = ("psnr", "ssim", "frr", "vr")   # whose columns stand in ``curves.csv`` and ``left-out.csv``
SEED = re.compile(r"-seed\d+$")   # at the end of the name of a further training's run


def _columns(frame: pd.DataFrame) -> list[Column]:
    """Those with a label that the rows have."""
    columns = [column for name in METRICS for column in parts.metric(name).columns]
    return [column for column in columns if column.label and column.name in frame]


def curve_points(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per entry, curve, value and score of ``curves.csv``: ``mean`` with ``low`` and ``high``, and of
    how many ``rows`` it is.
    """
    columns = [TableColumn.of(column, "", everything) for column in _columns(frame)]
    found = []
    for (curve, value), rows in frame.groupby(["curve", "value"], sort=False):   # type: ignore[misc]
        points = summarize(rows, columns, tests=False).rename(columns={"column": "score"})
        found.append(points.assign(curve=str(curve), value=float(value)))   # type: ignore[arg-type]
    kept = ["method", "run", "condition", "curve", "value", "score", "mean", "low", "high", "rows"]
    return pd.concat(found, ignore_index=True)[kept]


def training_style_points(scores: pd.DataFrame, entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """How scores of unseen styles change with the number of training styles: of every method of which two
    runs were trained on different numbers, a row per run and score, ``pictures`` the number.

    ``entries`` are those of ``results.json``. Only test styles that none of these runs saw count. Empty where
    there is no such method, or no such style.
    """
    counted = {
        (entry["method"], entry["run"], entry["condition"]): entry["trained_on"]
        for entry in entries if entry["headline"] and entry.get("trained_on")
    }
    numbers: dict[str, set[int]] = {}
    for (method, *_), styles in counted.items():
        numbers.setdefault(method, set()).add(sum(styles.values()))
    compared = {key: styles for key, styles in counted.items() if len(numbers[key[0]]) > 1}

    known = {style for styles in compared.values() for style in styles}
    keys = pd.MultiIndex.from_frame(scores[ENTRY].fillna(""))
    rows = scores[keys.isin(list(compared)) & ~scores["style"].isin(known)] if compared else scores[:0]
    if rows.empty:
        return pd.DataFrame()
    columns = [TableColumn.of(column, "", everything) for column in _columns(rows)]
    points = summarize(rows, columns, tests=False).rename(columns={"column": "score"})
    entries_of_points = points[ENTRY].fillna("").itertuples(index=False, name=None)
    points = points.assign(pictures=[sum(compared[key].values()) for key in entries_of_points])
    points = points.sort_values(["method", "score", "pictures"], kind="stable")
    return points[[*ENTRY, "pictures", "score", "mean", "low", "high", "rows"]].reset_index(drop=True)


def left_out_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Of ``left-out.csv``: each score style by style, of runs that lack the style and of runs that do not."""
    return summarize(frame, [
        TableColumn.of(column, style, of_style(style), ours=True)
        for column in _columns(frame) for style in dict.fromkeys(frame["style"])
    ])


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


def read_rows(path: Path) -> pd.DataFrame:
    """A file of rows as an evaluation writes them: an empty field is a number that is missing, or no run."""
    words = {"run": str, "recogniser": str, "face": str}
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=words)
    return frame.fillna({"run": "", "recogniser": ""})

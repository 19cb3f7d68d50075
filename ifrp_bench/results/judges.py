"""Where two recognisers disagree: on faces, and on which of two methods brings more people back.

A method that pleases one recogniser alone has learned that recogniser, or has found its weakness; a
difference between methods that both see can be believed.
"""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ifrp_bench.metrics import JUDGED_BY
from ifrp_bench.results.printing import label_of
from ifrp_bench.results.statistics import ENTRY

HIT = "hit_top1"
COSINE = "cosine"


def first_judge(scores: pd.DataFrame) -> str:
    """The recogniser whose columns have plain names."""
    return str(scores["recogniser"].iloc[0]).split("+")[0]


def further_judges(scores: pd.DataFrame) -> list[str]:
    """The second and later recognisers of an evaluation, by name."""
    beginning = HIT + JUDGED_BY
    columns = [str(column) for column in scores]
    return [column.removeprefix(beginning) for column in columns if column.startswith(beginning)]


def agreement(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per entry and pair of recognisers: in per cent of the faces, whom ``both`` find first, only the
    one or the other (``only_first``, ``only_second``) or ``neither``; and the rank correlation of their
    cosines to the own real face (Spearman). Empty with one recogniser.
    """
    names = _judges(scores)
    rows: list[dict[str, Any]] = []
    for one, other in combinations(names, 2):
        for entry, part in scores.groupby(ENTRY, sort=False, dropna=False):
            first, second = (part[HIT + names[judge]].astype(bool) for judge in (one, other))
            rows.append(dict(zip(ENTRY, entry)) | {   # type: ignore[arg-type]
                "first": one,
                "second": other,
                "faces": len(part),
                "both": 100 * (first & second).mean(),
                "only_first": 100 * (first & ~second).mean(),
                "only_second": 100 * (second & ~first).mean(),
                "neither": 100 * (~first & ~second).mean(),
                "correlation": _correlation(part[COSINE + names[one]], part[COSINE + names[other]]),
            })
    return pd.DataFrame(rows)


def _judges(scores: pd.DataFrame) -> dict[str, str]:
    """The recognisers by name, with the ending of their columns; the first one's have none."""
    further = further_judges(scores)
    if not further:
        return {}
    return {first_judge(scores): ""} | {name: JUDGED_BY + name for name in further}


def _correlation(one: pd.Series, other: pd.Series) -> float:
    """Spearman's; nan where one does not vary."""
    if one.nunique() < 2 or other.nunique() < 2:
        return np.nan
    return float(spearmanr(one, other).statistic)


def opposed(scores: pd.DataFrame) -> list[str]:
    """Sentences on pairs of entries of which each of two recognisers finds more people in another one."""
    names = _judges(scores)
    means = {
        name: scores.groupby(ENTRY, sort=False, dropna=False)[HIT + ending].mean()
        for name, ending in names.items()
    }
    found = []
    for one, other in combinations(names, 2):
        for left, right in combinations(means[one].index, 2):
            here, there = (means[name][left] - means[name][right] for name in (one, other))
            if here * there < 0:
                better, worse = (left, right) if here > 0 else (right, left)
                found.append(
                    f"{one} finds more people (rank 1) in {label_of(*better)} than in {label_of(*worse)} by"
                    f" {100 * abs(here):.1f} points, {other} fewer by {100 * abs(there):.1f}"
                )
    return found

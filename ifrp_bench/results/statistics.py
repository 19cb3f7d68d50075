"""Means with intervals, and paired tests between methods: what a cell of a table is made of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ifrp_bench.data.open_styles import OPEN
from ifrp_bench.ground.draws import generator
from ifrp_bench.metrics import Column

RESAMPLES = 2000   # of the bootstrap
TOGETHER = 32   # means that are resampled at a time, for memory
LEVEL = 0.05   # of the paired tests, Holm-corrected within a column
ENTRY = ["method", "run", "condition"]

EntryName = tuple[str, str, str]   # method, run, condition
Rows = Callable[[pd.DataFrame], pd.Series]   # which rows of a frame
Reported = Mapping[str, Mapping[str, float]]   # by method and column


@dataclass(frozen=True)
class TableColumn:
    """One column of a table: its ``name``, the score it averages and over which rows.

    ``hits`` are percentages, tested by McNemar's test; with ``lower`` less is better; ``ours``: the paper
    has no such column. ``top`` and ``far`` say what chance gives, as a metric's ``Column`` has them.
    """

    name: str
    score: str
    rows: Rows
    hits: bool = False
    digits: int = 2
    lower: bool = False
    ours: bool = False
    top: int = 0
    far: float = 0.0

    @classmethod
    def of(
        cls, column: Column, group: str, rows: Rows, *, ours: bool = False,
    ) -> "TableColumn":
        """A metric's column over some of the rows; ``ours`` marks it even where the metric does not."""
        return cls(
            f"{column.label} {group}".rstrip(), column.name, rows,
            hits=column.hits, digits=column.digits, lower=column.lower,
            ours=ours or column.ours, top=column.top, far=column.far,
        )

    def chance(self, people: int) -> float:
        """What guessing among so many scores, in per cent; nan for a column in which that is no number."""
        if self.far:
            return 100 * self.far
        return 100 * min(1.0, self.top / people) if self.top else np.nan


def everything(frame: pd.DataFrame) -> pd.Series:
    """All rows."""
    return pd.Series(True, index=frame.index)


@cache
def of_style(style: str) -> Rows:
    """The rows of a style."""
    return lambda frame: frame["style"] == style


def _seen(frame: pd.DataFrame) -> pd.Series:
    return frame["seen"] & (frame["style"] != OPEN)


def _unseen(frame: pd.DataFrame) -> pd.Series:
    return ~frame["seen"] & (frame["style"] != OPEN)


# Groups of test rows. Open styles, one for each face, are neither: no style of the test was trained on, even
# where others of the same bank were
GROUPS: dict[str, Rows] = {"seen": _seen, "unseen": _unseen, "open": of_style(OPEN)}


class Indexed:
    """A frame of scores or of pairs of styles, whose entries, people and masks are looked up once for all
    columns of a table.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        entries = frame.groupby(ENTRY, sort=False, dropna=False).ngroup().to_numpy()
        names = frame[ENTRY].drop_duplicates().itertuples(index=False, name=None)
        self.entries = {name: np.flatnonzero(entries == code) for code, name in enumerate(names)}
        of_faces = "style" in frame
        self.style, _ = pd.factorize(frame["style" if of_faces else "query_style"], sort=True)
        self.identity, _ = pd.factorize(frame["identity"], sort=True)
        self._keys = ["face", "style"] if of_faces else ["face", "query_style", "gallery_style"]
        self._masks: dict[Rows, np.ndarray] = {}
        self._values: dict[str, np.ndarray] = {}

    @cached_property
    def key(self) -> np.ndarray:
        """What was scored, a number for each face and style (or pair of styles)."""
        return self.frame.groupby(self._keys, sort=False).ngroup().to_numpy()

    def of(self, rows: Rows) -> dict[EntryName, np.ndarray]:
        """The numbers of those rows, by entry in their order; an entry without any is left out."""
        if rows not in self._masks:
            self._masks[rows] = rows(self.frame).to_numpy(dtype=bool)
        mask = self._masks[rows]
        found = {name: numbers[mask[numbers]] for name, numbers in self.entries.items()}
        return {name: numbers for name, numbers in found.items() if len(numbers)}

    def values(self, score: str) -> np.ndarray:
        """A column as numbers."""
        if score not in self._values:
            self._values[score] = self.frame[score].to_numpy(dtype=float)
        return self._values[score]


def summarize(
    frame: pd.DataFrame | Indexed,
    columns: Iterable[TableColumn],
    *,
    reported: Reported | None = None,
    seed: int = 0,
    tests: bool = True,
) -> pd.DataFrame:
    """A row per entry and column: ``mean``, ``low`` and ``high`` (95 %, bootstrap over identities), ``rows``,
    ``infinite``, ``missing``, ``reported``, ``chance``, ``ours``; ``best``: whether the entry is the best of
    the column or no worse by a paired test; ``second``: whether it is next and better than all that follow.

    Style means are averaged, so that every style weighs the same. An infinite PSNR (equal faces) and a
    residual that was not found are counted and left out of the mean. Without ``tests`` none is best.
    """
    indexed = frame if isinstance(frame, Indexed) else Indexed(frame)
    made: list[dict[str, Any]] = []
    people: list[np.ndarray] = []   # of each row a mean per identity
    for column in columns:
        if column.score not in indexed.frame:
            continue
        rows_here = []
        for entry, numbers in indexed.of(column.rows).items():
            row, by_person = _row(entry, column, indexed, numbers)
            row["reported"] = _reported(reported or {}, column, indexed.frame, numbers, entry)
            rows_here.append(row)
            people.append(by_person)
        best, second = _ranked(indexed, column, rows_here) if tests else (set[EntryName](), None)
        for row in rows_here:
            name = _name_of(row)
            row |= {"best": name in best, "second": name == second}
        made += rows_here
    for row, (low, high) in zip(made, intervals(people, seed)):
        row |= {"low": low, "high": high}
    return pd.DataFrame(made)


def _row(
    entry: EntryName, column: TableColumn, indexed: Indexed, numbers: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """An entry's mean of a column, and its mean per identity."""
    values = indexed.values(column.score)[numbers] * (100 if column.hits else 1)
    finite = np.isfinite(values)
    by_style = _means(values[finite], indexed.style[numbers][finite])
    row = dict(zip(ENTRY, entry)) | {
        "column": column.name,
        "mean": by_style.mean() if len(by_style) else np.nan,
        "rows": len(numbers),
        "infinite": int(np.isinf(values).sum()),
        "missing": int(np.isnan(values).sum()),
        "reported": np.nan,
        "chance": column.chance(len(np.unique(indexed.identity[numbers]))),
        "ours": column.ours,
        "digits": column.digits,
        "lower": column.lower,
    }
    return row, _means(values[finite], indexed.identity[numbers][finite])


def _means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Of each group that has values, in the groups' order."""
    counts = np.bincount(groups)
    there = counts > 0
    return np.bincount(groups, values)[there] / counts[there]   # type: ignore[no-any-return]


def intervals(values: list[np.ndarray], seed: int = 0) -> list[tuple[float, float]]:
    """Each one's 95 % percentile bootstrap interval of the mean of one value per identity; the mean itself
    where there is nothing to vary, nan for none.

    Those of one length are resampled together, with the same draws.
    """
    found = []
    for one in values:
        mean = float(one.mean()) if len(one) else np.nan
        found.append((mean, mean))
    varying = [number for number, one in enumerate(values) if len(one) > 1 and np.ptp(one) > 0]
    for length in {len(values[number]) for number in varying}:
        numbers = [number for number in varying if len(values[number]) == length]
        for part in (numbers[start:start + TOGETHER] for start in range(0, len(numbers), TOGETHER)):
            result = stats.bootstrap(
                (np.stack([values[number] for number in part]),), np.mean,
                axis=1,
                n_resamples=RESAMPLES,
                batch=100,
                method="percentile",
                vectorized=True,
                random_state=generator(seed, "bootstrap"),
            ).confidence_interval
            for number, low, high in zip(part, np.atleast_1d(result.low), np.atleast_1d(result.high)):
                found[number] = float(low), float(high)
    return found


def _reported(
    reported: Reported, column: TableColumn, frame: pd.DataFrame, numbers: np.ndarray, entry: EntryName
) -> float:
    """The paper's value, beside the condition that it is of and no other."""
    of_paper = "headline" not in frame or frame["headline"].iloc[numbers[0]]
    return reported.get(entry[0], {}).get(column.name, np.nan) if of_paper else np.nan


def _name_of(row: dict[str, Any]) -> EntryName:
    return row["method"], row["run"], row["condition"]


def _ranked(
    indexed: Indexed, column: TableColumn, rows: list[dict[str, Any]],
) -> tuple[set[EntryName], EntryName | None]:
    """The best entry of a column with those that a paired test does not tell from it, and the next one if it
    is told from all after it; Holm-corrected.
    """
    rows = [row for row in rows if np.isfinite(row["mean"])]
    if not rows:
        return set(), None
    scored = indexed.of(column.rows)
    values = indexed.values(column.score)
    order = [_name_of(row) for row in sorted(rows, key=lambda row: row["mean"], reverse=not column.lower)]

    def told_apart(one: EntryName, others: list[EntryName]) -> list[bool]:
        tests = []
        for other in others:
            mine, theirs = _same_faces(indexed.key, scored[one], scored[other])
            tests.append(paired_test(values[mine], values[theirs], hits=column.hits))
        return [p < LEVEL for p in holm(tests)]

    behind = [name for name, apart in zip(order[1:], told_apart(order[0], order[1:])) if apart]
    second = behind[0] if behind and all(told_apart(behind[0], behind[1:])) else None
    return set(order) - set(behind), second


def _same_faces(key: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows of two entries those of the same faces and styles, in one order."""
    if np.array_equal(key[one], key[other]):
        return one, other
    _, mine, theirs = np.intersect1d(key[one], key[other], assume_unique=True, return_indices=True)
    return one[mine], other[theirs]


def paired_test(one: np.ndarray, other: np.ndarray, *, hits: bool) -> float:
    """p of two methods being alike by their values on the same faces: exact McNemar for hits, Wilcoxon's
    signed ranks otherwise. Faces without a finite value of both do not count.
    """
    finite = np.isfinite(one) & np.isfinite(other)
    difference = one[finite] - other[finite]
    if not difference.any():
        return 1.0
    if hits:
        return float(stats.binomtest(int((difference > 0).sum()), int((difference != 0).sum())).pvalue)
    return float(stats.wilcoxon(difference).pvalue)


def holm(p: list[float]) -> list[float]:
    """Holm's step-down correction (1979)."""
    order = np.argsort(p)
    corrected, running = np.ones(len(p)), 0.0
    for place, number in enumerate(order):
        running = max(running, min(1.0, (len(p) - place) * p[number]))
        corrected[number] = running
    return corrected.tolist()

"""Stage 5: scores -> the tables of a paper, as CSV, Markdown and LaTeX: means, 95 % intervals, paired tests, and the paper's reported value in a
column of its own beside the measured one. Tables refuse to mix data sets, recognisers or protocols.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ifrp_bench.draws import generator
from ifrp_bench.errors import InputError
from ifrp_bench.weights import write_whole

RESAMPLES = 2000   # of the bootstrap
LEVEL = 0.05   # of the paired tests, Holm-corrected within a column
ENTRY = ["method", "run", "condition"]
ONE_OF = ("data_sha256", "recogniser", "protocol", "split")   # a table has one of each

# Table 1 and 2 of the paper (WACV 2018), as printed
REPORTED: dict[str, dict[str, float]] = {
    "gatys": {"psnr seen": 23.88, "psnr unseen": 23.25, "ssim seen": 0.84, "ssim unseen": 0.83, "frr seen": 64.67, "frr unseen": 60.28, "fcr": 72.89},
    "johnson": {"psnr seen": 19.65, "psnr unseen": 19.81, "ssim seen": 0.82, "ssim unseen": 0.81, "frr seen": 50.54, "frr unseen": 38.87, "fcr": 44.99},
    "mgan": {"psnr seen": 20.87, "psnr unseen": 20.21, "ssim seen": 0.79, "ssim unseen": 0.66, "frr seen": 6.97, "frr unseen": 12.52, "fcr": 38.24},
    "pix2pix": {"psnr seen": 25.28, "psnr unseen": 23.10, "ssim seen": 0.89, "ssim unseen": 0.85, "frr seen": 75.13, "frr unseen": 59.98, "fcr": 87.73},
    "cyclegan": {"psnr seen": 19.584, "psnr unseen": 18.99, "ssim seen": 0.78, "ssim unseen": 0.77, "frr seen": 1.07, "frr unseen": 0.68, "fcr": 13.32},
    "srn": {"psnr seen": 25.12, "psnr unseen": 24.09, "ssim seen": 0.89, "ssim unseen": 0.88},
    "srn-dn": {"psnr seen": 25.25, "psnr unseen": 24.25, "ssim seen": 0.90, "ssim unseen": 0.89},
    "ifrp": {"psnr seen": 27.08, "psnr unseen": 24.83, "ssim seen": 0.93, "ssim unseen": 0.91, "frr seen": 86.93, "frr unseen": 74.52, "fcr": 92.06},
}


@dataclass(frozen=True)
class Column:
    """One column: ``name`` as in ``REPORTED``, the score it averages and over which rows; ``hits`` are percentages, tested by McNemar's test."""

    name: str
    score: str
    rows: Callable[[pd.DataFrame], pd.Series]
    hits: bool = False
    digits: int = 2


def _seen(frame: pd.DataFrame) -> pd.Series:
    return frame["seen"]


def _unseen(frame: pd.DataFrame) -> pd.Series:
    return ~frame["seen"]


def _everything(frame: pd.DataFrame) -> pd.Series:
    return pd.Series(True, index=frame.index)


def _of_style(style: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame["style"] == style


TABLE_1 = [
    Column("psnr seen", "psnr_db", _seen), Column("psnr unseen", "psnr_db", _unseen),
    Column("ssim seen", "ssim", _seen, digits=3), Column("ssim unseen", "ssim", _unseen, digits=3),
]
TABLE_2 = [Column("frr seen", "hit_top5", _seen, True), Column("frr unseen", "hit_top5", _unseen, True)]
FCR = Column("fcr", "hit_top5", _everything, True)


def read_scores(folder: Path, name: str = "scores.csv") -> pd.DataFrame:
    """``scores.csv`` or ``consistency.csv`` of a results folder. Raises InputError if it is missing, or mixes data sets, recognisers or protocols."""
    path = folder / name
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"run": str, "recogniser": str, "face": str})
    except FileNotFoundError:
        raise InputError(f"{path}: not there; `ifrp-bench eval` makes it") from None
    except (pd.errors.ParserError, UnicodeDecodeError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not readable: {error}") from None
    return check_one(frame.fillna({"run": "", "recogniser": ""}), str(path))


def check_one(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The frame, if it is of one data set, recogniser, protocol and split."""
    for column in ONE_OF:
        found = frame[column].fillna("").unique()
        if len(found) > 1:
            raise InputError(f"{where}: {column} differs between rows ({', '.join(map(str, found[:3]))}); a table has one, evaluate again")
    return frame


def summarize(frame: pd.DataFrame, columns: Iterable[Column], *, seed: int = 0) -> pd.DataFrame:
    """A row per entry and column: ``mean``, ``low`` and ``high`` (95 %, bootstrap over identities), ``rows``, ``infinite``, ``reported``, and ``best``: whether
    the entry is the best of the column or no worse by a paired test.

    Style means are averaged, so that every style weighs the same. An infinite PSNR (equal faces) is counted and left out of the mean.
    """
    made = []
    for column in columns:
        if column.score not in frame:
            continue
        chosen = frame[column.rows(frame)]
        for entry, rows in chosen.groupby(ENTRY, sort=False, dropna=False):
            values = rows[column.score].astype(float) * (100 if column.hits else 1)
            finite = np.isfinite(values)
            people = values[finite].groupby(rows["identity"][finite]).mean().to_numpy()
            low, high = interval(people, seed)
            style = "style" if "style" in rows else "query_style"
            mean = values[finite].groupby(rows[style][finite]).mean().mean()
            made.append(dict(zip(ENTRY, entry)) | {   # type: ignore[call-overload]
                "column": column.name, "mean": mean, "low": low, "high": high, "rows": len(rows), "infinite": int((~finite).sum()),
                "reported": REPORTED.get(str(entry[0]), {}).get(column.name, np.nan), "digits": column.digits,  # type: ignore[index]
            })
        tied = _ties(chosen, column, [row for row in made if row["column"] == column.name])
        for row in made:
            if row["column"] == column.name:
                row["best"] = (row["method"], row["run"], row["condition"]) in tied
    return pd.DataFrame(made)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of one value per identity; the mean itself where there is one identity."""
    if len(values) < 2 or np.ptp(values) == 0:
        return (float(values.mean()),) * 2 if len(values) else (np.nan, np.nan)   # type: ignore[return-value]
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=generator(seed, "bootstrap"))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _ties(frame: pd.DataFrame, column: Column, rows: list[dict]) -> set[tuple]:
    """The best entry of a column and those that a paired test does not tell from it, Holm-corrected."""
    if not rows:
        return set()
    key = ["face", "style"] if "style" in frame else ["face", "query_style", "gallery_style"]
    values = {
        entry: part.set_index(key)[column.score].astype(float) for entry, part in frame.groupby(ENTRY, sort=False, dropna=False)
    }
    best = max(rows, key=lambda row: row["mean"])
    best_key = best["method"], best["run"], best["condition"]
    others = [name for name in values if name != best_key]
    p = [paired_test(values[best_key], values[name], hits=column.hits) for name in others]
    return {best_key} | {name for name, value in zip(others, holm(p)) if value >= LEVEL}


def paired_test(one: pd.Series, other: pd.Series, *, hits: bool) -> float:
    """p of two methods being alike on the same faces: exact McNemar for hits, Wilcoxon's signed ranks otherwise."""
    both = pd.concat([one, other], axis=1, join="inner").replace([np.inf, -np.inf], np.nan).dropna()
    difference = both.iloc[:, 0] - both.iloc[:, 1]
    if not (difference != 0).any():
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


def write_tables(folder: Path) -> list[Path]:
    """The tables of a results folder into its ``tables/``: for each a tidy CSV, Markdown and LaTeX; gives their paths."""
    scores = read_scores(folder)
    tables = {"table1": summarize(scores, TABLE_1)}
    second = [summarize(scores, TABLE_2)] if "hit_top5" in scores else []
    if (folder / "consistency.csv").is_file():
        second.append(summarize(read_scores(folder, "consistency.csv"), [FCR]))
    if second:
        tables["table2"] = pd.concat(second, ignore_index=True)
    names = {"psnr_db": "psnr", "ssim": "ssim", "hit_top5": "frr"}
    tables["styles"] = summarize(scores, [
        Column(f"{name} {style}", score, _of_style(style), score == "hit_top5", 3 if score == "ssim" else 2)
        for score, name in names.items() if score in scores for style in scores["style"].unique()
    ])
    caption = _caption(scores)
    written = []
    for name, table in tables.items():
        if table.empty:
            continue
        for suffix, text in (("csv", table.to_csv(index=False, float_format="%.6g")), ("md", markdown(table, caption)), ("tex", latex(table, caption))):
            path = folder / "tables" / f"{name}.{suffix}"
            write_whole(path, text.encode())
            written.append(path)
    return written


def _caption(scores: pd.DataFrame) -> str:
    first = scores.iloc[0]
    who = f", recogniser {first['recogniser']}" if isinstance(first["recogniser"], str) and first["recogniser"] else ""
    return (
        f"Data set {str(first['data_sha256'])[:12]}, split {first['split']}, protocol {first['protocol']}{who}; 95 % intervals by bootstrap over identities; "
        "bold: best, or not told from it by a paired test (Wilcoxon or McNemar, Holm-corrected, 5 %); reported: the paper's value."
    )


def _cells(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[pd.Series | None]]]]:
    columns = list(dict.fromkeys(table["column"]))
    rows = []
    for entry, part in table.groupby(ENTRY, sort=False, dropna=False):
        method, run, condition = (str(value) for value in entry)   # type: ignore[union-attr]
        label = f"{method} ({condition})" + (f" {run}" if run not in ("nan", "", method) else "")
        by_column = {row["column"]: row for _, row in part.iterrows()}
        rows.append((label, [by_column.get(column) for column in columns]))
    return columns, rows


def markdown(table: pd.DataFrame, caption: str) -> str:
    """A table people read."""
    columns, rows = _cells(table)
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, cells in rows:
        lines.append(f"| {label} | " + " | ".join("" if cell is None else _text(cell, "**{}**") for cell in cells) + " |")
    return "\n".join([*lines, "", caption, ""])


def _text(cell: pd.Series, bold: str) -> str:
    digits = int(cell["digits"])
    mean = f"{cell['mean']:.{digits}f}"
    shown = bold.format(mean) if cell["best"] else mean
    reported = f"; reported {cell['reported']:.{digits}f}" if np.isfinite(cell["reported"]) else ""
    return f"{shown} [{cell['low']:.{digits}f}, {cell['high']:.{digits}f}{reported}]"


def latex(table: pd.DataFrame, caption: str) -> str:
    """A booktabs table; needs the packages booktabs and siunitx."""
    columns, rows = _cells(table)
    lines = [
        r"% \usepackage{booktabs,siunitx}", r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}",
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}", r"\toprule",
        " & ".join(["method", *map(escape, columns)]) + r" \\", r"\midrule",
    ]
    for label, cells in rows:
        lines.append(" & ".join([escape(label), *("" if cell is None else _number(cell) for cell in cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _number(cell: pd.Series) -> str:
    digits = int(cell["digits"])
    mean = rf"\num{{{cell['mean']:.{digits}f}}}"
    shown = rf"\textbf{{{mean}}}" if cell["best"] else mean
    return rf"{shown} {{\scriptsize [{cell['low']:.{digits}f}, {cell['high']:.{digits}f}]}}"


def escape(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}.get(character, character) for character in text)

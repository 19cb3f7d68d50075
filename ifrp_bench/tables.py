"""Stage 5: scores -> the tables of a paper, as CSV, Markdown and LaTeX: means, 95 % intervals, paired tests, and the paper's reported value in a
column of its own beside the measured one. Tables refuse to mix data sets, recognisers or protocols.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ifrp_bench.draws import generator
from ifrp_bench.errors import InputError
from ifrp_bench.weights import write_whole

RESAMPLES = 2000   # of the bootstrap
TOGETHER = 32   # means that are resampled at a time, for memory
LEVEL = 0.05   # of the paired tests, Holm-corrected within a column
ENTRY = ["method", "run", "condition"]
ONE_OF = ("data_sha256", "recogniser", "protocol", "split")   # a table has one of each

# Tables 1 and 2 of the paper (WACV 2018), as printed
_COLUMNS = ("psnr seen", "ssim seen", "psnr unseen", "ssim unseen", "psnr sketches", "ssim sketches", "frr seen", "frr unseen", "frr sketches", "fcr")
REPORTED: dict[str, dict[str, float]] = {
    method: dict(zip(_COLUMNS, values)) for method, values in {
        "gatys": (23.88, 0.84, 23.25, 0.83, 23.33, 0.82, 64.67, 60.28, 68.36, 72.89),
        "johnson": (19.65, 0.82, 19.81, 0.81, 19.77, 0.82, 50.54, 38.87, 40.27, 44.99),
        "mgan": (20.87, 0.79, 20.21, 0.66, 21.01, 0.71, 6.97, 12.52, 17.99, 38.24),
        "pix2pix": (25.28, 0.89, 23.10, 0.85, 23.88, 0.86, 75.13, 59.98, 61.63, 87.73),
        "cyclegan": (19.584, 0.78, 18.99, 0.77, 19.60, 0.77, 1.07, 0.68, 0.70, 13.32),
        "srn": (25.12, 0.89, 24.09, 0.88, 24.13, 0.89),
        "srn-dn": (25.25, 0.90, 24.25, 0.89, 24.56, 0.90),
        "ifrp": (27.08, 0.93, 24.83, 0.91, 24.89, 0.92, 86.93, 74.52, 91.05, 92.06),
    }.items()
}


@dataclass(frozen=True)
class Column:
    """One column: ``name`` as in ``REPORTED``, the score it averages and over which rows; ``hits`` are percentages, tested by McNemar's test; with
    ``lower`` less is better."""

    name: str
    score: str
    rows: Callable[[pd.DataFrame], pd.Series]
    hits: bool = False
    digits: int = 2
    lower: bool = False


def _seen(frame: pd.DataFrame) -> pd.Series:
    return frame["seen"]


def _unseen(frame: pd.DataFrame) -> pd.Series:
    return ~frame["seen"]


def _everything(frame: pd.DataFrame) -> pd.Series:
    return pd.Series(True, index=frame.index)


def _of_style(style: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda frame: frame["style"] == style


def _block(query: bool, gallery: bool) -> Callable[[pd.DataFrame], pd.Series]:
    """FCR's rows by whether the styles of query and gallery were seen; a block of one seen and one unseen has both directions."""
    def rows(frame: pd.DataFrame) -> pd.Series:
        one, other = frame["query_seen"], frame["gallery_seen"]
        return one != other if query != gallery else one & other if query else ~(one | other)

    return rows


def _grouped(name: str, score: str, **options: Any) -> list[Column]:
    return [Column(f"{name} seen", score, _seen, **options), Column(f"{name} unseen", score, _unseen, **options)]


SCORES: dict[str, tuple[str, dict[str, Any]]] = {   # what a column is called: its score, and options of ``Column``
    "psnr": ("psnr_db", {}), "ssim": ("ssim", {"digits": 3}), "frr": ("hit_top5", {"hits": True}), "vr": ("verified", {"hits": True}),
    "lpips": ("lpips", {"lower": True, "digits": 3}),
}
RESIDUALS: dict[str, tuple[str, dict[str, Any]]] = {"angle": ("residual_deg", {"lower": True}), "shift": ("residual_px", {"lower": True})}
ALIGNMENT: dict[str, tuple[str, dict[str, Any]]] = {
    "angle": ("angle_error_deg", {"lower": True}), "scale": ("scale_error", {"lower": True, "digits": 3}), "shift": ("shift_error_px", {"lower": True}),
}
FCR = Column("fcr", "hit_top5", _everything, True)
FCR_BLOCKS = [
    Column("fcr seen/seen", "hit_top5", _block(True, True), True), Column("fcr seen/unseen", "hit_top5", _block(True, False), True),
    Column("fcr unseen/unseen", "hit_top5", _block(False, False), True),
]


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
    """A row per entry and column: ``mean``, ``low`` and ``high`` (95 %, bootstrap over identities), ``rows``, ``infinite``, ``missing``, ``reported``;
    ``best``: whether the entry is the best of the column or no worse by a paired test; ``second``: whether it is next and better than all that follow.

    Style means are averaged, so that every style weighs the same. An infinite PSNR (equal faces) and a residual that was not found are counted and left
    out of the mean.
    """
    made: list[dict[str, Any]] = []
    people: list[np.ndarray] = []   # of each row a mean per identity
    for column in columns:
        if column.score not in frame:
            continue
        chosen = frame[column.rows(frame)]
        style = "style" if "style" in frame else "query_style"
        rows_here = []
        for entry, rows in chosen.groupby(ENTRY, sort=False, dropna=False):
            values = rows[column.score].astype(float) * (100 if column.hits else 1)
            finite = np.isfinite(values)
            people.append(values[finite].groupby(rows["identity"][finite]).mean().to_numpy())
            rows_here.append(dict(zip(ENTRY, entry)) | {   # type: ignore[call-overload]
                "column": column.name, "mean": values[finite].groupby(rows[style][finite]).mean().mean(), "rows": len(rows),
                "infinite": int(np.isinf(values).sum()), "missing": int(np.isnan(values).sum()),
                "reported": _reported(str(entry[0]), column, rows), "digits": column.digits, "lower": column.lower,  # type: ignore[index]
            })
        best, second = _ranked(chosen, column, rows_here)
        for row in rows_here:
            name = _name_of(row)
            row |= {"best": name in best, "second": name == second}
        made += rows_here
    for row, (low, high) in zip(made, intervals(people, seed)):
        row |= {"low": low, "high": high}
    return pd.DataFrame(made)


def intervals(values: list[np.ndarray], seed: int = 0) -> list[tuple[float, float]]:
    """Each one's 95 % percentile bootstrap interval of the mean of one value per identity; the mean itself where there is nothing to vary, nan for none.

    Those of one length are resampled together, with the same draws.
    """
    found: list[tuple[float, float]] = [(float(one.mean()),) * 2 if len(one) else (np.nan, np.nan) for one in values]   # type: ignore[misc]
    varying = [number for number, one in enumerate(values) if len(one) > 1 and np.ptp(one) > 0]
    for length in {len(values[number]) for number in varying}:
        numbers = [number for number in varying if len(values[number]) == length]
        for part in (numbers[start:start + TOGETHER] for start in range(0, len(numbers), TOGETHER)):
            result = stats.bootstrap(
                (np.stack([values[number] for number in part]),), np.mean, axis=1, n_resamples=RESAMPLES, batch=100, method="percentile", vectorized=True,
                random_state=generator(seed, "bootstrap"),
            ).confidence_interval
            for number, low, high in zip(part, np.atleast_1d(result.low), np.atleast_1d(result.high)):
                found[number] = float(low), float(high)
    return found


def _reported(method: str, column: Column, rows: pd.DataFrame) -> float:
    """The paper's value, beside the condition that it is of and no other."""
    return REPORTED.get(method, {}).get(column.name, np.nan) if "headline" not in rows or rows["headline"].iloc[0] else np.nan


def _name_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["method"], row["run"], row["condition"]


def _ranked(frame: pd.DataFrame, column: Column, rows: list[dict[str, Any]]) -> tuple[set[tuple], tuple | None]:
    """The best entry of a column with those that a paired test does not tell from it, and the next one if it is told from all after it; Holm-corrected."""
    rows = [row for row in rows if np.isfinite(row["mean"])]
    if not rows:
        return set(), None
    key = ["face", "style"] if "style" in frame else ["face", "query_style", "gallery_style"]
    values = {entry: part.set_index(key)[column.score].astype(float) for entry, part in frame.groupby(ENTRY, sort=False, dropna=False)}
    order = [_name_of(row) for row in sorted(rows, key=lambda row: row["mean"], reverse=not column.lower)]

    def told_apart(one: tuple, others: list[tuple]) -> list[bool]:
        return [p < LEVEL for p in holm([paired_test(values[one], values[other], hits=column.hits) for other in others])]

    behind = [name for name, apart in zip(order[1:], told_apart(order[0], order[1:])) if apart]
    second = behind[0] if behind and all(told_apart(behind[0], behind[1:])) else None
    return set(order) - set(behind), second


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


def tables_of(folder: Path, sketches: Path | None = None) -> dict[str, pd.DataFrame]:
    """Every table of a results folder, with sketch columns from the results folder ``sketches``; means, intervals and tests are computed here, once."""
    of_sketches = (read_scores(sketches), read_consistency(sketches)) if sketches else (None, None)
    return make_tables(read_scores(folder), read_consistency(folder), *of_sketches) | alignment_table(folder)


def write_tables(folder: Path, sketches: Path | None = None, tables: dict[str, pd.DataFrame] | None = None) -> list[Path]:
    """The tables of a results folder, with sketch columns from the results folder ``sketches``, into its ``tables/``; gives their paths.

    Each is ``NAME.csv`` (tidy), ``NAME-printed.csv``, ``NAME.md`` and ``NAME.tex``: Tables 1 and 2 of the paper and verification (table3), each method
    under its headline condition; by condition, by style, by FCR's blocks, and the residual misalignment, with every row.
    """
    tables = tables_of(folder, sketches) if tables is None else tables
    caption = _caption(read_scores(folder), read_scores(sketches) if sketches else None) + " ".join(f" {note}." for note in notes_of(folder))
    written = []
    for name, table in tables.items():
        forms = {
            ".csv": table.to_csv(index=False, float_format="%.6g"), "-printed.csv": printed(table).to_csv(), ".md": markdown(table, caption),
            ".tex": latex(table, caption),
        }
        for suffix, text in forms.items():
            path = folder / "tables" / f"{name}{suffix}"
            write_whole(path, text.encode())
            written.append(path)
    return written


def make_tables(
    scores: pd.DataFrame, consistency: pd.DataFrame | None, sketches: pd.DataFrame | None = None, sketch_consistency: pd.DataFrame | None = None,
) -> dict[str, pd.DataFrame]:
    """Every table that the scores suffice for, by name, as ``summarize`` gives them."""
    top, top_sketches = scores[scores["headline"]], sketches[sketches["headline"]] if sketches is not None else None
    top_consistency = consistency[consistency["headline"]] if consistency is not None else None
    tables = {
        "table1": [_of_scores(top, top_sketches, ("psnr", "ssim"))],
        "table2": [_of_scores(top, top_sketches, ("frr",)), *([summarize(top_consistency, [FCR])] if top_consistency is not None else [])],
        "table3": [_of_scores(top, top_sketches, ("vr",))],
        "conditions": [_of_scores(scores, sketches, tuple(SCORES)), *([summarize(consistency, [FCR])] if consistency is not None else [])],
        "styles": [summarize(scores, [
            Column(f"{name} {style}", score, _of_style(style), **options)
            for name, (score, options) in SCORES.items() for style in scores["style"].unique()
        ])],
        "consistency": [summarize(consistency, FCR_BLOCKS)] if consistency is not None else [],
        "residual": [summarize(scores, [column for name, (score, options) in RESIDUALS.items() for column in _grouped(name, score, **options)])],
    }
    joined = {name: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for name, parts in tables.items()}
    return {name: table for name, table in joined.items() if not table.empty}


def alignment_table(folder: Path) -> dict[str, pd.DataFrame]:
    """The aligner's errors, as a table ``aligner``, where it was used."""
    path = folder / "alignment.csv"
    if not path.is_file():
        return {}
    frame = pd.read_csv(path, dtype={"run": str, "face": str})
    return {"aligner": summarize(frame, [column for name, (score, options) in ALIGNMENT.items() for column in _grouped(name, score, **options)])}


def _of_scores(scores: pd.DataFrame, sketches: pd.DataFrame | None, names: tuple[str, ...]) -> pd.DataFrame:
    """Columns seen, unseen and, from a data set of their own, sketches of each score."""
    parts = []
    for name in names:
        score, options = SCORES[name]
        parts.append(summarize(scores, _grouped(name, score, **options)))
        if sketches is not None:
            parts.append(summarize(sketches, [Column(f"{name} sketches", score, _everything, **options)]))
    return pd.concat(parts, ignore_index=True)


def read_consistency(folder: Path) -> pd.DataFrame | None:
    """FCR's rows of a results folder; None where it was not asked for."""
    if not (folder / "consistency.csv").is_file():
        return None
    frame = read_scores(folder, "consistency.csv")
    return None if frame.empty else frame


def notes_of(folder: Path) -> list[str]:
    """What a reader must know of the entries of a results folder, once each."""
    try:
        entries = json.loads((folder / "results.json").read_text(encoding="utf-8"))["entries"]
    except (OSError, ValueError, KeyError):
        return []
    return list(dict.fromkeys(f"{entry['method']}: {entry['note']}" for entry in entries if entry.get("note")))


def _caption(scores: pd.DataFrame, sketches: pd.DataFrame | None) -> str:
    first = scores.iloc[0]
    who = f", recogniser {first['recogniser']}" if isinstance(first["recogniser"], str) and first["recogniser"] else ""
    other = f", sketches {str(sketches.iloc[0]['data_sha256'])[:12]}" if sketches is not None else ""
    return (
        f"Data set {str(first['data_sha256'])[:12]}{other}, split {first['split']}, protocol {first['protocol']}{who}; 95 % intervals by bootstrap over "
        "identities; "
        "bold: best, or not told from it by a paired test (Wilcoxon or McNemar, Holm-corrected, 5 %); underlined: next, and told "
        "from all below; reported: the paper's value."
    )


def label_of(method: str, run: str, condition: str) -> str:
    """What an entry is called in a table: its method and condition, and its run where that has another name."""
    return f"{method} ({condition})" + (f" {run}" if run not in ("nan", "", method) else "")


Row = tuple[str, list[pd.Series | None]]   # a label and a cell a column


def cells(table: pd.DataFrame) -> tuple[list[str], list[Row]]:
    """The columns of a table in order, and its rows; a cell is a row of ``summarize``."""
    columns = list(dict.fromkeys(table["column"]))
    rows = []
    for entry, part in table.groupby(ENTRY, sort=False, dropna=False):
        by_column = {row["column"]: row for _, row in part.iterrows()}
        rows.append((label_of(*map(str, entry)), [by_column.get(column) for column in columns]))   # type: ignore[arg-type]
    return columns, rows


def number(cell: pd.Series, what: str = "mean") -> str:
    """A cell's mean, low, high or reported value to the digits that its column has; empty where there is none."""
    return f"{cell[what]:.{int(cell['digits'])}f}" if np.isfinite(cell[what]) else ""


def spread(cell: pd.Series) -> str:
    """A cell's interval."""
    return f"[{number(cell, 'low')}, {number(cell, 'high')}]"


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table as printed: for each column the mean, its interval, and the reported value where any row has one."""
    columns, rows = cells(table)
    reported = _reported_columns(table)
    lines = {}
    for label, row in rows:
        line = {}
        for column, cell in zip(columns, row):
            line[column] = number(cell) if cell is not None else ""
            line[f"{column} 95 %"] = spread(cell) if cell is not None else ""
            if column in reported:
                line[f"{column} reported"] = number(cell, "reported") if cell is not None else ""
        lines[label] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("method")


def _reported_columns(table: pd.DataFrame) -> set[str]:
    return set(table["column"][table["reported"].notna()])


def markdown(table: pd.DataFrame, caption: str) -> str:
    """A table people read."""
    columns, rows = cells(table)
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, row in rows:
        lines.append(f"| {label} | " + " | ".join("" if cell is None else _text(cell) for cell in row) + " |")
    return "\n".join([*lines, "", caption, ""])


def _text(cell: pd.Series) -> str:
    shown = f"**{number(cell)}**" if cell["best"] else f"<u>{number(cell)}</u>" if cell["second"] else number(cell)
    reported = f"; reported {number(cell, 'reported')}" if number(cell, "reported") else ""
    return f"{shown} {spread(cell)[:-1]}{reported}]"


def latex(table: pd.DataFrame, caption: str) -> str:
    """A booktabs table, measured and reported in columns of their own; needs the packages booktabs, siunitx and graphicx."""
    columns, rows = cells(table)
    reported = _reported_columns(table)
    titles = [title for column in columns for title in [escape(column), *([r"\textit{reported}"] if column in reported else [])]]
    lines = [
        r"% \usepackage{booktabs,siunitx,graphicx}", r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * len(titles)}}}", r"\toprule", " & ".join(["method", *titles]) + r" \\", r"\midrule",
    ]
    for label, row in rows:
        line = [escape(label)]
        for column, cell in zip(columns, row):
            line.append(_number(cell) if cell is not None else "")
            if column in reported:
                line.append(rf"\num{{{number(cell, 'reported')}}}" if cell is not None and number(cell, "reported") else "")
        lines.append(" & ".join(line) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def _number(cell: pd.Series) -> str:
    if not number(cell):
        return ""
    mean = rf"\num{{{number(cell)}}}"
    shown = rf"\textbf{{{mean}}}" if cell["best"] else rf"\underline{{{mean}}}" if cell["second"] else mean
    return rf"{shown} {{\scriptsize {spread(cell)}}}"


def escape(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}.get(character, character) for character in text)

"""Tables as text: CSV tidy and as printed, Markdown, LaTeX."""

import numpy as np
import pandas as pd

from ifrp_bench.results.statistics import ENTRY


def label_of(method: str, run: str, condition: str) -> str:
    """What an entry is called in a table: its method and condition, and its run where that has another name.
    """
    return f"{method} ({condition})" + (f" {run}" if run not in ("nan", "", method) else "")


Row = tuple[str, list[pd.Series | None]]   # a label and a cell a column
SPECIAL = "_%&#${}"   # of LaTeX, escaped by a backslash


def titles(table: pd.DataFrame) -> dict[str, str]:
    """What each column is called, those of ours with a star."""
    ours = dict(zip(table["column"], table["ours"]))
    return {column: f"{column}*" if own else column for column, own in ours.items()}


def chances(table: pd.DataFrame) -> dict[str, str]:
    """What guessing comes to in each column in which that is a number; empty where there is none."""
    rows = table.dropna(subset="chance").drop_duplicates("column")
    return {row["column"]: f"{row['chance']:.{int(row['digits'])}f}" for _, row in rows.iterrows()}


def cells(table: pd.DataFrame) -> tuple[list[str], list[Row]]:
    """The columns of a table in order, and its rows; a cell is a row of ``summarize``."""
    columns = list(dict.fromkeys(table["column"]))
    rows = []
    for entry, part in table.groupby(ENTRY, sort=False, dropna=False):
        by_column = {row["column"]: row for _, row in part.iterrows()}
        label = label_of(*map(str, entry))  # type: ignore[arg-type]
        rows.append((label, [by_column.get(column) for column in columns]))
    return columns, rows


def number(cell: pd.Series, what: str = "mean") -> str:
    """A cell's mean, low, high or reported value to the digits that its column has.

    Empty where there is none.
    """
    return f"{cell[what]:.{int(cell['digits'])}f}" if np.isfinite(cell[what]) else ""


def spread(cell: pd.Series) -> str:
    """A cell's interval."""
    return f"[{number(cell, 'low')}, {number(cell, 'high')}]"


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table as printed: for each column the mean, its interval,
    and the reported value where any row has one.
    """
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
    chance = chances(table)
    if chance:
        lines["chance"] = chance
    return pd.DataFrame.from_dict(lines, orient="index").rename(columns=titles(table)).rename_axis("method")


def _reported_columns(table: pd.DataFrame) -> set[str]:
    return set(table["column"][table["reported"].notna()])


def markdown(table: pd.DataFrame, caption: str) -> str:
    """A table people read."""
    columns, rows = cells(table)
    named, chance = titles(table), chances(table)
    heads = [named[column] for column in columns]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, row in rows:
        lines.append(f"| {label} | " + " | ".join("" if cell is None else _text(cell) for cell in row) + " |")
    if chance:
        lines.append("| chance | " + " | ".join(chance.get(column, "") for column in columns) + " |")
    return "\n".join([*lines, "", caption, ""])


def _text(cell: pd.Series) -> str:
    shown = (
        f"**{number(cell)}**"
        if cell["best"]
        else f"<u>{number(cell)}</u>" if cell["second"] else number(cell)
    )
    reported = f"; reported {number(cell, 'reported')}" if number(cell, "reported") else ""
    return f"{shown} {spread(cell)[:-1]}{reported}]"


def latex(table: pd.DataFrame, caption: str) -> str:
    """A booktabs table, measured and reported in columns of their own.

    Needs the packages booktabs, siunitx and graphicx.
    """
    columns, rows = cells(table)
    reported = _reported_columns(table)
    named, chance = titles(table), chances(table)
    heads = []
    for column in columns:
        heads.append(escape(named[column]))
        if column in reported:
            heads.append(r"\textit{reported}")
    lines = [
        r"% \usepackage{booktabs,siunitx,graphicx}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * len(heads)}}}",
        r"\toprule",
        " & ".join(["method", *heads]) + r" \\",
        r"\midrule",
    ]
    for label, row in rows:
        line = [escape(label)]
        for column, cell in zip(columns, row):
            line.append(_number(cell) if cell is not None else "")
            if column in reported:
                there = cell is not None and number(cell, "reported")
                line.append(rf"\num{{{there}}}" if there else "")
        lines.append(" & ".join(line) + r" \\")
    if chance:
        line = ["chance"]
        for column in columns:
            line.append(rf"\num{{{chance[column]}}}" if column in chance else "")
            line += [""] * (column in reported)
        lines += [r"\midrule", " & ".join(line) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def _number(cell: pd.Series) -> str:
    if not number(cell):
        return ""
    mean = rf"\num{{{number(cell)}}}"
    shown = rf"\textbf{{{mean}}}" if cell["best"] else rf"\underline{{{mean}}}" if cell["second"] else mean
    return rf"{shown} {{\scriptsize {spread(cell)}}}"


def escape(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join("\\" + character if character in SPECIAL else character for character in text)

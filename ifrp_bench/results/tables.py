"""Stage 5: scores -> the tables of a paper, as CSV, Markdown and LaTeX.

Means, 95 % intervals, paired tests, and the paper's reported value in a column of its own beside the measured
one. Which columns there are, the metrics declare. Tables refuse to mix data sets, recognisers or protocols.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ifrp_bench import parts
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.metrics import Column, Metric
from ifrp_bench.results.judges import agreement, first_judge, further_judges
from ifrp_bench.results.printing import latex, markdown, printed
from ifrp_bench.results.spread import (
    curve_points, left_out_table, read_rows, seeds_table, training_style_points,
)
from ifrp_bench.results.statistics import GROUPS, Indexed, TableColumn, everything, of_style, summarize

ONE_OF = ("data_sha256", "recogniser", "protocol", "split")   # a table has one of each
PAPER_TABLES = ("table1", "table2", "table3")   # of headline conditions, with columns of sketches

Tables = dict[str, pd.DataFrame]   # by name, as ``summarize`` returns them


@cache
def _block(query: bool, gallery: bool) -> Callable[[pd.DataFrame], pd.Series]:
    """FCR's rows by whether the styles of query and gallery were seen.

    A block of one seen and one unseen has both directions.
    """
    def rows(frame: pd.DataFrame) -> pd.Series:
        one, other = frame["query_seen"], frame["gallery_seen"]
        if query != gallery:
            return one != other
        return one & other if query else ~(one | other)

    return rows


BLOCKS = {"seen/seen": (True, True), "seen/unseen": (True, False), "unseen/unseen": (False, False)}
ALIGNMENT = (   # columns of ``alignment.csv``
    Column("angle_error_deg", "angle", unit="degrees", lower=True),
    Column("scale_error", "scale", digits=3, lower=True),
    Column("shift_error_px", "shift", unit="pixels of the 107x133 window", lower=True),
)


def _by_group(columns: Iterable[Column]) -> list[TableColumn]:
    """Each column over seen and over unseen styles, and over open ones where they are tested."""
    return [TableColumn.of(column, name, rows) for column in columns for name, rows in GROUPS.items()]


@dataclass(frozen=True)
class _Metrics:
    """What the metrics of a results folder declare of their columns."""

    metrics: dict[str, Metric]

    def of_faces(self, *, table: str = "", everywhere: bool = False) -> list[Column]:
        """Labelled columns of ``scores.csv`` that stand in a table, or everywhere."""
        return self._labelled(pairs=False, table=table, everywhere=everywhere)

    def of_pairs(self, *, table: str = "", everywhere: bool = False) -> list[Column]:
        """Those of ``consistency.csv``."""
        return self._labelled(pairs=True, table=table, everywhere=everywhere)

    def _labelled(self, *, pairs: bool, table: str, everywhere: bool) -> list[Column]:
        own, also = [], []   # a table's own columns come first
        for metric in self.metrics.values():
            if metric.pairs != pairs or metric.kind == "set":
                continue
            for column in metric.columns:
                if not column.label:
                    continue
                if metric.everywhere if everywhere else metric.table == table:
                    own.append(column)
                elif table in column.also and not everywhere:
                    also.append(replace(column, ours=True))
        return own + also

    def of_sets(self) -> list[Column]:
        """Those of ``sets.csv``."""
        sets = [metric for metric in self.metrics.values() if metric.kind == "set"]
        return [column for metric in sets for column in metric.columns if column.label]

    def tables(self) -> list[str]:
        """Tables that are not the paper's."""
        names = [metric.table for metric in self.metrics.values() if metric.kind != "set" and metric.table]
        return [name for name in dict.fromkeys(names) if name not in PAPER_TABLES]


def declared_in(folder: Path) -> dict[str, Metric]:
    """The catalogue's metrics, those of a user's own as the results folder has written down what they
    declare, and the columns of second and later recognisers.
    """
    known = parts.metrics()
    try:
        facts = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        written: dict[str, list[dict[str, Any]]] = facts.get("columns", {})
        judges = [judge["name"] for judge in facts.get("recognisers", [])]
    except (OSError, ValueError, AttributeError):
        return known
    own = {name: columns for name, columns in written.items() if name not in known}
    metrics = known | {
        name: Metric("picture", tuple(Column(**column) for column in columns))
        for name, columns in own.items()
    }
    for name, metric in metrics.items():
        if metric.kind == "retrieval":
            further = [column.judged_by(judge) for judge in judges[1:] for column in metric.columns]
            metrics[name] = replace(metric, columns=(*metric.columns, *further))
    return metrics


def read_results(folder: Path) -> dict[str, Any]:
    """``results.json`` of a results folder.

    Raises InputError where it is missing or another evaluation's than this version reads.
    """
    path = folder / "results.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); `ifrp-bench eval` makes it") from None
    missing = [key for key in ("entries", "data_folder", "data", "versions") if key not in facts]
    if missing:
        raise InputError(f"{path}: the key {missing[0]!r} is missing; evaluate again")
    return facts   # type: ignore[no-any-return]


def read_scores(folder: Path, name: str = "scores.csv") -> pd.DataFrame:
    """``scores.csv`` or ``consistency.csv`` of a results folder.

    Raises InputError if it is missing, or mixes data sets, recognisers or protocols.
    """
    path = folder / name
    try:
        frame = read_rows(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not there; `ifrp-bench eval` makes it") from None
    except (pd.errors.ParserError, UnicodeDecodeError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not readable: {error}") from None
    return check_one(frame, str(path))


def check_one(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The frame, if it is of one data set, recogniser, protocol and split."""
    for column in ONE_OF:
        found = frame[column].fillna("").unique()
        if len(found) > 1:
            raise InputError(
                f"{where}: {column} differs between rows ({', '.join(map(str, found[:3]))}); a table has one,"
                " evaluate again"
            )
    return frame


def entry_tables(folder: Path, method: str, run: str) -> Tables:
    """The tables ``conditions`` and ``styles`` of one method's run alone, with the same numbers."""
    frames = read_scores(folder), read_consistency(folder)
    mine = [
        None if frame is None else frame[(frame["method"] == method) & (frame["run"].fillna("") == run)]
        for frame in frames
    ]
    scores, consistency = mine
    assert scores is not None
    if scores.empty:
        return {}
    return _tables(_Metrics(declared_in(folder)), scores, consistency, None)


def tables_of(folder: Path, sketches: Path | None = None) -> Tables:
    """Every table of a results folder, with sketch columns from the results folder ``sketches``.

    Means, intervals and tests are computed here, once.
    """
    declared = _Metrics(declared_in(folder))
    scores, consistency = read_scores(folder), read_consistency(folder)
    of_sketches = read_scores(sketches) if sketches else None
    tables = _tables(declared, scores, consistency, of_sketches)
    return tables | _alignment_table(folder) | _sets_table(declared, folder) | _changes(folder, tables)


def _changes(folder: Path, tables: Tables) -> Tables:
    """Tables of trainings without a style, and of several trainings of a method."""
    found: Tables = {}
    if (folder / "left-out.csv").is_file():
        left_out = read_rows(folder / "left-out.csv")
        found["left-out"] = left_out_table(check_one_data(left_out, folder))
    seeds = seeds_table(tables["conditions"]) if "conditions" in tables else pd.DataFrame()
    return found | ({} if seeds.empty else {"seeds": seeds})


def check_one_data(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Rows beside a results folder's scores, if they are of the same data set.

    Raises InputError where they are not.
    """
    here = read_scores(folder)["data_sha256"].iloc[0]
    if set(frame["data_sha256"]) != {here}:
        raise InputError(f"{folder}: left-out.csv is of another data set than scores.csv; remove it")
    return frame


def write_points(folder: Path) -> None:
    """Means that plots are drawn of: ``tables/curves.csv`` along the robustness curves,
    ``tables/training-styles.csv`` over the number of training styles; none of what a results folder does not
    have.
    """
    curves = folder / "curves.csv"
    along = curve_points(read_rows(curves)) if curves.is_file() else pd.DataFrame()
    over_styles = training_style_points(read_scores(folder), read_results(folder)["entries"])
    _write_rows(folder / "tables" / "curves.csv", along)
    _write_rows(folder / "tables" / "training-styles.csv", over_styles)


def write_agreement(folder: Path) -> None:
    """``judges.csv``: where the recognisers of a results folder disagree; none with one of them."""
    _write_rows(folder / "judges.csv", agreement(read_scores(folder)))


def _write_rows(path: Path, rows: pd.DataFrame) -> None:
    """A file of rows; none, and no earlier one, where there are none."""
    if rows.empty:
        path.unlink(missing_ok=True)
    else:
        write_whole(path, rows.to_csv(index=False, float_format="%.6g").encode())


def write_tables(folder: Path, sketches: Path | None = None, tables: Tables | None = None) -> list[Path]:
    """The tables of a results folder, with sketch columns from the results folder ``sketches``, into its
    ``tables/``.

    Each is ``NAME.csv`` (tidy), ``NAME-printed.csv``, ``NAME.md`` and ``NAME.tex``: Tables 1 and 2 of the
    paper and verification (table3), each method under its headline condition; by condition, by style, by
    FCR's blocks, and the residual misalignment, with every row. Returns their paths.
    """
    tables = tables_of(folder, sketches) if tables is None else tables
    write_agreement(folder)
    write_points(folder)
    caption = _caption(read_scores(folder), read_scores(sketches) if sketches else None)
    caption += "".join(f" {note}." for note in notes_of(folder))
    written = []
    for name, table in tables.items():
        forms = {
            ".csv": table.to_csv(index=False, float_format="%.6g"),
            "-printed.csv": printed(table).to_csv(),
            ".md": markdown(table, caption),
            ".tex": latex(table, caption),
        }
        for suffix, text in forms.items():
            path = folder / "tables" / f"{name}{suffix}"
            write_whole(path, text.encode())
            written.append(path)
    return written


def _tables(
    declared: _Metrics, scores: pd.DataFrame, consistency: pd.DataFrame | None, sketches: pd.DataFrame | None,
) -> Tables:
    """Every table that the scores suffice for, by name."""
    every, every_pair, every_sketch = _indexed(scores), _indexed(consistency), _indexed(sketches)
    top, top_pairs, top_sketches = (_indexed(_headlines(frame)) for frame in (scores, consistency, sketches))
    assert every is not None and top is not None
    reported = parts.reported_values()

    def of_faces(frame: Indexed, other: Indexed | None, columns: Iterable[Column]) -> list[pd.DataFrame]:
        """Columns seen, unseen, open and, from a data set of their own, sketches of each score."""
        found = []
        for column in columns:
            found.append(summarize(frame, _by_group([column]), reported=reported))
            if other is not None:
                drawn = TableColumn.of(column, "sketches", everything)
                found.append(summarize(other, [drawn], reported=reported))
        return found

    def of_pairs(frame: Indexed | None, columns: Iterable[Column]) -> list[pd.DataFrame]:
        """Columns over all ordered pairs of styles."""
        if frame is None:
            return []
        of_all = [TableColumn.of(column, "", everything) for column in columns]
        return [summarize(frame, [column], reported=reported) for column in of_all]

    # the paper's, each method under its headline condition
    tables: dict[str, list[pd.DataFrame]] = {}
    for name in PAPER_TABLES:
        tables[name] = of_faces(top, top_sketches, declared.of_faces(table=name))
        tables[name] += of_pairs(top_pairs, declared.of_pairs(table=name))

    # every entry: by condition, by style, by blocks of styles, and what has a table of its own
    everywhere = declared.of_faces(everywhere=True)
    tables["conditions"] = of_faces(every, every_sketch, everywhere)
    tables["conditions"] += of_pairs(every_pair, declared.of_pairs(everywhere=True))
    by_style = [
        TableColumn.of(column, style, of_style(style))
        for column in everywhere
        for style in scores["style"].unique()
    ]
    tables["styles"] = [summarize(every, by_style)]
    if every_pair is not None:
        of_blocks = [
            TableColumn.of(column, name, _block(*sides))
            for column in declared.of_pairs(everywhere=True) for name, sides in BLOCKS.items()
        ]
        tables["consistency"] = [summarize(every_pair, of_blocks)]
    for name in declared.tables():
        tables[name] = [summarize(every, _by_group(declared.of_faces(table=name)))]

    joined = {name: _joined(frames) for name, frames in tables.items()}
    return {name: table for name, table in joined.items() if not table.empty}


def _indexed(frame: pd.DataFrame | None) -> Indexed | None:
    return None if frame is None else Indexed(frame)


def _headlines(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of each method under its headline condition."""
    return None if frame is None else frame[frame["headline"]]


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if not frame.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _alignment_table(folder: Path) -> Tables:
    """The aligner's errors, as a table ``aligner``, where it was used."""
    path = folder / "alignment.csv"
    if not path.is_file():
        return {}
    return {"aligner": summarize(read_rows(path), _by_group(ALIGNMENT))}


def _sets_table(declared: _Metrics, folder: Path) -> Tables:
    """Distances of whole sets, as a table ``sets``: one number an
    entry and group, so neither intervals nor tests.
    """
    path = folder / "sets.csv"
    if not path.is_file():
        return {}
    frame = read_rows(path)
    rows = []
    for column in declared.of_sets():
        if column.name not in frame:
            continue
        for _, row in frame.iterrows():
            value = float(row[column.name])
            rows.append({
                "method": row["method"],
                "run": row["run"],
                "condition": row["condition"],
                "column": f"{column.label} {row['group']}",
                "mean": value,
                "rows": 1,
                "infinite": 0,
                "missing": int(np.isnan(value)),
                "reported": np.nan,
                "chance": np.nan,
                "ours": True,
                "digits": column.digits,
                "lower": column.lower,
                "best": False,
                "second": False,
                "low": np.nan,
                "high": np.nan,
            })
    return {"sets": pd.DataFrame(rows)} if rows else {}


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
    return list(
        dict.fromkeys(f"{_entrant(entry)}: {entry['note']}" for entry in entries if entry.get("note"))
    )


def _entrant(entry: Mapping[str, Any]) -> str:
    """The method and, where it is called otherwise, the run."""
    method, run = entry["method"], entry.get("run", "")
    return f"{method} {run}" if run and run != method else str(method)


def _caption(scores: pd.DataFrame, sketches: pd.DataFrame | None) -> str:
    first = scores.iloc[0]
    who = f", recogniser {first_judge(scores)}" if first["recogniser"] else ""
    who += "".join(f", columns ({judge}) by {judge}" for judge in further_judges(scores))
    other = f", sketches {str(sketches.iloc[0]['data_sha256'])[:12]}" if sketches is not None else ""
    return (
        f"Data set {str(first['data_sha256'])[:12]}{other}, split {first['split']}, protocol"
        f" {first['protocol']}{who}; 95 % intervals by bootstrap over identities; bold: best, or not told"
        " from it by a paired test (Wilcoxon or McNemar, Holm-corrected, 5 %); underlined: next, and told"
        " from all below; reported: the paper's value; *: a column of ours, which the paper does not have;"
        " chance: what guessing gives."
    )

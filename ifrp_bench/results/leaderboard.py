"""A folder of entries as one static page: a table a test set, sortable and filterable, and quality against
cost.

The page needs no network. What strangers wrote into entries is text on it, never markup; what the paper
reports stands apart and is never ranked with what was measured.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from ifrp_bench import __version__
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.results.entries import EntryFile, difference, read_entries

COSTS = {   # of the plot: the entry's key, and what it is called
    "minutes": "training, minutes",
    "parameters": "parameters",
    "operations": "operations of one face",
    "latency_ms": "one face, ms",
    "seen": "pairs seen in training",
}
FIRST_COLUMNS = ("psnr", "ssim", "rank1", "frr", "cosine", "vr", "fcr")
# what rows are in the order of, the first that there is: on seen styles, since entries may have seen all
RANKED_BY = ("rank1 seen", "frr seen", "psnr seen")


@dataclass(frozen=True)
class LeftOut:
    """An entry that is not ranked, and why."""

    path: Path
    reason: str


def build(folder: Path, out: Path, reported: Mapping[str, Mapping[str, float]]) -> tuple[Path, list[LeftOut]]:
    """Write the page of all entries under ``folder`` into ``out``; returns its path and what was left out.

    Of a test set's entries those of the test set and protocol that most have are ranked. Raises InputError
    for files that are no entries, and where there are none: nothing is written then.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; `ifrp-bench leaderboard submit` makes it")
    places = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    found = {place: read_entries(place) for place in places}
    found = {place: entries for place, entries in found.items() if entries}
    if not found:
        raise InputError(f"{folder}: no entries; `ifrp-bench leaderboard submit RESULTS` writes the first")
    left_out: list[LeftOut] = []
    sets = []
    for entries in found.values():
        ranked, others = _ranked(entries)
        left_out += others
        sets.append(_test_set(ranked, out.parent))
    page = _template().render(
        sets=sets,
        costs=COSTS,
        reported=_reported(reported),
        left_out=[(str(one.path), one.reason) for one in left_out],
        version=__version__,
    )
    write_whole(out, page.encode())
    return out, left_out


def _ranked(entries: list[EntryFile]) -> tuple[list[EntryFile], list[LeftOut]]:
    """Entries of one test set and protocol, and the others."""
    def key(entry: EntryFile) -> tuple[str, str]:
        return entry.facts["test_set"]["sha256"], entry.facts["protocol"]["metrics"]

    most, _ = Counter(map(key, entries)).most_common(1)[0]
    first = next(entry for entry in entries if key(entry) == most)
    ranked = [entry for entry in entries if key(entry) == most]
    others = [
        LeftOut(entry.path, difference(entry.facts, first.facts)) for entry in entries if key(entry) != most
    ]
    return ranked, others


def _test_set(entries: list[EntryFile], page_folder: Path) -> dict[str, Any]:
    """What the page shows of a test set."""
    columns = _columns(entries)
    rows = []
    for entry in entries:
        for condition, found in entry.facts["conditions"].items():
            rows.append(_row(entry, condition, found["scores"], columns, page_folder))
    ranked_by = next((column for column in RANKED_BY if column in columns), columns[0])
    rows.sort(key=lambda row: -row["plot"]["scores"].get(ranked_by, -float("inf")))
    about = entries[0].facts["test_set"]
    return {
        "name": about["name"],
        "id": entries[0].path.parent.name,
        "about": about,
        "metrics": entries[0].facts["protocol"]["metrics"],
        "judges": sorted({judge["name"] for entry in entries for judge in entry.facts["judges"]}),
        "columns": columns,
        "ranked_by": ranked_by,
        "rows": rows,
        "conditions": sorted({row["condition"] for row in rows}),
        "protocols": sorted({row["styles"] for row in rows}),
        "points": [row["plot"] for row in rows],
    }


def _columns(entries: list[EntryFile]) -> list[str]:
    """Every column that an entry has, the paper's scores first."""
    named: set[str] = set()
    for entry in entries:
        for found in entry.facts["conditions"].values():
            named |= set(found["scores"])

    def order(column: str) -> tuple[bool, int, str, bool, str]:
        score, _, group = column.rpartition(" ")
        score = score or column
        word = score.split()[0]
        place = FIRST_COLUMNS.index(word) if word in FIRST_COLUMNS else len(FIRST_COLUMNS)
        return "(" in score, place, score, group != "seen", group

    return sorted(named, key=order)


def _row(
    entry: EntryFile, condition: str, scores: Mapping[str, Any], columns: list[str], page_folder: Path,
) -> dict[str, Any]:
    facts = entry.facts
    training = facts["training"]
    return {
        "name": facts["name"],
        "method": facts["method"],
        "condition": condition,
        "styles": facts["protocol"]["styles"],
        "code": facts["code"],
        "who": facts["who"],
        "note": facts["note"],
        "date": facts["date"],
        "json": _link(entry.path, page_folder),
        "raw": _link(entry.path.parent / facts["rows"]["file"], page_folder),
        "cells": [_cell(scores.get(column)) for column in columns],
        "costs": [_short(training[key]) for key in ("minutes", "parameters", "latency_ms")],
        "before": training.get("gone_on_from") or [],
        "plot": {
            "name": f"{facts['name']} ({condition})",
            "cost": {key: training[key] for key in COSTS},
            "scores": {column: cell["mean"] for column, cell in scores.items()},
        },
    }


def _link(path: Path, page_folder: Path) -> str:
    """From the page to a file beside it."""
    try:
        return quote(path.resolve().relative_to(page_folder.resolve()).as_posix())
    except ValueError:
        return path.resolve().as_uri()


def _cell(score: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if score is None:
        return None
    digits = 3 if abs(score["mean"]) <= 1 and abs(score["high"]) <= 1 else 2
    text = f"{score['mean']:.{digits}f}"
    interval = f"[{score['low']:.{digits}f}, {score['high']:.{digits}f}]"
    return {"value": score["mean"], "text": text, "interval": interval}


def _short(number: float | None) -> dict[str, Any] | None:
    """A number as people say it: 4.1 M."""
    if number is None:
        return None
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if number >= limit:
            return {"value": number, "text": f"{number / limit:.1f}{unit}"}
    return {"value": number, "text": f"{number:.3g}"}


def _reported(reported: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The paper's values as a table of their own."""
    columns = list(dict.fromkeys(column for values in reported.values() for column in values))
    rows = [(name, [values.get(column) for column in columns]) for name, values in reported.items()]
    return {"columns": columns, "rows": rows}


def _template() -> jinja2.Template:
    source = (Path(__file__).parent / "leaderboard.html").read_text(encoding="utf-8")
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(source)

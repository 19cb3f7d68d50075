"""Entries of a leaderboard: a JSON file a method and test set, with the rows that its numbers are of beside
it.

``entry.schema.json`` says what a file holds. Files come from strangers: one is held to the schema, to what
its numbers can be, and to its rows before anything is made of it.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ifrp_bench import __version__
from ifrp_bench.data.format import Dataset
from ifrp_bench.data.lists import frozen_of
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.metrics import JUDGED_BY
from ifrp_bench.results.tables import entry_tables, read_results, read_scores

SCHEMA = Path(__file__).parent / "entry.schema.json"
BOUNDS = {   # of columns by the first word of their name; all others are percentages
    "psnr": (0.0, 100.0), "ssim": (-1.0, 1.0), "cosine": (-1.0, 1.0), "lpips": (0.0, 10.0),
}
# columns of a face that stand in its rows, with those of further recognisers
KEPT = ("psnr_db", "ssim", "rank", "cosine", "verified")
DIGITS = 5   # of values in rows; means are of all digits


@dataclass(frozen=True)
class Entrant:
    """What an entry says that no result can: its ``name`` on the page, where the ``code`` is, ``who``, a
    ``note``, and what it was ``trained_on`` (styles; None: not known).
    """

    name: str
    code: str = ""
    who: str = ""
    note: str = ""
    trained_on: tuple[str, ...] | None = None


def file_name(name: str) -> str:
    """The beginning of an entry's files. Raises InputError for a name with nothing to call a file by."""
    found = re.sub(r"[^a-z0-9+]+", "-", name.lower()).lstrip("+-").rstrip("-")
    if not found:
        raise InputError(f"the name {name!r} has no letter or digit of a to z; a file is called by these")
    return found[:60]


def make_entry(
    results: Path, method: str, run: str, data: Dataset, entrant: Entrant, training: Mapping[str, Any],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """An entry of a results folder's method, and its rows; ``training`` is what the schema asks of it.

    Raises InputError where there is none of that name, and where a mean is of no number.
    """
    facts, tables = read_results(results), entry_tables(results, method, run)
    scores = _of_entry(read_scores(results), method, run)
    if scores.empty:
        raise InputError(f"{results}: no scores of {method} {run}".rstrip())
    styles = [str(style) for style in scores["style"].unique()]
    frozen = frozen_of(data)
    conditions = {}
    for condition in scores["condition"].unique():
        of_both = (tables[name] for name in ("conditions", "styles"))
        overall, by_style = (table[table["condition"] == condition] for table in of_both)
        _check_finite(overall, f"{method} ({condition})")
        conditions[str(condition)] = {
            "scores": {row["column"]: _cell(row) for _, row in overall.iterrows()},
            "styles": {row["column"]: _rounded(row["mean"]) for _, row in by_style.iterrows()},
        }
    entry = {
        "schema": 1,
        "name": entrant.name,
        "method": method,
        "code": entrant.code,
        "who": entrant.who,
        "note": entrant.note,
        "test_set": {
            "name": frozen.label if frozen else facts["data"],
            "sha256": data.split_sha256(facts["split"]),
            "data_sha256": facts["data_sha256"],
            "split": facts["split"],
            "people": int(scores["identity"].nunique()),
            "stylized": len(scores.drop_duplicates(["face", "style"])),
            "styles": sorted(styles),
        },
        "protocol": {"metrics": facts["protocol"]} | _protocol(entrant.trained_on, styles),
        "judges": [{key: judge[key] for key in ("name", "sha256")} for judge in facts.get("recognisers", [])],
        "training": dict(training),
        "conditions": conditions,
        "made_with": f"ifrp-bench {__version__}",
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    return entry, _rows(scores)


def _of_entry(frame: pd.DataFrame, method: str, run: str) -> pd.DataFrame:
    return frame[(frame["method"] == method) & (frame["run"].fillna("") == run)]


def _check_finite(table: pd.DataFrame, what: str) -> None:
    bad = table[table["mean"].isna()]
    if len(bad):
        raise InputError(
            f"{what}: {bad.iloc[0]['column']} is of no number (all faces equal their real ones, or none was"
            " found); there is nothing to compare"
        )


def _cell(row: pd.Series) -> dict[str, Any]:
    cell: dict[str, Any] = {key: _rounded(row[key]) for key in ("mean", "low", "high")}
    return cell | {"rows": int(row["rows"])}


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def _protocol(trained_on: Iterable[str] | None, tested: Iterable[str]) -> dict[str, Any]:
    """What the styles of training and test make of the comparison."""
    if trained_on is None:
        return {"styles": "unknown", "trained_on": None, "saw_test_styles": None}
    known, asked = set(trained_on), set(tested)
    kind = "open" if not known & asked else "all-seen" if asked <= known else "seen-unseen"
    return {"styles": kind, "trained_on": sorted(known), "saw_test_styles": bool(known & asked)}


def _rows(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a face and condition: who, in which style, and its values."""
    values = [column for column in scores if str(column).split(JUDGED_BY)[0] in KEPT]
    return scores[["condition", "style", "seen", "face", "identity", *values]]


def write_entry(folder: Path, entry: dict[str, Any], rows: pd.DataFrame, *, replace: bool = False) -> Path:
    """Write an entry and its rows into ``folder/TEST SET/``; returns the entry's path.

    Raises InputError for one that is not as the schema says, and for a name or a file that is taken, unless
    it is to be replaced: nothing is written then.
    """
    beginning = file_name(entry["name"])
    place = folder / file_name(entry["test_set"]["name"])
    path = place / f"{beginning}.json"
    text = rows.to_csv(index=False, float_format=f"%.{DIGITS}g").encode()
    packed = gzip.compress(text, mtime=0)
    file = f"{beginning}.csv.gz"
    entry = entry | {"rows": {"file": file, "sha256": _sha256(packed)}}
    check_entry(entry, str(path))
    if path.exists() and not replace:
        raise InputError(f"{path}: there is an entry of this name; take another --name, or --replace it")
    for other in read_entries(place) if place.is_dir() else ():
        if other.path != path:
            _check_comparable(entry, other.facts, str(path))
        elif other.facts["name"] != entry["name"]:
            raise InputError(f"{path}: the file of another entry, {other.facts['name']}; take another --name")
    write_whole(place / file, packed)
    write_whole(path, (json.dumps(entry, indent=1) + "\n").encode())
    return path


def _check_comparable(entry: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Raises InputError where two entries of one test set are of different ones."""
    reason = difference(entry, other)
    if reason:
        raise InputError(f"{where}: {reason}, so it cannot stand beside {other['name']}")


def difference(entry: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Why two entries cannot be ranked together; empty if they can."""
    for what, key, name in (("test_set", "sha256", "test set"), ("protocol", "metrics", "protocol")):
        one, two = str(entry[what][key]), str(other[what][key])
        if one != two:
            return f"its {name} is {one[:12]}, not {two[:12]}"
    return ""


@dataclass(frozen=True)
class EntryFile:
    """A file of an entry, read and checked."""

    path: Path
    facts: dict[str, Any]


def read_entries(folder: Path) -> list[EntryFile]:
    """The entries of a test set's folder, in the order of their names.

    Raises InputError for a file that is none, rows that are not the ones it names, and two of one name.
    """
    found: list[EntryFile] = []
    for path in sorted(folder.glob("*.json")):
        facts = read_entry(path)
        for other in found:
            if other.facts["name"] == facts["name"]:
                raise InputError(f"{path}: the name {facts['name']!r} is taken by {other.path}")
        found.append(EntryFile(path, facts))
    return found


def read_entry(path: Path) -> dict[str, Any]:
    """An entry, checked, and its rows held to their hash.

    Raises InputError that says in one line what is wrong where.
    """
    try:
        facts = json.loads(
            path.read_text(encoding="utf-8-sig"), parse_constant=_refuse, object_pairs_hook=_no_key_twice,
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable: {' '.join(str(error).split())[:160]}") from None
    check_entry(facts, str(path))
    rows = path.parent / facts["rows"]["file"]
    if not rows.is_file():
        raise InputError(f"{rows}: the rows of {path.name} are not there")
    if sha256_of(rows) != facts["rows"]["sha256"]:
        raise InputError(f"{rows}: not the rows that {path.name} names (another sha256)")
    return facts   # type: ignore[no-any-return]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise ValueError(f"the key {sorted(twice)[0]!r} stands there twice")
    return dict(pairs)


def check_entry(entry: Any, where: str) -> None:
    """Raises InputError for an entry that is not as the schema says, or whose numbers cannot be."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(entry))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        said = error.message
        if len(said) > 200:
            said = f"{said[:80]} ... {said[-80:]}"
        raise InputError(f"{where}: {place + ': ' if place else ''}{said}")
    for condition, found in entry["conditions"].items():
        for column, cell in found["scores"].items():
            _check_cell(column, cell, f"{where}: {condition}: {column}")
        for column, mean in found["styles"].items():
            _check_bounds(column, mean, f"{where}: {condition}: {column}")


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _check_cell(column: str, cell: Mapping[str, Any], where: str) -> None:
    if not cell["low"] <= cell["mean"] <= cell["high"]:
        raise InputError(
            f"{where}: the mean {cell['mean']} is not within its interval [{cell['low']}, {cell['high']}]"
        )
    for key in ("low", "mean", "high"):
        _check_bounds(column, cell[key], where)


def _check_bounds(column: str, value: float, where: str) -> None:
    low, high = BOUNDS.get(column.split()[0], (0.0, 100.0))
    if not low <= value <= high:
        raise InputError(f"{where}: {value} is impossible, expected {low:g} to {high:g}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""From results to the leaderboard: an entry's scores come from the results folder, its cost from its run.

Stages do not import each other; like ``paper.py`` this is a place where they meet.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ifrp_bench import parts
from ifrp_bench.data.format import Dataset, open_dataset
from ifrp_bench.data.runs import PLUS, Run, open_run
from ifrp_bench.data.shipped import Shipped, gone_on_from, open_shipped, shipped_names
from ifrp_bench.ground.errors import InputError
from ifrp_bench.recovery.cost import cost_of
from ifrp_bench.results.entries import Entrant, make_entry, write_entry
from ifrp_bench.results.tables import read_results

COSTS = (
    "pairs", "seen", "minutes", "machine", "gone_on_from", "parameters", "operations", "latency_ms",
    "latency_machine",
)
GIVEN = "given"   # the condition of faces that other systems recovered


def submit(
    results: Path,
    leaderboard: Path,
    entrant: Entrant,
    *,
    method: str = "",
    cost: Mapping[str, Any] | None = None,
    replace_old: bool = False,
    device: str = "cpu",
) -> Path:
    """The entry of one method of a results folder, written into a leaderboard's folder; returns its path.

    ``method`` is needed where the results have several; without a name in ``entrant`` it is called by it.
    ``cost`` is what is known beside or against what the run says. Raises InputError for anything that does
    not fit: nothing is written then.
    """
    facts = read_results(results)
    data = _open_data(facts)
    described = _choose(facts["entries"], method, results)
    run = _run_of(described)
    trained_on = entrant.trained_on if entrant.trained_on is not None else _trained_on(run, data, described)
    entrant = replace(entrant, name=entrant.name or _plain_name(described), trained_on=trained_on)
    given = {name: value for name, value in (cost or {}).items() if value is not None}
    known = dict.fromkeys(COSTS)
    if run:
        known |= _training(run, data) | cost_of(run, device, latency_ms=given.get("latency_ms"))
    training = known | given
    entry, rows = make_entry(results, described["method"], described["run"], data, entrant, training)
    return write_entry(leaderboard, entry, rows, replace=replace_old)


def _each(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries, each under one of its conditions."""
    return list({(entry["method"], entry["run"]): entry for entry in entries}.values())


def _label(entry: Mapping[str, Any]) -> str:
    own_name = entry["run"] and entry["run"] != entry["method"]
    return f"{entry['method']}/{entry['run']}" if own_name else str(entry["method"])


def _plain_name(entry: Mapping[str, Any]) -> str:
    """Of shipped weights and of other systems' faces their own name, of all others the method's."""
    own = entry["run"].removesuffix(PLUS) in shipped_names() and entry["condition"] != GIVEN
    return str(entry["run"] if own else entry["method"])


def _choose(entries: list[Any], method: str, results: Path) -> Mapping[str, Any]:
    """The entry meant. Raises InputError where it is none or not clear which."""
    among = _each(entries)
    labels = ", ".join(_label(entry) for entry in among)
    if method:
        chosen = [entry for entry in among if method == _label(entry)]
        chosen = chosen or [entry for entry in among if method == entry["method"]]
        if not chosen:
            raise InputError(f"{results}: no method {method!r} there, but {labels}")
    else:
        fixed = parts.difficulty_rows(of_sketches=True)
        chosen = [entry for entry in among if entry["method"] not in fixed]
    if len(chosen) != 1:
        raise InputError(f"{results}: has {labels}; say which with --method")
    return chosen[0]


def _open_data(facts: Mapping[str, Any]) -> Dataset:
    """The data set of results. Raises InputError where it is not there any more, or another one."""
    data = open_dataset(Path(facts["data_folder"]))
    if data.sha256 != facts["data_sha256"]:
        raise InputError(f"{data.root}: holds another data set than was evaluated; evaluate again")
    return data


def _run_of(entry: Mapping[str, Any]) -> Run | None:
    """The run whose faces an entry scores: they lie in its folder, as RUN/recovered/DATA/CONDITION."""
    if not entry["run"] or entry["condition"] == GIVEN:
        return None
    root, mirrored = Path(entry["recovered"]).parents[2], bool(entry.get("mirrored"))
    if root.name in shipped_names() and root.parent.name == "shipped":
        return replace(open_shipped(root.name), mirrored=mirrored)
    return replace(open_run(root), mirrored=mirrored)


def _trained_on(run: Run | None, data: Dataset, entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The styles that a run was trained on; none for a method that is not trained."""
    if run is not None:
        found = run.styles_trained()
        of_data = data.seen if run.info.get("data_sha256") == data.sha256 else None   # of an earlier version
        return of_data if found is None else tuple(found)
    return () if entry["condition"] != GIVEN else None


def _training(run: Run, data: Dataset) -> dict[str, Any]:
    """What a run's training took; of what it went on from, the names alone."""
    loop = run.info.get("loop", {})
    if isinstance(run, Shipped):
        hours, pairs = run.info["training"]["hours"], run.info["data"]["pairs"]
        minutes, machine = round(60 * float(hours), 2), run.info["training"]["machine"]
    else:
        pairs = data.pairs("train") or None
        minutes, machine = round(run.summary()["seconds"] / 60, 2), run.info.get("machine")
    step = run.progress("last")[0] if run.has("last") else 0
    seen = step * int(loop.get("batch_size", 0)) or None
    return {
        "pairs": pairs,
        "seen": seen,
        "minutes": minutes,
        "machine": _one_line(machine),
        "gone_on_from": [_start(before) for before in gone_on_from(run)],
    }


def _start(before: Mapping[str, Any]) -> str | None:
    """What a run went on from, in words; weights may have been shipped anew since, under the same name."""
    return _one_line(before["name"] + (" as shipped then" if before["shipped"] else ""))


def _one_line(text: Any) -> str | None:
    """Text without what an entry may not hold."""
    return re.sub(r"[<>\x00-\x1f\x7f]+", " ", str(text)).strip() if text else None

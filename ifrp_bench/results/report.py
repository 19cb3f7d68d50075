"""A results folder as one self-contained page: provenance, tables, a heat map, curves, galleries and
retrieval examples.

It reads what ``evaluate`` and ``tables`` know and the faces on disk, and writes ``report.html``, which needs
no network and opens from disk.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from ifrp_bench.data.format import Dataset, open_dataset, read_recovered
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.warp import WINDOW_PX
from ifrp_bench.metrics import JUDGED_BY
from ifrp_bench.results.judges import HIT, agreement, first_judge, further_judges, opposed
from ifrp_bench.results.plots import Plot, plots_of, robustness_plots, style_count_plots
from ifrp_bench.results.printing import cells, chances, label_of, number, spread, titles
from ifrp_bench.results.spread import curve_points, read_rows, training_style_points
from ifrp_bench.results.tables import Tables, declared_in, notes_of, read_results, read_scores, tables_of

SHOWN = 3   # worst, median and best faces of a style, each
EXAMPLES = 3   # right and wrong searches of an entry, each
TITLES = {   # of a table that is not here its name
    "table1": "Table 1: PSNR (dB) and SSIM",
    "table2": "Table 2: face retrieval (FRR, %) and consistency (FCR, %)",
    "table3": "Verification rate at a false-accept rate of 0.1 % (%)",
    "conditions": "Every method under every condition",
    "styles": "By style",
    "aligner": "The aligner's errors: degrees, part of the scale, pixels of the 107x133 window",
    "consistency": "Consistency by blocks of styles (%)",
    "residual": "Misalignment left: degrees, and pixels of the 107x133 window",
    "sets": "Distances of sets of faces",
    "left-out": "Leave one style out: each style by runs that were trained on all others",
    "seeds": "Several trainings of a method: mean, interval between faces, spread between trainings",
}


Chosen = dict[str, list[tuple[str, int]]]   # rows with a word for each, by style or entry


@dataclass(frozen=True)
class _Entry:
    """A row of the tables with its faces' folder."""

    label: str
    key: tuple[str, str, str]
    folder: Path
    trained: bool


@dataclass
class _Pictures:
    """Faces by (what, row) as data URIs; ``what`` is ``real``, ``stylized`` or an entry's label."""

    uris: dict[tuple[str, int], str] = field(default_factory=dict)

    def __call__(self, what: str, row: int) -> str:
        return self.uris.get((what, row), "")


def write_report(folder: Path, sketches: Path | None = None, tables: Tables | None = None) -> Path:
    """``report.html`` of a results folder (with the sketch columns of ``sketches``); returns its path.

    Where the data set or recovered faces are no longer at hand, the page has no galleries and says so. Raises
    InputError where there are no scores.
    """
    scores, facts = read_scores(folder), read_results(folder)
    tables = tables_of(folder, sketches) if tables is None else tables
    entries = [_entry(one) for one in facts["entries"] if one["headline"]]
    by_entry = {entry.label: _rows_of(scores, entry) for entry in entries}
    leading = next((entry for entry in reversed(entries) if entry.trained), entries[-1])
    chosen = _chosen_rows(by_entry[leading.label])
    searched = [entry.label for entry in entries if "nearest" in scores and entry.trained]
    examples = {label: _examples(by_entry[label]) for label in searched}
    doubted = {label: _doubted(by_entry[label]) for label in searched}
    doubted = {label: found for label, found in doubted.items() if found}
    pictures, problem = _load_pictures(facts, entries, by_entry, chosen, examples, doubted)
    of_sketches = read_scores(sketches) if sketches else None
    page = _template().render(
        facts=facts,
        notes=notes_of(folder),
        provenance=_provenance(facts, scores, of_sketches),
        tables=[_as_html_table(name, table) for name, table in tables.items()],
        heat=_heat_maps(folder, tables.get("styles")),
        curves=[
            *plots_of(by_entry), *style_count_plots(training_style_points(scores, facts["entries"]))
        ],
        robustness=_robustness(folder, facts["data_sha256"]),
        entries=entries,
        leading=leading.label,
        chosen=chosen,
        examples=examples,
        judges=_judges(scores),
        doubted=doubted,
        pictures=pictures,
        problem=problem,
        frame=by_entry[leading.label],
        by_entry=by_entry,
        width=WINDOW_PX[2],
        height=WINDOW_PX[3],
        own_rows=_own_rows(by_entry[leading.label]),
    )
    path = folder / "report.html"
    write_whole(path, page.encode())
    return path


def _entry(described: dict[str, Any]) -> _Entry:
    """An entry as ``results.json`` describes it."""
    key = described["method"], described["run"], described["condition"]
    return _Entry(label_of(*key), key, Path(described["recovered"]), trained=bool(described["run"]))


def _rows_of(scores: pd.DataFrame, entry: _Entry) -> pd.DataFrame:
    method, run, condition = entry.key
    return scores[
        (scores["method"] == method) & (scores["run"] == run) & (scores["condition"] == condition)
    ].reset_index(drop=True)


def _chosen_rows(frame: pd.DataFrame) -> dict[str, list[tuple[str, int]]]:
    """Of each style the worst, median and best rows of an entry by
    its first picture score, with a word for each.
    """
    by = next((column for column in ("psnr_db", "ssim", "cosine") if column in frame), None)
    chosen: dict[str, list[tuple[str, int]]] = {}
    for style, rows in frame.groupby("style", sort=False):
        order = rows.sort_values(by, kind="stable").index.tolist() if by else rows.index.tolist()
        count, middle = min(SHOWN, len(order)), max(0, (len(order) - SHOWN) // 2)
        words = [
            ("worst", order[:count]),
            ("median", order[middle : middle + count]),
            ("best", order[::-1][:count]),
        ]
        taken: set[int] = set()
        chosen[str(style)] = []
        for word, part in words:
            chosen[str(style)] += [(word, row) for row in part if row not in taken]
            taken |= set(part)
    return chosen


def _examples(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Rows whose search went right and wrong, spread over the split."""
    found = []
    for word, rows in (("right", frame.index[frame["hit_top5"]]), ("wrong", frame.index[~frame["hit_top5"]])):
        found += [(word, row) for row in _spread(rows)]
    return found


def _spread(rows: pd.Index) -> list[int]:
    """A few of the rows, spread over all of them."""
    if not len(rows):
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).astype(int))
    return [int(rows[place]) for place in places]


def _doubted(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Rows that one recogniser finds first and another not among the five nearest, with both judgements."""
    found = []
    first = first_judge(frame)
    for judge in further_judges(frame):
        other = JUDGED_BY + judge
        for yes, no, named in (("", other, (first, judge)), (other, "", (judge, first))):
            rows = frame.index[frame[HIT + yes] & ~frame["hit_top5" + no].astype(bool)]
            for row in _spread(rows):
                ranks = frame["rank" + yes][row], frame["rank" + no][row]
                found.append((f"rank {ranks[0]} by {named[0]}, {ranks[1]} by {named[1]}", row))
    return found


def _judges(scores: pd.DataFrame) -> dict[str, Any]:
    """The rows and sentences of the page's part on recognisers that disagree; empty with one of them."""
    found = agreement(scores[scores["headline"]])
    if found.empty:
        return {}
    labels = [label_of(*key) for key in zip(found["method"], found["run"], found["condition"])]
    rows = found.assign(label=labels).to_dict("records")
    return {"rows": rows, "opposed": opposed(scores[scores["headline"]])}


def _own_rows(frame: pd.DataFrame) -> dict[str, int]:
    """The first row of each face, where its real picture is asked for."""
    return {str(face): int(rows[0]) for face, rows in frame.groupby("face", sort=False).indices.items()}


def _load_pictures(
    facts: dict[str, Any],
    entries: list[_Entry],
    by_entry: dict[str, pd.DataFrame],
    chosen: Chosen,
    examples: Chosen,
    doubted: Chosen,
) -> tuple[_Pictures, str]:
    """Every face that the page shows, and what is wrong if they are not at hand."""
    data_folder = Path(facts["data_folder"])
    gallery_rows = {row for part in chosen.values() for _, row in part}
    wanted: dict[str, set[int]] = defaultdict(set)
    for what in ("real", "stylized", *(entry.label for entry in entries)):
        wanted[what] |= gallery_rows
    for label, found in examples.items():
        frame = by_entry[label]
        own = _own_rows(frame)
        for _, row in found:
            wanted[label].add(row)
            wanted["stylized"].add(row)
            wanted["real"] |= {row, *(own[face] for face in frame["nearest"][row].split("|"))}
    for label, found in doubted.items():
        for what in (label, "stylized", "real"):
            wanted[what] |= {row for _, row in found}
    try:
        data = open_dataset(data_folder)
        if data.sha256 != facts["data_sha256"]:
            return _Pictures(), f"{data_folder} holds another data set now: no faces are shown"
        return _Pictures(dict(_picked(data, facts["split"], entries, wanted))), ""
    except InputError as error:
        return _Pictures(), f"no faces are shown: {error}"


def _picked(
    data: Dataset, split: str, entries: list[_Entry], wanted: dict[str, set[int]]
) -> Iterable[tuple[tuple[str, int], str]]:
    start = 0
    for path in data.shards(split):
        shard = data.read(path)
        count = len(shard.stylized)
        for what, rows in wanted.items():
            here = sorted(row - start for row in rows if start <= row < start + count)
            if not here:
                continue
            if what in ("real", "stylized"):
                faces = shard.real[shard.real_index[here]] if what == "real" else shard.stylized[here]
            else:
                folder = next(entry.folder for entry in entries if entry.label == what)
                faces = read_recovered(folder / data.name_of(path), rows=count)[here]
            for row, face in zip(here, faces):
                yield (what, start + row), data_uri(face)
        start += count


def data_uri(face: np.ndarray) -> str:
    """uint8 (H, W, 3) as a picture inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _provenance(
    facts: dict[str, Any], scores: pd.DataFrame, sketches: pd.DataFrame | None
) -> list[tuple[str, str]]:
    people, styles = scores["identity"].nunique(), scores["style"].nunique()
    stylized = len(scores.drop_duplicates(["face", "style"]))
    tested = f"split {facts['split']}: {stylized} stylized faces of {people} people, {styles} styles"
    found = [
        ("data set", f"{facts['data']}, {tested}"),
        ("its sha256", facts["data_sha256"]),
        ("protocol", facts["protocol"]),
        ("metrics", ", ".join(facts["metrics"])),
    ]
    if facts.get("recogniser"):
        # an earlier version's results had one recogniser, and its hash beside its name
        one = {"name": facts["recogniser"], "sha256": facts.get("recogniser_sha256", "")}
        chance = f"chance of a top-5 hit {min(100.0, 500 / people):.1f} %"
        judges = facts.get("recognisers", [one])
        named = [f"{judge['name']}, sha256 {judge['sha256'][:16]}..." for judge in judges]
        found.append(("recogniser", "; ".join([*named, chance])))
    if sketches is not None:
        drawn, sha256 = sketches["identity"].nunique(), sketches.iloc[0]["data_sha256"]
        found.append(("sketches", f"{drawn} people, data set {sha256[:16]}..."))
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [*found, ("versions", versions)]


def _as_html_table(name: str, table: pd.DataFrame) -> dict[str, Any]:
    columns, rows = cells(table)
    named, chance = titles(table), chances(table)
    return {
        "name": name,
        "title": TITLES.get(name, name),
        "columns": [named[column] for column in columns],
        "rows": [(label, [_as_html_cell(cell) for cell in row]) for label, row in rows],
        "chance": [chance.get(column, "") for column in columns] if chance else [],
    }


def _as_html_cell(cell: pd.Series | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {
        "value": float(cell["mean"]),
        "text": number(cell) or "none",
        "spread": spread(cell),
        "reported": number(cell, "reported"),
        "best": bool(cell["best"]),
        "second": bool(cell["second"]),
    }


def _heat_maps(folder: Path, table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A map method x style of each score."""
    if table is None:
        return []
    labels = [column.label for metric in declared_in(folder).values() for column in metric.columns]
    maps = []
    for score in dict.fromkeys(filter(None, labels)):
        named = table["column"].str.removeprefix(f"{score} ")
        # a further recogniser's, "rank1 (dlib) candy", are a map of their own
        part = table[(named != table["column"]) & ~named.str.startswith("(")]
        if not part.empty:
            maps.append(_heat_map(score, part))
    return maps


def _heat_map(score: str, part: pd.DataFrame) -> dict[str, Any]:
    """A cell's colour goes from the lowest to the highest value of the map."""
    columns, rows = cells(part)
    low, high = part["mean"].min(), part["mean"].max()

    def shown(cell: pd.Series | None) -> tuple[str, tuple[str, str]] | None:
        if cell is None:
            return None
        return number(cell), _heat_colour((cell["mean"] - low) / max(high - low, 1e-9))

    return {
        "score": score.upper(),
        "styles": [column.removeprefix(f"{score} ") for column in columns],
        "rows": [(label, [shown(cell) for cell in row]) for label, row in rows],
    }


def _heat_colour(part: float) -> tuple[str, str]:
    """Background and text colour of a share in [0, 1]: dark violet to
    light yellow, text with a contrast of at least 4.5.
    """
    stops = np.array(
        [[38, 20, 71], [110, 36, 110], [190, 62, 84], [238, 130, 60], [250, 222, 140]], dtype=float
    )
    place = float(np.clip(np.nan_to_num(part), 0, 1)) * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    colour = stops[low] + (stops[low + 1] - stops[low]) * (place - low)
    linear = np.where(colour / 255 <= 0.04045, colour / 255 / 12.92, ((colour / 255 + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "rgb({:.0f} {:.0f} {:.0f})".format(*colour), "#000" if luminance > 0.179 else "#fff"


def _robustness(folder: Path, data_sha256: str) -> list[Plot]:
    """Scores along the robustness curves; none where there are no curves of this data set."""
    if not (folder / "curves.csv").is_file():
        return []
    rows = read_rows(folder / "curves.csv")
    return robustness_plots(curve_points(rows)) if set(rows["data_sha256"]) == {data_sha256} else []


def _template() -> jinja2.Template:
    source = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(source)

"""The page of a folder of portraits: what was counted, and every portrait beside what came back of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from ifrp_bench.ground.files import write_whole
from ifrp_bench.results.report import data_uri


def write_page(
    path: Path,
    summary: Mapping[str, Any],
    files: Sequence[str],
    pictures: Mapping[str, Sequence[np.ndarray]],
    table: pd.DataFrame,
) -> Path:
    """One file without network. ``pictures`` are faces by run, in the order of ``files``; the run ``""`` is
    the portrait itself. Returns the path.
    """
    found = {(row["run"], row["file"]): bool(pd.notna(row["found_after"])) for _, row in table.iterrows()}
    rows = []
    for number, file in enumerate(files):
        cells = [(data_uri(faces[number]), found[run, file]) for run, faces in pictures.items()]
        rows.append((file, cells))
    source = (Path(__file__).parent / "gallery.html").read_text(encoding="utf-8")
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(source)
    kid = any(run["kid"] is not None for run in summary["runs"])
    page = template.render(summary=summary, runs=list(pictures), rows=rows, kid=kid)
    write_whole(path, page.encode())
    return path

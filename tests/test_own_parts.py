"""Parts of one's own: the worked examples of docs/own-parts.md are these files.

And a part is one file, whatever its kind.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ifrp_bench import parts
from ifrp_bench.data.catalog import catalogue
from ifrp_bench.ground.errors import InputError
from tests.conftest import run

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"


def test_a_method_of_ones_own_is_trained_evaluated_and_tabled(tiny, tmp_path):
    method = EXAMPLES / "colours.py"
    assert len(method.read_text().splitlines()) < 60
    short = ("--set", "steps=40", "--set", "batch_size=8")
    run("train", "--method", method, "--data", tiny, *short, "--out", tmp_path / "mine", "--quiet")
    conditions = ("--condition", "raw", "--condition", "oracle")
    run("eval", tmp_path / "mine", "--data", tiny, *conditions, "--out", tmp_path / "out", "--quiet")
    frame = pd.read_csv(tmp_path / "out" / "scores.csv", keep_default_na=False)
    upright = frame[frame["condition"] == "oracle"].groupby("method")["psnr_db"].mean()
    assert upright["colours"] > upright["copy"] + 0.5
    assert frame[(frame["method"] == "colours") & frame["headline"]]["condition"].unique().tolist() == [
        "oracle"
    ]


def test_a_metric_of_ones_own_stands_in_scores_tables_heat_maps_and_report(tiny, tmp_path):
    metrics = f"psnr,{EXAMPLES / 'contrast.py'}"
    run("eval", "--data", tiny, "--metrics", metrics, "--out", tmp_path / "out", "--quiet")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    of_mean = scores[scores["method"] == "mean-face"]["contrast_error_levels"]
    assert of_mean.gt(5).any() and scores["contrast_error_levels"].notna().all()
    tables = tmp_path / "out" / "tables"
    assert "contrast error seen" in (tables / "conditions.md").read_text()
    assert "contrast error udnie" in (tables / "styles.md").read_text()
    best = pd.read_csv(tables / "conditions.csv").query("column == 'contrast error seen'").set_index("method")
    assert best.loc[best["mean"].idxmin(), "best"] and best["lower"].all()   # less is better
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("CONTRAST ERROR") >= 1
    run("report", tmp_path / "out")   # without the metric's file the results say what its columns are
    assert (tmp_path / "out" / "report.html").read_text() == page


def test_a_source_of_ones_own_becomes_pairs_over_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    hashes = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        run("synth", EXAMPLES / "gradients.toml", "--out", out, "--workers", workers, "--quiet")
        hashes.append([path.read_bytes() for path in sorted(out.glob("*.h5"))])
    assert hashes[0] == hashes[1] and len(hashes[0]) == 3
    assert "rendered again and equal" in run("verify", tmp_path / "0", "--quiet")


@pytest.mark.parametrize("text, word", [
    ("1 / 0\n", "ZeroDivisionError"), ("METRIC = 3\n", "METRIC is int"), ("", "METRIC is missing"),
])
def test_a_metrics_file_that_is_wrong_says_where(tiny, tmp_path, text, word):
    (tmp_path / "mine.py").write_text(text)
    printed = run(
        "eval", "--data", tiny, "--metrics", tmp_path / "mine.py", "--out", tmp_path / "out", exit_code=1
    )
    assert word in printed and "mine.py" in printed and not (tmp_path / "out" / "scores.csv").exists()


def test_columns_that_are_not_declared_are_named(tiny, tmp_path):
    text = (EXAMPLES / "contrast.py").read_text().replace('return {"contrast', 'return {"other')
    (tmp_path / "mine.py").write_text(text)
    printed = run(
        "eval", "--data", tiny, "--metrics", tmp_path / "mine.py", "--out", tmp_path / "out", exit_code=1
    )
    assert "returns other_error_levels, its declaration says contrast_error_levels" in printed


def test_a_file_with_future_annotations_is_a_part_too(tmp_path):
    text = (EXAMPLES / "colours.py").read_text()
    quoted = text.index('from dataclasses')
    (tmp_path / "later.py").write_text(
        text[:quoted] + "from __future__ import annotations\n\n" + text[quoted:]
    )
    assert parts.trainable(str(tmp_path / "later.py")).method.config().learning_rate == 0.05


def test_unknown_parts_are_named_with_the_nearest():
    for find, word in ((parts.trainable, "ifrp"), (parts.metric, "psnr"), (parts.source, "folder")):
        with pytest.raises(InputError, match=f"did you mean {word}"):
            find(word[:-1] + "x" if word != "psnr" else "pnsr")


NEW_PARTS = {
    "ifrp_bench/methods/brighter.py": (
        '''
        """The stylized face, a little brighter: a new method in one file."""
        from dataclasses import dataclass
        from ifrp_bench.methods import Fixed, Method

        @dataclass(frozen=True)
        class Config:
            """How much."""
            levels: float = 0.1

        def build(config, setup):
            """The method."""
            return Fixed(lambda faces: (faces + config.levels).clamp(0, 1))

        METHOD = Method(Config, build, use="fixed")
        '''
    ),
    "ifrp_bench/metrics/darkness.py": (
        '''
        """How dark a face is: a new metric in one file."""
        from ifrp_bench.metrics import Column, Metric

        def score(recovered, real):
            """A value a face."""
            return {"darkness": 255.0 - recovered.mean(axis=(1, 2, 3))}

        METRIC = Metric("picture", (Column("darkness", "darkness", lower=True),), score=score)
        '''
    ),
    "ifrp_bench/sources/grey.py": (
        '''
        """Grey ramps: a new source in one file."""
        from docs.examples.gradients import Gradients
        from ifrp_bench.sources import Source

        SOURCE = Source(lambda request: Gradients(people=9))
        '''
    ),
    "manifests/grey.toml": (
        """
        description = "A new recipe in one file."
        source = "grey"
        train_faces = 2
        val_faces = 1
        test_faces = 2
        stylize_px = 128
        train_styles = "candy"
        test_styles = "candy, twin"
        """
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the tree with one file more for each kind of part, and a style's folder."""
    import textwrap

    root = tmp_path_factory.mktemp("copy")
    for name in ("ifrp_bench", "styles", "manifests", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW_PARTS.items():
        (root / name).write_text(textwrap.dedent(text).lstrip())
    shutil.copytree(root / "styles" / "candy", root / "styles" / "twin")
    return root


def in_copy(root: Path, *words: object) -> str:
    """What the copy's command line prints."""
    command = [sys.executable, "-m", "ifrp_bench", *map(str, words)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_part_is_added_by_one_file(copy, tmp_path):
    """A new method, metric, source, style and recipe appear in list,
    help, tables and report without another edit.
    """
    there = json.loads(in_copy(copy, "list", "--json"))
    before = dict(catalogue())
    added = {
        kind: {row["name"] for row in rows} - {row["name"] for row in before[kind]}
        for kind, rows in there.items()
        if kind != "weights"   # those are of the package alone
    }
    assert added == {
        "methods": {"brighter"},
        "metrics": {"darkness"},
        "sources": {"grey"},
        "styles": {"twin"},
        "recipes": {"grey"},
    }
    assert "darkness" in in_copy(copy, "eval", "--help")
    in_copy(copy, "synth", "grey", "--out", tmp_path / "data", "--workers", 0, "--quiet")
    in_copy(copy, "verify", tmp_path / "data", "--quiet")
    in_copy(
        copy,
        "eval",
        "--data",
        tmp_path / "data",
        "--metrics",
        "psnr,darkness",
        "--out",
        tmp_path / "out",
        "--quiet",
    )
    table = (tmp_path / "out" / "tables" / "conditions.md").read_text()
    assert "brighter (raw)" in table and "darkness seen" in table
    styles = (tmp_path / "out" / "tables" / "styles.md").read_text()
    assert "darkness twin" in styles
    assert "brighter" in (tmp_path / "out" / "report.html").read_text()

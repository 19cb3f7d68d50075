"""What the code makes from fixed small inputs is what it made before: hashes written by
``benchmarks/golden.py``.

Pixels are compared on the kind of machine that the hashes are of; who is drawn, and how each face is turned,
everywhere. Here it is rendered faces; photographs and CelebA's layout are compared by `python -m
benchmarks.golden --work DIR --compare tests/golden.json`, in ten minutes.
"""

import json
from pathlib import Path

import torch

from benchmarks import golden
from tests.conftest import run

KNOWN = json.loads((Path(__file__).parent / "golden.json").read_text())


def test_the_rendered_data_set_is_what_it_was(tmp_path):
    run("synth", "demo", *golden.sets(golden.TINY), "--out", tmp_path / "data", "--workers", 0, "--quiet")
    made = golden.shards(tmp_path / "data")
    assert made["manifest.csv"] == KNOWN["data"]["data"]["manifest.csv"]
    there = KNOWN["machine"].rsplit(",", 1)[0]
    if there == f"{torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}":
        assert made == KNOWN["data"]["data"]


def test_differences_are_named_by_their_place():
    other = json.loads(json.dumps(KNOWN))
    other["data"]["photos"]["manifest.csv"] = "0"
    assert golden.differences(KNOWN, KNOWN) == []
    found, = golden.differences(KNOWN, other)
    assert found.startswith("/data/photos/manifest.csv: ") and found.endswith("0 here")

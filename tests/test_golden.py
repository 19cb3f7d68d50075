"""What the code makes from fixed small inputs is what it made before: hashes written by
``benchmarks/golden.py``.

Pixels and weights are compared on the kind of machine that the hashes are of; who is drawn, and how each face
is turned, everywhere. All of the hashes are compared by `python -m benchmarks.golden --work DIR --compare
tests/golden.json`, in ten minutes.
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
    other["runs"]["pix2pix"]["whole"] = "0"
    assert golden.differences(KNOWN, KNOWN) == []
    found, = golden.differences(KNOWN, other)
    assert found.startswith("/runs/pix2pix/whole: ") and found.endswith("0 here")

"""What an earlier version made is verified, resumed, evaluated and
printed: the files in ``tests/old``, whose README says how.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ifrp_bench.data.runs import open_run
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.nets import winograd
from ifrp_bench.shards import open_dataset
from tests.conftest import run, sets

OLD = Path(__file__).parent / "old"
WHOLE_SHA256 = "cff6198021a7a4515517ae2fd072cb29cf78295ba7de9b879b1e3190c32c271c"   # of the uninterrupted run


@pytest.fixture()
def old(tmp_path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_data_set_is_read_and_verified(old):
    data = open_dataset(old / "set")
    shard = data.read(data.shards("test")[0])
    assert (
        data.seen == ("candy", "feathers")
        and data.pairs("test") == 6
        and shard.upright().shape == (6, 128, 128, 3)
    )
    assert "good (3 shards" in run("verify", old / "set", "--quiet")


def test_a_killed_run_is_resumed_to_the_weights_of_an_uninterrupted_one(old, monkeypatch):
    """By the convolutions that it was begun with: minimal filtering came later, and rounds otherwise."""
    monkeypatch.setattr(winograd, "pays", lambda *_: False)
    before = open_run(old / "half")
    assert before.progress("last") == (1, 4)   # killed between its tensors and their JSON
    run("train", "--resume", "--data", old / "set", "--out", old / "half", "--quiet")
    assert open_run(old / "half").finished()
    if before.info["machine"] == fingerprint("cpu"):
        assert sha256_of(old / "half" / "last-4.safetensors") == WHOLE_SHA256


def test_the_same_command_resumes_it_too(old):
    settings = {
        "steps": 4,
        "batch_size": 2,
        "validations": 1,
        "width": 4,
        "ema": 0.5,
        "checkpoint_seconds": 0,
    }
    words = (
        "train",
        "--method",
        "johnson",
        "--preset",
        "smoke",
        *sets(**settings),
        "--data",
        old / "set",
        "--out",
        old / "half",
    )
    run(*words, "--quiet")
    assert open_run(old / "half").finished()


def test_faces_that_a_method_without_training_recovered_are_kept(old):
    shards = sorted((old / "gatys" / "recovered").rglob("*.h5"))
    stamps = [path.stat().st_mtime_ns for path in shards]
    run("destylize", old / "gatys", "--split", "test", "--data", old / "set", "--quiet")
    assert len(shards) == 1 and [path.stat().st_mtime_ns for path in shards] == stamps


def test_runs_are_evaluated(old):
    run(
        "eval",
        old / "half",
        old / "gatys",
        "--data",
        old / "set",
        "--metrics",
        "psnr",
        "--out",
        old / "out",
        "--quiet",
    )
    found = pd.read_csv(old / "out" / "scores.csv").set_index("method")["psnr_db"]
    known = pd.read_csv(old / "scores" / "scores.csv", keep_default_na=False)
    known = known[known["condition"] == "raw"].set_index("method")["psnr_db"]
    for method in ("copy", "mean-face", "gatys"):
        assert found[method].tolist() == pytest.approx(known[method].tolist())
    note = next(
        entry["note"]
        for entry in json.loads((old / "out" / "results.json").read_text())["entries"]
        if entry["run"] == "half"
    )
    assert note.startswith("stands at step 1 of 4")


def test_every_number_of_old_results_is_printed_again(old):
    """Tables may gain columns and a row of chance; what stood there stands there still."""
    folder = old / "scores" / "tables"
    before = {path.name: pd.read_csv(path) for path in folder.glob("*.csv")}
    run("report", old / "scores")
    assert before
    for name, table in before.items():
        again = pd.read_csv(folder / name)
        key = ["method"] if name.endswith("-printed.csv") else ["method", "run", "condition", "column"]
        kept = again.merge(table[key], on=key)[list(table)]
        pd.testing.assert_frame_equal(kept, table, check_dtype=False)

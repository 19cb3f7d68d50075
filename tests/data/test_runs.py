"""Run folders: checkpoints come back as they were, and a bad one is one clear line."""

import json

import pytest
import torch

from ifrp_bench.data.runs import RunError, open_run, start_run
from ifrp_bench.ground.errors import InputError

INFO = {
    "method": "ifrp",
    "config": {"network": "srn-3stn"},
    "loop": {"steps": 10, "seed": 0},
    "data": "demo",
    "data_sha256": "a" * 64,
}
STATE = {
    "step": 3,
    "best_db": -float("inf"),
    "averaged": False,
    "method": {
        "networks": {"srn": {"weight": torch.arange(6.0).view(2, 3)}},
        "optimizers": {"srn": {0: {"step": torch.tensor(3.0)}}},
        "pool": [torch.ones(2), 5],
    },
}


@pytest.fixture()
def run(tmp_path):
    run = start_run(tmp_path / "run", INFO)
    run.save("last", STATE)
    return run


def test_a_checkpoint_comes_back_as_it_was(run):
    state = run.load("last")
    assert (
        state["method"]["optimizers"]["srn"][0]["step"] == 3
        and state["best_db"] == -float("inf")
        and state["averaged"] is False
    )
    assert torch.equal(
        state["method"]["networks"]["srn"]["weight"], STATE["method"]["networks"]["srn"]["weight"]
    )
    assert state["method"]["pool"][1] == 5 and torch.equal(state["method"]["pool"][0], torch.ones(2))


def test_no_pickle_is_written(run):
    assert {path.suffix for path in run.root.iterdir()} == {".json", ".safetensors"}


def test_the_checkpoint_before_is_removed_when_the_next_is_whole(run):
    run.save("last", STATE | {"step": 4})
    assert [path.name for path in run.root.glob("*.safetensors")] == ["last-4.safetensors"]
    assert run.load("last")["step"] == 4


def test_a_kill_between_tensors_and_their_json_leaves_the_checkpoint_before(run):
    facts = (run.root / "last.json").read_text()
    run.save("last", STATE | {"step": 4})
    run.save("last", STATE)
    (run.root / "last-4.safetensors").write_bytes(b"half")
    assert (run.root / "last.json").read_text() == facts
    assert run.load("last")["step"] == 3


def damage(run, how):
    tensors = next(run.root.glob("*.safetensors"))
    facts = json.loads((run.root / "last.json").read_text())
    if how == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-4])
    elif how == "no tensors":
        tensors.unlink()
    elif how == "json cut":
        (run.root / "last.json").write_text(json.dumps(facts)[:40])
    elif how == "json list":
        (run.root / "last.json").write_text("[1]")
    else:
        changed = {
            "schema": {"schema": 99},
            "method": {"method": "johnson"},
            "missing": {"state": {"x": {"@": "nowhere"}}},
        }[how]
        (run.root / "last.json").write_text(json.dumps(facts | changed))


@pytest.mark.parametrize(
    "how, word",
    [
        ("truncated", "sha256"),
        ("no tensors", "no such weight file"),
        ("json cut", "not readable"),
        ("json list", "schema version None"),
        ("schema", "schema version 99"),
        ("method", "of the method 'johnson'"),
        ("missing", "'nowhere' is missing"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_line(run, how, word):
    damage(run, how)
    with pytest.raises(InputError, match=word) as caught:
        run.load("last")
    assert "\n" not in str(caught.value) and str(run.root) in str(caught.value)


def test_values_that_are_not_finite_are_not_saved_and_not_loaded(run):
    bad = STATE | {"method": {"weight": torch.tensor([1.0, float("nan")])}}
    with pytest.raises(RunError, match="not finite at step 3"):
        run.save("last", bad)
    assert run.load("last")["step"] == 3
    from ifrp_bench.ground.files import sha256_of
    from ifrp_bench.ground.weights import save_state

    path = run.root / "last-3.safetensors"
    save_state(path, {"weight": torch.tensor([float("inf")])})
    facts = json.loads((run.root / "last.json").read_text())
    (run.root / "last.json").write_text(
        json.dumps(facts | {"sha256": sha256_of(path), "state": {"weight": {"@": "weight"}}})
    )
    with pytest.raises(RunError, match="weight is not finite"):
        run.load("last")


@pytest.mark.parametrize(
    "change, word",
    [
        ({"data_sha256": "b" * 64}, "data_sha256 is aaaaaaaaaaaa... there, bbbbbbbbbbbb... here"),
        ({"loop": {"steps": 20, "seed": 0}}, "steps is 10 there, 20 here"),
        ({"method": "srn"}, "method is 'ifrp' there, 'srn' here"),
    ],
)
def test_another_run_in_the_folder_is_refused_by_its_first_difference(run, change, word):
    with pytest.raises(RunError, match=word):
        start_run(run.root, INFO | change)
    assert start_run(run.root, INFO).info == run.info


def test_a_run_without_a_checkpoint_gives_way(tmp_path):
    """Begun with a mistake, it does not stand in the way of the same command without it."""
    start_run(tmp_path / "run", INFO).log(step=1)
    run = start_run(tmp_path / "run", INFO | {"method": "srn"})
    assert open_run(run.root).method == "srn" and run.read_log() == []


def test_no_run_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="ifrp-bench train --out"):
        open_run(tmp_path)
    with pytest.raises(RunError, match="no checkpoint 'best'"):
        start_run(tmp_path / "new", INFO).load("best")


def test_a_log_cut_by_a_kill_is_read_and_mended(run):
    for step in (1, 2, 3, 4):
        run.log(step=step, pixel=0.1)
    with (run.root / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "pix')
    assert [facts["step"] for facts in run.read_log()] == [1, 2, 3, 4]
    run.forget_after(3)
    assert [facts["step"] for facts in run.read_log()] == [1, 2, 3]

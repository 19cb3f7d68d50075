"""Shipped weights: a run by its name, checked, read without running code, never tested on people they know.
"""

import json
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from ifrp_bench.cli.training import train
from ifrp_bench.data import shipped
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.runs import RunError, open_run
from ifrp_bench.data.shipped import check_unseen, find_run, open_shipped, people_of, shipped_names
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import parse_settings
from ifrp_bench.ground.weights import load_state
from ifrp_bench.making.weights import ASIDE, ship
from ifrp_bench.recovery.trained import load_trained, recover, recovering_network
from ifrp_bench.training.resolve import resolve, resume
from tests.conftest import TINY, run, sets


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Weights of a run of four steps, shipped under the name ``blurred``."""
    root = tmp_path_factory.mktemp("weights")
    run(
        "train", "--method", "srn", "--data", tiny, "--out", root / "run", "--preset", "smoke",
        *sets(steps=4, batch_size=4, validations=1, ema=0.5), "--quiet",
    )
    return ship(
        open_run(root / "run"), tiny, "blurred", title="Four steps", limits="all of it", out=root / "weights"
    )


@pytest.fixture()
def named(folder, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", folder.parent)
    return "blurred"


def test_a_card_says_what_is_needed_to_judge_the_weights(folder):
    card = tomllib.loads((folder / "card.toml").read_text())
    assert (card["method"], card["title"], card["licence"]) == ("srn", "Four steps", "MIT") and card["limits"]
    assert card["data"]["faces"] == 6 and card["data"]["people"] == 2 and card["training"]["steps"] == 4
    assert card["training"]["command"].startswith("ifrp-bench train --method srn --data data/")
    assert "--set steps=4" in card["training"]["command"] and card["training"]["machine"]
    assert "--preset smoke" in card["training"]["command"]


@pytest.mark.parametrize("name", shipped_names())
def test_the_command_on_a_card_is_of_the_training_that_it_tells_of(name):
    """Whatever the presets have become since, and whatever device it is run on."""
    run = find_run(Path(name))
    context = train.make_context("train", shlex.split(run.info["training"]["command"])[2:])
    said, begun = context.params, resume(run).settings()
    job = resolve(said["method"], said["preset"], parse_settings(said["settings"]), seed=said["seed"])
    told = job.settings()
    assert said["preset"] and told["config"] == begun["config"]
    aside = {*ASIDE, "init"}   # where it is and how it is called is of no weight
    assert {key: value for key, value in told["loop"].items() if key not in aside} == {
        key: value for key, value in begun["loop"].items() if key not in aside
    }


def test_weights_are_the_runs_to_half_precision(folder, named):
    there = open_run(folder.parent.parent / "run").load("last")
    wanted = there["ema"] if there["averaged"] else there["method"]["networks"]["srn"]
    found = open_shipped(named).load("last")["weights"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.allclose(found[name], value, rtol=1e-3, atol=1e-5)


def test_weights_of_a_method_that_grew_recover_what_the_run_does(folder, named, frames):
    faces = np.ascontiguousarray(frames[:2, 40:168, 25:153])
    there = load_trained(open_run(folder.parent.parent / "run"))
    here = load_trained(open_shipped(named))
    wanted, got = (recover(trained.method, faces).astype(int) for trained in (there, here))
    assert np.abs(wanted - got).mean() < 1   # halves of floats


def test_a_name_is_found_and_an_unknown_one_is_one_line(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_names() == [named] and find_run(shipped.Path(named)).method == "srn"
    with pytest.raises(RunError, match="nobody: no such folder of a run, and none of the weights .* blurred"):
        find_run(shipped.Path("nobody"))


def test_weights_that_were_changed_are_refused(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "blurred")
    data = bytearray((tmp_path / "blurred" / "net.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "blurred" / "net.safetensors").write_bytes(data)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="its sha256 is"):
        open_shipped("blurred").load("last")


def test_people_who_were_trained_on_are_known_and_others_are_not(named, tiny, tmp_path):
    weights, data = open_shipped(named), open_dataset(tiny)
    assert len(weights.knows(people_of(data, "train"))) == 2
    check_unseen(weights, data, "test")
    with pytest.raises(InputError, match="blurred: 2 of the 2 people in the train split .* were trained on"):
        check_unseen(weights, data, "train")

    # the same names of another seed are other people
    info = json.loads((tiny / "dataset.json").read_text())
    shutil.copy(tiny / "manifest.csv", tmp_path)
    info["recipe"]["seed"] += 1
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    assert weights.knows(people_of(open_dataset(tmp_path), "train")) == []


def test_eval_takes_weights_by_name_and_refuses_people_that_they_know(named, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run(
        "eval", named, "--data", tiny, "--metrics", "psnr", "--out", tmp_path / "results", "--quiet"
    )
    assert "srn" in printed
    # what was made is kept beside the user's runs, not in the package
    assert list((tmp_path / "runs" / "shipped" / named / "recovered").rglob("*.h5"))

    # its people under other names of splits: whoever was trained on is tested
    turned = tmp_path / "turned"
    run("synth", "demo", *TINY, *sets(seed=5), "--out", turned, "--workers", 0, "--quiet")
    info = json.loads((turned / "dataset.json").read_text())
    info["recipe"]["seed"] = open_dataset(tiny).info["recipe"]["seed"]
    (turned / "dataset.json").write_text(json.dumps(info))
    lines = (turned / "manifest.csv").read_text().splitlines()
    known = next(iter(people_of(open_dataset(tiny), "train"))).rpartition(" ")[2]
    fields = [line.split(",") for line in lines]
    named_again = [row[:4] + [known] + row[5:] if row[0] == "test" else row for row in fields]
    (turned / "manifest.csv").write_text("".join(",".join(row) + "\n" for row in named_again))
    printed = run("eval", named, "--data", turned, "--metrics", "psnr", "--quiet", exit_code=1)
    assert "were trained on" in printed and len(printed.splitlines()) == 1


def test_list_says_what_weights_were_trained_on(named):
    rows = json.loads(run("list", "--json"))["weights"]
    assert [row["name"] for row in rows] == [named] and "2 people" in rows[0]["description"]


def test_a_training_starts_from_weights(named, folder, tiny, tmp_path):
    words = ("train", "--method", "srn", "--data", tiny, "--preset", "smoke", "--quiet")
    short = (
        "--seed", 1, *sets(steps=1, batch_size=4, validations=1, learning_rate=1e-12, warm_up="false")
    )
    for start, close in ((named, True), (folder.parent.parent / "run", True), ("", False)):
        out = tmp_path / f"from {str(start)[-3:]}"
        run(*words, "--out", out, *short, "--set", f"init={start}")
        weights = open_run(out).load("last")["method"]["networks"]["srn"]
        apart = [
            float((weights[name] - value).abs().max())
            for name, value in open_shipped(named).load("last")["weights"].items()
            if name.endswith("weight") and value.ndim == 4
        ]
        assert (max(apart) < 1e-2) == close
    other = sets(network="srn-4stn", init=named)
    printed = run(*words, "--out", tmp_path / "x", *short, *other, exit_code=1)
    assert "do not fit" in printed and "network=srn-3stn" in printed


def test_the_shipped_weights_start_a_training_as_the_docs_say(tiny, tmp_path):
    words = ("train", "--method", "align-restore", "--data", tiny, "--preset", "cpu", "--quiet")
    short = sets(steps=1, batch_size=2, validations=1, init="portraits")
    assert "looks=1" in run(*words, "--out", tmp_path / "two", *short, exit_code=1)
    run(*words, "--out", tmp_path / "one", *short, *sets(looks=1))


def test_only_finished_runs_are_shipped(folder, tiny, tmp_path):
    shutil.copytree(folder.parent.parent / "run", tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "last.json").read_text())
    facts["state"]["steps"] = 9
    (tmp_path / "run" / "last.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not finished"):
        ship(open_run(tmp_path / "run"), tiny, "x", title="", limits="", out=tmp_path)


def test_a_run_that_started_from_others_knows_their_people_too(named, folder, tiny, tmp_path):
    """From shipped weights by itself; from a run, its data set has to be named."""
    other = tmp_path / "other"
    run("synth", "demo", *TINY, *sets(seed=9), "--out", other, "--workers", 0, "--quiet")
    words = ("train", "--method", "srn", "--data", other, "--preset", "smoke", "--quiet")
    short = sets(steps=1, batch_size=2, validations=1)
    for start, also in ((named, ()), (folder.parent.parent / "run", (tiny,))):
        out = tmp_path / f"after {Path(start).name}"
        run(*words, "--out", out, *short, "--set", f"init={start}")
        made = ship(open_run(out), other, "x", title="", limits="", also=also, out=tmp_path / "made")
        assert len(np.load(made / "people.npy")) == 4
        card = tomllib.loads((made / "card.toml").read_text())
        assert card["loop"]["init"] == Path(start).name
        assert str(tmp_path) not in (made / "card.toml").read_text()
    with pytest.raises(InputError, match="name that data set with --also"):
        ship(open_run(out), other, "x", title="", limits="", out=tmp_path / "made")


def test_the_mean_of_a_run_and_of_what_it_started_from_is_shipped(named, folder, tiny, tmp_path):
    begun = folder.parent.parent / "run"
    short = sets(steps=1, batch_size=4, validations=1, init=named)
    run(
        "train", "--method", "srn", "--data", tiny, "--preset", "smoke", "--quiet",
        "--out", tmp_path / "run", *short,
    )
    after = open_run(tmp_path / "run")
    made = ship(after, tiny, "x", title="", limits="", mean=True, out=tmp_path)
    assert tomllib.loads((made / "card.toml").read_text())["training"]["mean_with"] == named
    network = recovering_network(after)
    before = open_shipped(named).weights(network)
    for name, value in load_state(made / "net.safetensors").items():
        if value.is_floating_point():
            mean = (before[name] + network.state_dict()[name]) / 2
            assert torch.allclose(value.float(), mean, rtol=2e-3, atol=1e-6)
    with pytest.raises(InputError, match="run: started from no weights"):
        ship(open_run(begun), tiny, "y", title="", limits="", mean=True, out=tmp_path)


def _swapped(data: Path, out: Path, split: str) -> Path:
    """The data set, by whose list the people of training and of another split have changed places."""
    shutil.copytree(data, out)
    names = {"train": split, split: "train"}
    lines = [line.partition(",") for line in (data / "manifest.csv").read_text().splitlines()]
    (out / "manifest.csv").write_text(
        "".join(f"{names.get(first, first)},{rest}\n" for first, _, rest in lines)
    )
    return out


def test_a_run_is_not_tested_on_whom_its_start_was_trained_on(named, folder, tiny, tmp_path):
    words = ("train", "--method", "srn", "--preset", "smoke", "--quiet")
    short = sets(steps=1, batch_size=2, validations=1)

    # from shipped weights, which say whom they know; the word about validation is of the same people
    tested, validated = (_swapped(tiny, tmp_path / split, split) for split in ("test", "val"))
    said = "init=blurred: 2 of the 2 people of the val split were trained on"
    for data, expected in ((validated, True), (tiny, False)):
        out = tmp_path / f"on {data.name}"
        printed = run(*words, "--data", data, "--out", out, *short, "--set", f"init={named}")
        assert (said in printed) == expected
    check_unseen(open_run(out), open_dataset(tiny))
    with pytest.raises(InputError, match="it went on from blurred: 2 of the 2 people in the test split"):
        check_unseen(open_run(out), open_dataset(tested))

    # from a run of a run on other faces, told when both are gone
    other = tmp_path / "other"
    run("synth", "demo", *TINY, *sets(seed=9), "--out", other, "--workers", 0, "--quiet")
    begun = Path(shutil.copytree(folder.parent.parent / "run", tmp_path / "begun"))
    for before, after in ((begun, tmp_path / "second"), (tmp_path / "second", tmp_path / "third")):
        run(*words, "--data", other, "--out", after, *short, "--set", f"init={before}")
        shutil.rmtree(before)
    with pytest.raises(InputError, match="third: it went on from begun: trained on another data set"):
        check_unseen(open_run(after), open_dataset(other))
    run(*words, "--data", other, "--out", after, *short, "--set", f"init={before}")   # resumed without it


def test_a_set_for_testing_alone_is_refused_where_the_run_knows_its_people(photographs, tmp_path):
    """Four photographed people, of whom two are trained on in one data set and all are to be tested on in
    another.
    """
    words = ("synth", "photos", "--faces", photographs, "--workers", 0, "--quiet", *sets(stylize_px=128))
    own, all_of_them = tmp_path / "own", tmp_path / "all"
    run(*words, "--out", own, *sets(train_faces=2, val_faces=1, test_faces=1, faces_per_identity=1))
    run(*words, "--out", all_of_them, *sets(train_faces=0, val_faces=0, test_faces=4))
    run(
        "train", "--method", "srn", "--preset", "smoke", "--quiet", "--data", own, "--out", tmp_path / "run",
        *sets(steps=1, batch_size=2, validations=1),
    )
    check_unseen(open_run(tmp_path / "run"), open_dataset(own))
    with pytest.raises(InputError, match="run: 2 of the 4 people in the test split of .*all were trained on"):
        check_unseen(open_run(tmp_path / "run"), open_dataset(all_of_them))

    # rendered people are others
    rendered = tmp_path / "rendered"
    tests = sets(train_faces=0, val_faces=0)
    run("synth", "demo", *TINY, *tests, "--out", rendered, "--workers", 0, "--quiet")
    check_unseen(open_run(tmp_path / "run"), open_dataset(rendered))


def test_a_run_that_went_on_has_seen_the_styles_of_both(named, tiny, tmp_path):
    other = tmp_path / "other"
    styles = sets(seed=9, train_styles="udnie")
    run("synth", "demo", *TINY, *styles, "--out", other, "--workers", 0, "--quiet")
    words = ("train", "--method", "srn", "--preset", "smoke", "--quiet")
    short = sets(steps=1, batch_size=2, validations=1, init=named)
    run(*words, "--data", other, "--out", tmp_path / "run", *short)
    assert set(open_run(tmp_path / "run").styles_trained()) == {"the_scream", "candy", "feathers", "udnie"}

    # and the tables say that some of them stand as unseen
    printed = run(
        "eval", tmp_path / "run", "--data", other, "--metrics", "psnr", "--out", tmp_path / "out", "--quiet"
    )
    assert "srn run: was trained on the_scream, candy, feathers, too, which stand as unseen." in printed


def test_people_are_told_apart_as_their_source_does(tiny, tmp_path):
    """A rendered person or one of CelebA has several pictures, whose names do not say whose they are."""
    data = open_dataset(tiny)
    assert people_of(data, "train") == {"procedural 0: 0", "procedural 0: 4"}
    shutil.copytree(tiny, tmp_path / "celeba")
    info = json.loads((tiny / "dataset.json").read_text())
    info["recipe"]["source"], info["faces"] = "celeba", "/CelebA"
    (tmp_path / "celeba" / "dataset.json").write_text(json.dumps(info))
    assert people_of(open_dataset(tmp_path / "celeba"), "train") == {"celeba: 0", "celeba: 4"}


def test_what_comes_with_the_package_is_whole():
    """Every shipped folder: its hash, its network's fit, whom it knows, and no more than 40 MB together."""
    from ifrp_bench.recovery.trained import load_trained

    total = 0
    for name in shipped_names():
        weights = open_shipped(name)
        assert load_trained(weights).method.network is not None
        assert weights.people.dtype == np.uint64 and len(weights.people) > 0
        said = {"title", "method", "limits", "licence", "net", "data", "training", "scores"}
        assert said <= set(weights.info)
        total += sum(path.stat().st_size for path in weights.root.iterdir())
    assert shipped.DEFAULT in shipped_names() and total <= 40 * 10**6

"""What is prepared for a GPU runs at toy size on a CPU."""

import json
import re
import shlex
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from benchmarks import gpu
from ifrp_bench import parts
from ifrp_bench.cli import cli
from ifrp_bench.data.format import read_manifest
from ifrp_bench.data.runs import open_run
from ifrp_bench.ground.settings import parse_settings
from ifrp_bench.training.resolve import resolve
from tests.conftest import run, sets

ROOT = Path(__file__).parent.parent


def call(*arguments: object) -> str:
    result = CliRunner().invoke(gpu.main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_faces_are_packed_and_make_the_same_people_again(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*sets(train_styles="candy", test_styles="candy", stylize_px=128), "--quiet")
    run("synth", "photos", *arguments, "--faces", photographs, "--out", tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    call("pack", "--faces", photographs, "--landmarks", tmp_path / "here" / "landmarks.csv", "--rendered", 1)
    call("unpack")
    assert (tmp_path / ".gpu" / "people" / "rendered-0000" / "0.jpg").is_file()

    # nothing is searched: packed faces lie as they are to lie
    run("synth", "photos", *arguments, "--faces", ".gpu/photos", "--out", "data/lfw")
    facts = (tmp_path / name / "dataset.json" for name in ("here", "data/lfw"))
    here, there = (json.loads(path.read_text()) for path in facts)
    assert here["counts"] == there["counts"] and here["faces_sha256"] != there["faces_sha256"]
    people = [
        {(row["split"], row["face"]) for row in read_manifest(tmp_path / name)}
        for name in ("here", "data/lfw")
    ]
    assert people[0] == people[1]


def test_what_is_measured_is_written(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "WARM", 1)
    monkeypatch.setattr(gpu, "TIMED", 1)
    call(
        "measure", "--data", tiny, "--device", "cpu", "--batch-size", 2, "--methods", "srn,nothing",
        "--modes", "off", "--out", tmp_path,
    )
    found = json.loads((tmp_path / "measured.json").read_text())
    assert found["pixels"] == {"largest": 0, "mean": 0.0}
    assert set(found["step srn"].values()) == {0.0}
    assert found["speed srn off"]["pairs/s at 390"] > 0
    assert "nothing" in found["failed nothing"]   # and the others have their figures


def test_a_plan_is_trained_by_the_clock_and_its_weights_come_back(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs" / "tiny" / "restored"
    plan = tmp_path / "plan.toml"
    words = f"{sys.executable} -m benchmarks.gpu timed align-restore {tiny} {root} --until $END --device cpu"
    plan.write_text(f'runs = ["{root}"]\nchains = [["!{words} --set batch_size=2"]]\n')
    monkeypatch.setattr(gpu, "SAVING_SECONDS", 60.0)
    monkeypatch.setattr(gpu, "PART_BYTES", 6_000_000)
    # what makes cards is not at hand there
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    monkeypatch.delitem(sys.modules, "ifrp_bench.making.weights", raising=False)
    out = tmp_path / "out"
    out.mkdir()
    call("train", plan, "--minutes", 1.5, "--out", out)
    step, steps = open_run(root).progress("last")
    assert step == steps == open_run(root).info["loop"]["steps"] > 1
    weights = load_file(out / "tiny-restored.safetensors")
    weights |= load_file(out / "tiny-restored.1.safetensors")   # no more comes back in one file
    assert weights["restorer.head.weight"].shape == (64, 96, 3, 3)
    with tarfile.open(out / "logs.tar.gz") as archive:
        assert any(name.endswith("log.jsonl") for name in archive.getnames())

    # a run again, to be used and shipped
    shutil.rmtree(root)
    shutil.copytree(out, tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    with tarfile.open(tmp_path / "kept" / "logs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    moved = next(tmp_path.rglob("restored/run.json")).parent
    if moved != root:
        shutil.copytree(moved, root)
    call("runs", "kept")
    assert open_run(root).finished()


@pytest.mark.parametrize("plan", sorted(ROOT.glob("benchmarks/gpu*.toml")), ids=lambda path: path.stem)
def test_plans_say_what_can_be_done(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card is lent for minutes: a setting that is mistyped would cost them."""
    monkeypatch.chdir(ROOT)
    facts = tomllib.loads(plan.read_text())
    commands = [*facts.get("first", []), *(command for chain in facts["chains"] for command in chain)]
    trained = set()
    for command in commands:
        before, found, words = command.partition("python3 -m benchmarks.gpu timed ")
        if not found:
            if not command.startswith("!"):
                name, *arguments = shlex.split(command)
                cli.commands[name].make_context(name, arguments)
            continue
        context = gpu.timed.make_context("timed", shlex.split(re.sub(r"\$[A-Z]+", "1.0", words)))
        given = context.params
        chosen = "cpu" if "cpu" in parts.trainable(given["method"]).declared.presets else None
        job = resolve(given["method"], chosen, parse_settings(given["settings"]))
        trained.add(str(given["run"]))
        assert job.trained.init == "" or job.trained.init in trained
    assert trained >= {*facts["runs"], *facts.get("faces", [])}

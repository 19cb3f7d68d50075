"""Destylizing: splits to recovered shards, pictures of any origin, bad files one line each, ONNX."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from ifrp_bench.data.format import ShardError, open_dataset, read_recovered, read_shard
from ifrp_bench.data.runs import open_run
from ifrp_bench.ground.images import read_picture
from ifrp_bench.ground.warp import TEMPLATE_PX, WINDOW_PX, centre_window, framed_window
from ifrp_bench.methods.ifrp.network import NETWORKS
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.recovery.faces import frame_faces
from ifrp_bench.recovery.split import Task, recover_untrained
from ifrp_bench.recovery.trained import load_trained, recover
from tests.conftest import run, sets


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """A run of four steps: what it recovers is blurred, where it puts it is right."""
    out = tmp_path_factory.mktemp("runs") / "srn"
    run(
        "train",
        "--method",
        "srn",
        "--data",
        tiny,
        "--out",
        out,
        "--preset",
        "smoke",
        *sets(steps=4, batch_size=4, validations=1, ema=0.5),
        "--quiet",
    )
    return out


def test_a_split_is_recovered_row_by_row(trained, tiny):
    run("destylize", trained, "--split", "test", "--data", tiny, "--quiet")
    data, method = open_dataset(tiny), load_trained(open_run(trained)).method
    for path in data.shards("test"):
        shard = read_shard(path)
        recovered = read_recovered(
            trained / "recovered" / "data" / "raw" / path.name, rows=len(shard.stylized)
        )
        wanted = recover(method, shard.stylized[1:3])
        assert np.abs(recovered[1:3].astype(int) - wanted).max() <= 1   # whatever the batch


def test_recovered_shards_are_made_once_and_again_for_another_checkpoint(trained, tiny):
    run("destylize", trained, "--split", "test", "--data", tiny, "--condition", "oracle", "--quiet")
    shards = sorted((trained / "recovered" / "data" / "oracle").glob("*.h5"))
    assert len(shards) == len(open_dataset(tiny).shards("test"))
    stamps = [path.stat().st_mtime_ns for path in shards]
    run("destylize", trained, "--split", "test", "--data", tiny, "--condition", "oracle", "--quiet")
    assert [path.stat().st_mtime_ns for path in shards] == stamps
    with h5py.File(shards[0], "r+") as file:
        file.attrs["checkpoint_sha256"] = "another"
    run("destylize", trained, "--split", "test", "--data", tiny, "--condition", "oracle", "--quiet")
    assert shards[0].stat().st_mtime_ns != stamps[0]


def test_a_broken_recovered_shard_is_named(trained, tmp_path):
    path = tmp_path / "test-00000.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(ShardError, match="destylize again"):
        read_recovered(path, rows=3)


def middle(faces: np.ndarray) -> np.ndarray:
    """The grey values of the middle of each face, (n, 4096)."""
    return faces[:, 32:96, 32:96].mean(3).reshape(len(faces), -1)


def test_oracle_shows_upright_faces_and_raw_the_stylized_ones_as_they_are(tiny, tmp_path):
    data = open_dataset(tiny)
    shards = [read_shard(path) for path in data.shards("test")]
    shown = {}
    for condition in ("raw", "oracle"):
        folder = recover_untrained("copy", Task(data, condition, quiet=True), tmp_path)
        shown[condition] = np.concatenate(
            [
                read_recovered(path, rows=len(shard.stylized))
                for path, shard in zip(sorted(folder.glob("*.h5")), shards)
            ]
        )
    real = np.concatenate([shard.real[shard.real_index] for shard in shards])
    alike = {
        name: np.mean([np.corrcoef(*middles)[0, 1] for middles in zip(middle(faces), middle(real))])
        for name, faces in shown.items()
    }
    assert np.array_equal(shown["raw"], np.concatenate([shard.stylized for shard in shards]))
    assert alike["oracle"] > alike["raw"] + 0.1


def test_pictures_of_any_kind_are_recovered_and_bad_ones_named(trained, photographs, tmp_path):
    good = next(iter(sorted(photographs.rglob("*.jpg"))))
    palette = tmp_path / "sketch.png"
    Image.open(good).convert("L").convert("P").save(palette)
    empty, page, noise = tmp_path / "empty.jpg", tmp_path / "page.png", tmp_path / "noise.png"
    empty.touch()
    page.write_text("<!doctype html>")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(noise)
    truncated = tmp_path / "cut.jpg"
    truncated.write_bytes(good.read_bytes()[:2000])
    out = tmp_path / "out"
    printed = run(
        "destylize",
        trained,
        good,
        empty,
        palette,
        page,
        truncated,
        noise,
        tmp_path / "missing.png",
        good,
        "--compare",
        "--out",
        out,
        exit_code=1,
    )
    made = {path.name for path in out.iterdir()} - {"recovered.csv", "contact-sheet.png"}
    assert made == {
        f"{name}{kind}.png"
        for name in (good.stem, f"{good.stem}-2", "sketch", "noise")
        for kind in ("", "-compared")
    }
    assert sum(line.startswith("Error: ") for line in printed.splitlines()) == 4
    assert (
        "empty file" in printed
        and "a web page" in printed
        and "no face found, took the middle" in printed
        and f"{good}: face found" in printed
    )
    assert read_picture(out / "sketch.png").shape == (266, 214, 3)
    assert read_picture(out / "sketch-compared.png").shape == (266, 432, 3)


def test_a_face_is_framed_as_in_the_data_set_but_not_turned(photographs):
    """Eyes land where CelebA's template has them, shrunk to the middle of the default tier's scales."""
    picture = read_picture(sorted(photographs.rglob("*.jpg"))[1])   # not turned
    framed, = frame_faces(picture)
    assert framed.note == "face found"
    width, height = WINDOW_PX[2:]
    face = Image.fromarray(framed.stylized)
    shown = np.array(face.resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    eyes = find_faces(shown)[0].landmarks_px[:2] / 2
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    wanted = 0.9 * (TEMPLATE_PX[:2] - WINDOW_PX[:2] - middle) + middle
    assert np.abs(eyes - wanted).max() < 4


def test_a_turned_face_stays_turned_and_keeps_its_size():
    for degrees in (-40, 0, 30):
        angle = np.deg2rad(degrees)
        turn = 2.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        window = framed_window(TEMPLATE_PX @ turn.T + [300, 200])
        assert window[0, 1] == window[1, 0] == 0
        assert window[0, 0] == pytest.approx(2.5 / 0.9 * 107 / 128) and window[1, 1] == pytest.approx(
            2.5 / 0.9 * 133 / 128
        )
        centre = np.array([34 + 53, 54 + 66]) @ turn.T + [300, 200]
        assert window[:, :2] @ [63.5, 63.5] + window[:, 2] == pytest.approx(centre)


def test_the_middle_window_is_the_largest_of_the_right_shape():
    for width, height in ((107, 133), (400, 133), (107, 500)):
        window = centre_window(width, height)
        assert window[:, :2] @ [-0.5, -0.5] + window[:, 2] == pytest.approx(
            [(width - 107) / 2 - 0.5, (height - 133) / 2 - 0.5]
        )


def test_whole_pictures_are_taken_as_they_are(trained, tiny, tmp_path):
    shard = read_shard(open_dataset(tiny).shards("test")[0])
    Image.fromarray(shard.stylized[0]).save(tmp_path / "sf.png")
    framed, = frame_faces(read_picture(tmp_path / "sf.png"), "none")
    assert np.array_equal(framed.stylized, shard.stylized[0])


def test_bfloat16_is_within_a_few_grey_levels(trained, tiny):
    method = load_trained(open_run(trained)).method
    stylized = read_shard(open_dataset(tiny).shards("test")[0]).stylized[:4]
    apart = recover(method, stylized).astype(int) - recover(method, stylized, bfloat16=True)
    assert 0 < np.abs(apart).max() <= 12


def test_averaged_weights_are_used_where_they_were_the_better_ones(trained):
    state = open_run(trained).load("last")
    weights = load_trained(open_run(trained)).method.network.state_dict()
    wanted = state["ema"] if state["averaged"] else state["method"]["networks"]["srn"]
    assert all(torch.equal(weights[name], value) for name, value in wanted.items())


def test_pictures_that_are_given_are_not_written_over(trained, tmp_path):
    for name, colour in (("portrait", "red"), ("portrait-compared", "green"), ("other", "blue")):
        Image.new("RGB", (128, 128), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "linked.png").symlink_to(tmp_path / "other.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    run("destylize", trained, *before, "--crop", "none", "--compare", "--out", tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    # each its face and its comparison, the rows and the sheet
    assert len(list(tmp_path.iterdir())) == 3 * len(before) + 2


def test_options_that_would_be_ignored_are_refused(trained, tmp_path):
    for words, given in (
        (("--split", "test", "--crop", "none", "--bf16"), "--crop, --bf16"),
        (("x.png", "--condition", "raw"), "--condition"),
    ):
        assert f"{given} would be ignored" in run("destylize", trained, *words, exit_code=2)


def test_nothing_to_do_and_no_run_are_told_apart(tmp_path, trained):
    assert "no run here" in run("destylize", tmp_path, "x.png", exit_code=1)
    assert "name pictures, or a split" in run("destylize", trained, exit_code=2)


def test_an_exported_model_gives_the_same_faces(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    printed = run("export", trained, "--onnx", tmp_path / "srn.onnx")
    assert float(printed.split("at most ")[1].split()[0]) <= 1e-3
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "srn.onnx"), providers=["CPUExecutionProvider"])
    faces = torch.rand(5, 3, 128, 128)
    wanted = load_trained(open_run(trained)).method.recover(faces)
    assert np.abs(session.run(None, {"stylized": faces.numpy()})[0] - wanted.numpy()).max() <= 1e-3


def test_export_without_its_packages_says_what_to_install(trained, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "ifrp-bench[onnx]" in run("export", trained, "--onnx", tmp_path / "x.onnx", exit_code=1)


def test_a_checkpoint_of_another_network_is_one_line(trained, tmp_path):
    import json
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["config"]["network"] = "srn-4stn"
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    printed = run("destylize", tmp_path / "run", tmp_path / "run" / "pictures", exit_code=1)
    assert "does not fit" in printed and len(printed.splitlines()) == 1
    assert NETWORKS[1] == "srn-4stn"

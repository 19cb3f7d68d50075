"""``NAME+``: both sides of each face, wherever a run is named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import ifrp_bench
from ifrp_bench.data.format import open_dataset, read_recovered, read_shard
from ifrp_bench.data.shipped import find_run
from ifrp_bench.ground.errors import InputError
from ifrp_bench.recovery.mirrored import Mirrored
from ifrp_bench.recovery.trained import load_trained, recover
from tests.conftest import run, sets


class LeftOfReal:
    """A method that sees the left of an SF and, where it is shown it, the real face."""

    network = None

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        seen = stylized.clone()
        seen[..., 2:] = 0
        return seen if real is None else seen + real


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "align-restore"
    short = ("--preset", "smoke", *sets(steps=2, batch_size=2, validations=1))
    run("train", "--method", "align-restore", "--data", tiny, "--out", out, *short, "--quiet")
    return out


def test_a_face_is_the_mean_of_both_sides():
    stylized, real = torch.tensor([[[[1.0, 2, 3, 4]]]]), torch.tensor([[[[8.0, 0, 0, 0]]]])
    method = Mirrored(LeftOfReal())
    assert method.recover(stylized).tolist() == [[[[0.5, 1, 1.5, 2]]]]
    assert method.recover(stylized, real).tolist() == [[[[8.5, 1, 1.5, 2]]]]
    many = torch.rand(3, 2, 5, 6)
    assert torch.equal(method.recover(many.flip(3)), method.recover(many).flip(3))


def test_it_is_a_row_of_its_own_beside_that_of_one_side(trained, tiny, tmp_path):
    both = f"{trained}+"
    run("eval", trained, both, "--data", tiny, "--metrics", "psnr", "--out", tmp_path / "results", "--quiet")
    scores = pd.read_csv(tmp_path / "results" / "scores.csv")
    by_method = scores.groupby("method")["psnr_db"].mean()
    assert by_method["align-restore+"] != by_method["align-restore"]
    facts = json.loads((tmp_path / "results" / "results.json").read_text())
    note = next(entry["note"] for entry in facts["entries"] if entry["method"] == "align-restore+")
    assert "mirror image" in note
    assert "align-restore+ (raw)" in (tmp_path / "results" / "tables" / "table1.md").read_text()

    # the faces: of both sides, and those of one side are still there
    data = open_dataset(tiny)
    path = data.shards("test")[0]
    method, shard = load_trained(find_run(trained)).method, read_shard(path)
    one, other = (recover(method, faces) for faces in (shard.stylized, shard.stylized[:, :, ::-1]))
    mean = (one.astype(float) + other[:, :, ::-1]) / 2
    for folder, wanted in (("raw", one), ("raw+", mean)):
        there = read_recovered(trained / "recovered" / "data" / folder / path.name, rows=len(one))
        assert np.abs(there - wanted).max() <= 1.5

    # the leaderboard: an entry beside the other's, of twice the operations
    board = tmp_path / "leaderboard"
    for name in ("align-restore", "align-restore+"):
        run("leaderboard", "submit", tmp_path / "results", "--method", name, "--leaderboard", board)
    entries = {path.stem: json.loads(path.read_text()) for path in board.glob("*/*.json")}
    assert {entry["name"] for entry in entries.values()} == set(entries)
    once, twice = (entries[name]["training"] for name in ("align-restore", "align-restore+"))
    assert twice["operations"] == pytest.approx(2 * once["operations"], rel=0.01)
    assert twice["parameters"] == once["parameters"]


def test_pictures_are_done_again_on_both_sides(trained, photographs, tmp_path):
    picture = next(photographs.rglob("*.jpg"))
    out = tmp_path / "faces"
    run("destylize", trained, picture, "--out", out)
    one = (out / f"{picture.stem}.png").read_bytes()
    run("destylize", f"{trained}+", picture, "--out", out)
    assert (out / f"{picture.stem}.png").read_bytes() != one
    assert ifrp_bench.destylize(picture, f"{trained}+").shape == (266, 214, 3)

    # without --out beside the run, as those of one side
    run("destylize", f"{trained}+", picture)
    assert (trained / "destylized" / f"{picture.stem}.png").is_file()


def test_an_exported_model_works_on_both_sides(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run("export", f"{trained}+", "--onnx", tmp_path / "both.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "both.onnx"), providers=["CPUExecutionProvider"])
    faces = torch.rand(3, 3, 128, 128)
    wanted = load_trained(find_run(Path(f"{trained}+"))).method.recover(faces)
    assert np.abs(session.run(None, {"stylized": faces.numpy()})[0] - wanted.numpy()).max() <= 1e-3


def test_what_has_no_two_sides_is_refused(trained, tiny, tmp_path):
    with pytest.raises(InputError, match="an aligner recovers no faces"):
        load_trained(find_run(Path("aligner+")))
    assert "none of the weights" in run("destylize", "nobody+", "--split", "test", exit_code=1)
    words = ("train", "--method", "align-restore", "--data", tiny, "--preset", "smoke")
    start = sets(init=f"{trained}+")
    assert "name them without it" in run(*words, *start, "--out", tmp_path / "x", exit_code=1)

    # a folder whose name ends so is that folder
    (tmp_path / "mine+").mkdir()
    (tmp_path / "mine+" / "run.json").write_bytes((trained / "run.json").read_bytes())
    assert not find_run(tmp_path / "mine+").mirrored


def test_another_entrys_file_is_not_replaced(trained, tiny, tmp_path):
    run("eval", trained, "--data", tiny, "--metrics", "psnr", "--out", tmp_path / "results", "--quiet")
    submit = ("leaderboard", "submit", tmp_path / "results", "--method", "copy", "--leaderboard", tmp_path)
    run(*submit, "--name", "Ours!")
    assert "another entry, Ours!" in run(*submit, "--name", "ours", "--replace", exit_code=1)
    run(*submit, "--name", "Ours!", "--replace")

"""Curves, styles left out, several seeds: what is scored is what is said, and a stopped run resumes."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from skimage.metrics import peak_signal_noise_ratio

from ifrp_bench import paper
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import Misalignment
from ifrp_bench.nets.recogniser import open_recogniser
from ifrp_bench.robustness import (
    CURVES, Contender, Judged, Rendering, contenders, with_one_changed, write_curves,
)
from tests.conftest import run


def test_nothing_changed_is_the_data_set_itself(tiny):
    data = open_dataset(tiny)
    shards = [data.read(path) for path in data.shards("test")]
    stylized = np.concatenate([shard.stylized for shard in shards])
    rendering = Rendering(data, count=2)
    for curve, value in (("strength", 1), ("blur", 0)):
        assert np.array_equal(rendering.point(curve, value), stylized[:16])
    # the photograph, misaligned as its stylized face: brought upright it is the real face
    photographs = rendering.point("strength", 0)
    warped = cv2.warpAffine(
        photographs[0], shards[0].warp[0], (128, 128), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
    middle = slice(40, 88)
    off = np.abs(warped[middle, middle].astype(int) - shards[0].real[0][middle, middle])
    assert off.mean() < 6


def test_one_thing_changes_and_the_rest_stays():
    drawn = Misalignment(-20.0, 0.9, 0.03, -0.04)
    assert with_one_changed(drawn, "rotation", 60) == Misalignment(-60.0, 0.9, 0.03, -0.04)
    assert with_one_changed(drawn, "scale", 1.2) == Misalignment(-20.0, 1.2, 0.03, -0.04)
    moved = with_one_changed(drawn, "shift", 0.1)
    assert (moved.angle_deg, moved.scale) == (-20.0, 0.9)
    assert np.allclose([moved.shift_x, moved.shift_y], [0.06, -0.08])


def test_a_point_of_a_curve_is_what_an_independent_count_gives(tiny, tmp_path):
    """JPEG of quality 30 of the stored stylized faces, PSNR by scikit-image."""
    data = open_dataset(tiny)
    judged = Judged(data, open_recogniser("builtin"))
    copy = contenders([], None, "cpu")
    path = write_curves(judged, copy, Rendering(data, 2), tmp_path, curves=("jpeg", "blur"), quiet=True)
    rows = pd.read_csv(path).query("curve == 'jpeg' and value == 30")
    shard = data.read(data.shards("test")[0])
    for (_, row), stylized, real in zip(rows.iterrows(), shard.stylized, shard.real[shard.real_index]):
        bgr = cv2.cvtColor(stylized, cv2.COLOR_RGB2BGR)
        _, file = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 30])
        read = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert abs(peak_signal_noise_ratio(real, read, data_range=255) - row["psnr_db"]) < 1e-4

    # stopped and begun again: what was scored is read, and the file is the same
    before = path.read_bytes()

    class Nothing(Rendering):
        def point(self, curve: str, value: float) -> np.ndarray:
            raise AssertionError("rendered again")

    write_curves(judged, copy, Nothing(data, 2), tmp_path, curves=("jpeg", "blur"), quiet=True)
    assert path.read_bytes() == before
    other = [Contender("copy", "", "raw", "other weights", lambda: lambda faces: faces)]
    with pytest.raises(AssertionError, match="rendered again"):
        write_curves(judged, other, Nothing(data, 2), tmp_path, curves=("jpeg",), quiet=True)


def test_the_command_draws_curves(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("ifrp_bench.robustness.CURVES", {"rotation": (0, 80), "scale": (1.0,)})
    out = tmp_path / "out"
    curves = "--curves", "--curve-faces", 2, "--metrics", "psnr,frr"
    run("eval", "--data", tiny, *curves, "--out", out, "--quiet")
    points = pd.read_csv(out / "tables" / "curves.csv")
    assert set(points["curve"]) == {"rotation", "scale"} and set(points["rows"]) == {16}
    assert {"psnr", "rank1", "frr", "cosine", "vr", "ssim"} == set(points["score"])
    assert 'id="robustness"' in (out / "report.html").read_text()
    # curves of another evaluation do not stay
    run("eval", "--data", tiny, "--metrics", "psnr", "--out", out, "--quiet")
    assert not (out / "curves.csv").exists() and 'id="robustness"' not in (out / "report.html").read_text()
    assert "they are for --curves" in run("eval", "--data", tiny, "--curve-faces", 3, exit_code=2)
    said = run("eval", "--data", tiny, "--curves", "--metrics", "psnr", "--out", out, "--quiet", exit_code=1)
    assert "need a recogniser" in said
    assert len(CURVES["rotation"]) > 2


def test_a_style_is_left_out_of_training_and_tested(tiny, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    example = (Path(__file__).parent.parent / "docs" / "examples" / "colours.py").read_text()
    quick = 'presets={"smoke": {"steps": 4, "batch_size": 4}},'
    mine = tmp_path / "colours.py"
    mine.write_text(example.replace('headline="oracle",', quick))
    command = (
        "paper", "--data", tiny, "--methods", mine, "--preset", "smoke", "--condition", "raw",
        "--leave-one-style-out", "--seeds", 2, "--runs", runs, "--out", out, "--quiet",
    )
    run(*command)
    data = open_dataset(tiny)
    for style in data.seen:
        facts = json.loads((runs / "left-out" / style / "colours" / "run.json").read_text())
        assert facts["loop"]["without_style"] == style
    rows = pd.read_csv(out / "left-out.csv")
    without = rows[rows["run"] == "without the style"]
    assert set(without["style"]) == set(data.seen) and not without["seen"].any() and len(without) == 9
    table = (out / "tables" / "left-out.md").read_text()
    assert "colours (raw) without the style" in table and "psnr candy*" in table

    # two trainings of a method: their spread beside that of faces
    seeds = pd.read_csv(out / "tables" / "seeds.csv").set_index(["method", "column"])
    conditions = pd.read_csv(out / "tables" / "conditions.csv")
    scored = conditions[conditions["column"] == "psnr seen"].set_index("run")["mean"]
    pair = scored[["colours", "colours-seed1"]]
    assert np.isclose(seeds["mean"]["colours", "psnr seen"], pair.mean(), atol=1e-4)
    assert np.isclose(seeds["mean"]["colours", "psnr seen sd of 2"], pair.std(), atol=1e-4)
    before = (runs / "colours" / "last.json").stat().st_mtime_ns
    run(*command)
    assert (runs / "colours" / "last.json").stat().st_mtime_ns == before


def test_trainings_that_are_compared_are_of_one_length(tiny, tmp_path, monkeypatch):
    """Other seeds', and those without a style: as long as the first, whatever else the machine does by then.
    """
    a_step = 1.0

    def timed(job, data, root, device, minutes):
        job = job.with_steps(int(60 * minutes / a_step), validations=2) if minutes else job
        return job, SimpleNamespace(said="", seconds=1.0)

    monkeypatch.setattr(paper, "timed_for", timed)
    monkeypatch.setattr(paper, "_seconds_a_step", lambda *_: a_step / 50)
    wanted = paper.Paper(open_dataset(tiny), tmp_path, ("johnson", "gatys"), "smoke", minutes=1.0)

    def lengths(which: paper.Paper, first: list[paper.Planned]) -> list[int]:
        planned = paper.plan(which, lambda _: None, as_long_as=first)
        return [run.job.trained.steps if run.job.loop else run.job.steps_a_face for run in planned]

    first = paper.plan(wanted, lambda _: None)
    alone = lengths(wanted, [])
    assert alone == [60, 60 * 50 // wanted.data.pairs("test")]
    a_step = 3.0
    assert lengths(wanted, []) != alone
    assert lengths(wanted.of_seed(1), first) == alone
    assert lengths(wanted.left_out(wanted.data.seen[0]), first) == alone[:1]


def test_a_split_without_a_style_has_none_of_its_rows(tiny):
    split = load_split(open_dataset(tiny), "train", "cpu")
    kept = split.without("candy")
    assert set(kept.style) == set(split.style) - {"candy"} and len(kept) == len(split) * 2 // 3
    rows = np.flatnonzero(split.style != "candy")
    assert (kept.stylized == split.stylized[rows]).all() and (kept.real_index == split.real_index[rows]).all()
    with pytest.raises(InputError, match="without_style 'udnie': the split's styles are"):
        split.without("udnie")

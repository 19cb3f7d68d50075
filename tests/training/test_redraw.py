"""Training pairs made anew while training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ifrp_bench.data.format import open_dataset, read_manifest
from ifrp_bench.data.runs import open_run
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.precision import fast_precision
from ifrp_bench.ground.warp import Misalignment, draw_misalignments, frame_similarities, frame_similarity
from ifrp_bench.training import redraw
from ifrp_bench.training.batches import Batches
from ifrp_bench.training.redraw import PairRemaker, Redrawing
from ifrp_bench.training.resolve import Loop
from tests.conftest import TINY, run, sets

SHORT = sets(steps=4, batch_size=4, validations=1, checkpoint_seconds=0)


@pytest.fixture(scope="module")
def split(tiny: Path) -> Split:
    return load_split(open_dataset(tiny), "train", "cpu")


@pytest.fixture(scope="module")
def maker(tiny: Path) -> PairRemaker:
    return PairRemaker(open_dataset(tiny), "cpu", quiet=True)


def test_many_misalignments_are_those_of_one(tiny: Path) -> None:
    drawn = draw_misalignments("lab", 50, np.random.default_rng(0))
    assert np.abs(drawn[:, 0]).max() <= 45 and drawn[:, 1].min() >= 0.8 and np.abs(drawn[:, 2:]).max() <= 0.05
    one_by_one = np.stack([frame_similarity(Misalignment(*row)) for row in drawn])
    assert np.allclose(frame_similarities(drawn), one_by_one, atol=1e-12)


def test_made_again_as_they_were_misaligned_they_are_the_stored_ones(
    tiny: Path, split: Split, maker: PairRemaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in read_manifest(tiny) if row["split"] == "train"]
    columns = ("angle_deg", "scale", "shift_x", "shift_y")
    stored = np.array([[float(row[column]) for column in columns] for row in rows])
    monkeypatch.setattr(redraw, "draw_misalignments", lambda tier, count, draws: stored)
    made = maker.split(split, 0, 1)
    assert torch.allclose(made.warp, split.warp, atol=1e-6)
    levels = (made.stylized.int() - split.stylized.int()).abs().float()
    # OpenCV samples at 1/32 of a pixel; bfloat16 makes more of what that is off
    assert levels.mean() < (0.2 if fast_precision("cpu") == "float32" else 2.0)


def test_each_round_is_another_and_the_same_again(split: Split, maker: PairRemaker) -> None:
    first, second, again = (maker.split(split, 3, number) for number in (1, 2, 1))
    assert torch.equal(first.stylized, again.stylized) and torch.equal(first.warp, again.warp)
    assert not torch.equal(first.stylized, second.stylized)
    assert not torch.equal(first.warp, second.warp)
    assert np.array_equal(first.style, split.style)


def test_rounds_begin_after_so_many_epochs(split: Split, maker: PairRemaker) -> None:
    batches = Batches(split, 6, 0)   # three steps an epoch
    drawn = Redrawing(batches, maker, 2)
    assert torch.equal(drawn.at(5).stylized, batches.at(5).stylized)
    assert not torch.equal(drawn.at(6).stylized, batches.at(6).stylized)
    assert torch.equal(drawn.at(6).real, batches.at(6).real)

    # a run that is resumed in the second round has the same batches
    assert torch.equal(Redrawing(batches, maker, 2).at(7).stylized, drawn.at(7).stylized)


def test_styles_may_be_dealt(tiny: Path, split: Split) -> None:
    dealt = PairRemaker(open_dataset(tiny), "cpu", styles=("open", "udnie"), quiet=True).split(split, 0, 1)
    assert set(dealt.style) == {"open", "udnie"}


def test_upright_methods_get_them_upright(tiny: Path, split: Split) -> None:
    made = PairRemaker(open_dataset(tiny), "cpu", upright=True, quiet=True)
    upright = load_split(open_dataset(tiny), "train", "cpu", upright=True)
    again = made.split(upright, 0, 1)
    assert torch.equal(again.warp, upright.warp)
    # black where nothing is known: the corners of turned faces
    assert (again.stylized[:, 0, 0] == 0).all(1).any()


def test_a_training_with_it_resumes_as_if_it_had_not_stopped(tiny: Path, tmp_path: Path) -> None:
    arguments = ("train", "--method", "srn", "--data", tiny, "--preset", "smoke", *SHORT,
                 *sets(redraw=0.5), "--quiet")
    run(*arguments, "--out", tmp_path / "whole")
    run(*arguments, "--out", tmp_path / "stopped")
    weights = [open_run(tmp_path / name).sha256("last") for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_photographs_that_are_not_those_of_the_data_set_are_refused(
    photographs: Path, celeba: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    counts = sets(train_faces=2, val_faces=1, test_faces=1)
    run("synth", "celeba-paper", *TINY, *counts, "--faces", celeba, "--out", data, "--quiet")
    maker = PairRemaker(open_dataset(data), "cpu", faces=celeba, quiet=True)
    assert maker.frames.shape == (2, 218, 178, 3)
    with pytest.raises(InputError):
        PairRemaker(open_dataset(data), "cpu", faces=photographs, quiet=True)


def test_what_only_redrawing_looks_at_is_refused_without_it(tiny: Path, photographs: Path) -> None:
    with pytest.raises(InputError, match="redraw is 0"):
        Loop(steps=1, redraw_styles="candy")
    train = ("train", "--data", tiny, "--faces", photographs)
    assert "--faces would be ignored" in run(*train, "--dry-run", exit_code=2)
    assert "1 steps" in run(*train, *sets(redraw=1, steps=1), "--dry-run")

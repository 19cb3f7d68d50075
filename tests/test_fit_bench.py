"""What `benchmarks/fit.py` says of faces whose scores are known."""

import numpy as np
from click.testing import CliRunner

from benchmarks.fit import described, main, of_first_faces
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.nets.recogniser import open_recogniser
from tests.conftest import run


def test_the_rows_of_the_first_faces_are_scored_among_those_faces(tiny):
    split = load_split(open_dataset(tiny), "train", "cpu")
    first = of_first_faces(split, 2)
    assert set(first.real_index.tolist()) == {0, 1} and len(first) == 2 * len(set(split.style.tolist()))

    # a little darker they are still found, as the other one none is
    judge = open_recogniser("builtin")
    gallery = judge.embed(first.real.numpy())
    real = first.real[first.real_index].numpy()
    said = described(real - np.minimum(real, 10), first, judge, gallery)
    assert said.startswith("28.") and "rank-1 100.0 %, top 5 100.0 % of 2" in said
    assert "rank-1 0.0 %" in described(first.real[1 - first.real_index].numpy(), first, judge, gallery)


def test_a_run_is_scored_on_both_kinds_of_faces(tiny, tmp_path):
    folder = tmp_path / "srn"
    run(
        "train", "--method", "srn", "--data", tiny, "--preset", "smoke", "--set", "steps=1", "--set",
        "batch_size=2", "--set", "validations=1", "--out", folder, "--quiet",
    )
    done = CliRunner().invoke(main, [str(tiny), str(folder), "--recogniser", "builtin"])
    assert done.exit_code == 0, done.output
    seen, unseen = done.output.splitlines()
    faces = len(load_split(open_dataset(tiny), "val", "cpu").real)
    assert seen.startswith(f"{folder}, faces trained on: ") and f"of {faces}, cosine" in seen
    assert unseen.startswith(f"{folder}, faces never seen: ") and " dB, rank-1 " in unseen

"""What `benchmarks/unseen.py` says of faces whose scores are known."""

import numpy as np
import torch

from benchmarks.unseen import described, in_open_styles
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.nets.recogniser import open_recogniser


def test_faces_a_little_darker_are_still_found_and_all_of_the_error_is_coarse(tiny):
    split = load_split(open_dataset(tiny), "val", "cpu")
    judge = open_recogniser("builtin")
    real = split.real[split.real_index].numpy()
    said = described(real - np.minimum(real, 10), split, judge, judge.embed(split.real.numpy()))
    assert "28." in said and "rank-1 100.0 %" in said and "100% in squares of 16" in said


def test_open_styles_are_of_the_same_faces_as_they_lie(tiny):
    split = load_split(open_dataset(tiny), "val", "cpu")
    made = in_open_styles(split)
    assert made.shape == tuple(split.stylized.shape) and made.dtype == np.uint8
    assert not torch.equal(torch.from_numpy(made), split.stylized)
    assert np.array_equal(made, in_open_styles(split))

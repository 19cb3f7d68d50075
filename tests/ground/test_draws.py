"""Draws are functions of their key."""

import numpy as np

from ifrp_bench.ground.draws import generator


def test_same_key_same_stream_whatever_was_drawn_before():
    generator("other").random(1000)
    assert np.array_equal(generator(1, "a").random(8), generator(1, "a").random(8))


def test_different_keys_give_unrelated_streams():
    streams = np.stack([generator(0, "x", number).random(500) for number in range(40)])
    correlation = np.corrcoef(streams) - np.eye(40)
    assert np.abs(correlation).max() < 0.25


def test_parts_of_a_key_do_not_run_together():
    assert generator("ab", "c").random() != generator("a", "bc").random()

"""How long a piece of work takes: the median of calls, fewer of them where they are slow."""

import pytest

from ifrp_bench.ground import timing


@pytest.fixture
def timed(monkeypatch):
    """The median, and how many calls it took, of calls that take so many seconds each."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def measure(taking, *args, **options):
        left = list(taking)

        def call():
            now[0] += left.pop(0)

        return timing.median_seconds(call, *args, **options), len(taking) - len(left)

    return measure


def test_the_median_of_the_calls_after_the_warm_ones(timed):
    assert timed([90, 1, 2, 60, 1], 3) == (2, 4)
    assert timed([90, 80, 3, 1], 1, warm=2) == (3, 3)


def test_slow_calls_are_timed_twice_and_fast_ones_until_enough_seconds_are_timed(timed):
    assert timed([9, 5, 7, 1], 8, enough=4) == (6, 3)
    assert timed([9] + [1.0] * 9, 8, enough=4) == (1, 5)
    assert timed([9] + [0.25] * 9, 8, enough=4) == (0.25, 9)

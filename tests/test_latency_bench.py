"""benchmarks/latency.py."""

from pathlib import Path

from benchmarks.latency import face_times


def test_every_face_is_timed_and_they_are_in_order():
    times = face_times(Path("align-restore"), faces=5)
    assert len(times) == 5 and 0 < times[0] and times == sorted(times)

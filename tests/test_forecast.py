"""How long an evaluation is said to take: every face, every condition, recovered, prepared and scored."""

import time

from ifrp_bench.data.format import open_dataset
from ifrp_bench.forecast import Rates, rates, recovery_seconds
from ifrp_bench.metrics import Metric
from ifrp_bench.methods import Fixed


def test_every_face_is_counted_under_every_condition():
    found = Rates(scored=2.0, embedded=3.0, upright=5.0)
    raw = found.seconds(100, 10, [7.0, 11.0], ["raw"], aligning=13.0, fixed=1)
    assert raw == 100 * (7 + 11 + 3 * (2 + 3)) + 10 * 3
    # brought upright once a row and face
    assert found.seconds(100, 10, [7.0, 11.0], ["stn"], aligning=13.0, fixed=1) - raw == 100 * 3 * 13
    assert found.seconds(100, 10, [7.0, 11.0], ["oracle"], aligning=13.0, fixed=1) - raw == 100 * 3 * 5


class Slow:
    """A scorer, a recogniser and a method that take ten milliseconds a face."""

    sha256 = ""

    def score(self, recovered, real):
        time.sleep(0.01 * len(recovered))
        return {"slow": real[:, 0, 0, 0]}

    def embed(self, faces):
        time.sleep(0.01 * len(faces))

    def recover(self, faces):
        time.sleep(0.01 * len(faces))
        return faces


def test_what_is_measured_is_what_the_work_takes(tiny):
    data = open_dataset(tiny)
    found = rates(data, [Metric("picture", (), open=Slow)], [Slow()])
    recovered = recovery_seconds(Fixed(Slow().recover), data, "cpu")
    assert all(0.0099 < seconds < 0.02 for seconds in (found.scored, found.embedded, recovered))
    assert 0 < found.upright < 0.02

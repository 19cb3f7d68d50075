"""How long an evaluation will take on this machine, from a few of its very faces: recovered, brought upright,
scored and embedded as all of them will be.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ifrp_bench.data.format import Dataset, Shard
from ifrp_bench.ground.workers import default_workers
from ifrp_bench.methods import Recoverer
from ifrp_bench.metrics import Metric
from ifrp_bench.nets.recogniser import Recogniser
from ifrp_bench.recovery.trained import FACES_AT_ONCE, recover_shard
from ifrp_bench.results.evaluate import picture_scores


@dataclass(frozen=True)
class Rates:
    """Seconds a face, all cores at work: ``scored`` and embedded, and brought ``upright`` by the stored warp.
    """

    scored: float
    embedded: float
    upright: float

    def seconds(
        self, faces: int, people: int, recoveries: Sequence[float], conditions: Sequence[str],
        aligning: float, fixed: int,
    ) -> float:
        """Of an evaluation of ``faces`` of ``people`` under ``conditions``.

        ``recoveries`` are seconds a face of each method, ``aligning`` those of the aligner, ``fixed`` the
        number of rows that are not methods.
        """
        prepared = {"raw": 0.0, "stn": aligning, "oracle": self.upright}
        each = sum(recoveries) + (len(recoveries) + fixed) * (self.scored + self.embedded)
        shown = sum(prepared[condition] for condition in conditions) * (len(recoveries) + fixed)
        return faces * (each * len(conditions) + shown) + people * self.embedded


def sample(data: Dataset) -> Shard:
    """Some of the first test faces: a batch for each core."""
    shard = data.read(data.shards("test")[0])
    count = min(FACES_AT_ONCE * (default_workers() or 1), len(shard.stylized))
    return Shard(
        shard.stylized[:count], shard.real, shard.real_index[:count], shard.style[:count], shard.face[:count],
        shard.identity[:count], shard.warp[:count],
    )


def rates(data: Dataset, metrics: Sequence[Metric], judges: Sequence[Recogniser]) -> Rates:
    """What scoring takes, measured on a few faces as they are."""
    some = sample(data)
    real, faces = some.real[some.real_index], len(some.stylized)
    scorers = [metric.opened() for metric in metrics if metric.kind == "picture"]
    return Rates(
        sum(_seconds(lambda: picture_scores(scorer, some.stylized, real)) for scorer in scorers) / faces,
        sum(_seconds(lambda: judge.embed(some.stylized)) for judge in judges) / faces,
        _seconds(some.upright) / faces,
    )


def recovery_seconds(method: Recoverer, data: Dataset, device: str) -> float:
    """Seconds a face that a method takes to recover the faces of a split."""
    stylized = sample(data).stylized
    return _seconds(lambda: recover_shard(method, stylized, device)) / len(stylized)


def _seconds(work: Callable[[], Any], times: int = 2) -> float:
    """The quickest of a few after one to warm up: others on the machine come and go."""
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.min(taken[1:]))

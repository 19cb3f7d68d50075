"""How long an evaluation will take on this machine, from a few of its very faces: recovered, brought upright,
scored and embedded as all of them will be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ifrp_bench.data.format import Dataset, Shard
from ifrp_bench.ground.timing import median_seconds
from ifrp_bench.ground.workers import default_workers
from ifrp_bench.methods import Usable
from ifrp_bench.metrics import Metric
from ifrp_bench.nets.recogniser import Recogniser
from ifrp_bench.recovery.trained import FACES_AT_ONCE, recover_shard
from ifrp_bench.results.evaluate import picture_scores

TIMED = 2   # calls of each, after one to warm up


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

    def a_face(work: Callable[[], Any]) -> float:
        return median_seconds(work, TIMED) / faces

    return Rates(
        sum(a_face(partial(picture_scores, scorer, some.stylized, real)) for scorer in scorers),
        sum(a_face(partial(judge.embed, some.stylized)) for judge in judges),
        a_face(some.upright),
    )


def recovery_seconds(method: Usable, data: Dataset, device: str) -> float:
    """Seconds a face that a method takes to recover the faces of a split."""
    stylized = sample(data).stylized
    return median_seconds(lambda: recover_shard(method, stylized, device), TIMED) / len(stylized)

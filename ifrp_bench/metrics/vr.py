"""VR, verification rate at a false-accept rate of 0.1 %: genuine scores above the threshold (paper, Section
4.4, for sketches).

The threshold is taken style by style: at most one in a thousand of the impostor scores of a style is above
it.
"""

import numpy as np

from ifrp_bench.ground.ranks import FAR, verified
from ifrp_bench.metrics import Column, Embedded, Metric, Retrieved


def score(embedded: Embedded) -> Retrieved:
    """``verified``: whether the recovered face passes as the person that it shows."""
    passed = np.zeros(len(embedded.queries), dtype=bool)
    for style in dict.fromkeys(embedded.style):
        rows = np.flatnonzero(embedded.style == style)
        queries, own = embedded.queries[rows], embedded.own[rows]
        passed[rows] = verified(queries, embedded.gallery, own, embedded.identity, FAR)
    return Retrieved(columns={"verified": passed})


METRIC = Metric(
    "retrieval",
    (Column("verified", "vr", unit="%", hits=True, also=("table2",), far=FAR),),
    score=score,
    default=True,
    table="table3",
    place=50,
)

"""FCR, face consistency ratio: the same among the faces recovered from another style (paper, Section 4).

For every ordered pair of styles the faces recovered from the one are searched among those recovered from the
other; 56 pairs of eight styles.
"""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pandas as pd

from ifrp_bench.ground.ranks import TOP, rank_queries
from ifrp_bench.metrics import Column, Embedded, Metric, Retrieved


def score(embedded: Embedded) -> Retrieved:
    """A row per face and ordered pair of styles; no rows where there is one style."""
    frames = list(consistent(embedded))
    return Retrieved(pairs=pd.concat(frames, ignore_index=True) if frames else None)


def consistent(embedded: Embedded) -> Iterator[pd.DataFrame]:
    """For every ordered pair of styles, where the same face stands
    among those recovered from the other style.
    """
    styles = list(dict.fromkeys(embedded.style))
    rows = {style: np.flatnonzero(embedded.style == style) for style in styles}
    for query, gallery in permutations(rows, 2):
        here, there = rows[query], rows[gallery]
        place = {face: number for number, face in enumerate(embedded.face[there])}
        truth = np.array([place[face] for face in embedded.face[here]])
        ranks = rank_queries(
            embedded.queries[here], embedded.queries[there], truth, groups=embedded.person[there]
        )
        yield pd.DataFrame({
            "query_style": query,
            "gallery_style": gallery,
            "query_seen": embedded.seen[here[0]],
            "gallery_seen": embedded.seen[there[0]],
            "face": embedded.face[here],
            "identity": embedded.person[here],
            "rank": ranks.rank,
            "hit_top5": ranks.hit,
        })


METRIC = Metric(
    "retrieval", (Column("hit_top5", "fcr", unit="%", hits=True, top=TOP),),
    score=score, default=True, table="table2", pairs=True, place=40,
)

"""FRR, face retrieval ratio: the right person among the five most
similar of all real test faces (paper, Section 4).
"""

from ifrp_bench.ground.ranks import TOP, rank_queries
from ifrp_bench.metrics import Column, Embedded, Metric, Retrieved


def score(embedded: Embedded) -> Retrieved:
    """``rank`` of the right person, whether it is a ``hit_top1`` and a ``hit_top5``, the ``cosine`` to the
    own real face, and the ``nearest`` faces.
    """
    ranks = rank_queries(embedded.queries, embedded.gallery, embedded.own, groups=embedded.identity)
    nearest = ["|".join(embedded.names[row] for row in rows) for rows in ranks.nearest]
    columns = {
        "rank": ranks.rank,
        "hit_top1": ranks.rank == 1,
        "hit_top5": ranks.hit,
        "cosine": ranks.cosine,
        "nearest": nearest,
    }
    return Retrieved(columns=columns, facts={"retrieval_ties": ranks.ties})   # type: ignore[arg-type]


COLUMNS = (
    Column("rank"),
    Column("hit_top5", "frr", unit="%", hits=True, top=TOP),
    Column("hit_top1", "rank1", unit="%", hits=True, ours=True, also=("table3",), top=1),
    Column("cosine", "cosine", digits=3, ours=True, also=("table3",)),
    Column("nearest"),
)
METRIC = Metric("retrieval", COLUMNS, score=score, default=True, table="table2", place=30)

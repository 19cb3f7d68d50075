"""A metric of one's own: how far the contrast of a recovered face is from that of its real one.

    ifrp-bench eval --metrics psnr,docs/examples/contrast.py
"""

from ifrp_bench.metrics import Column, Metric


def score(recovered, real):
    """A value per face of uint8 (N, 128, 128, 3) pictures; the columns are named with their units."""
    spread, wanted = recovered.std(axis=(1, 2, 3)), real.std(axis=(1, 2, 3))
    return {"contrast_error_levels": abs(spread - wanted)}


METRIC = Metric(
    "picture",
    (Column("contrast_error_levels", "contrast error", unit="grey levels", digits=1, lower=True),),
    score=score,
)

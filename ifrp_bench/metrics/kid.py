"""Kernel Inception distance between recovered and real faces (Binkowski et al. 2018), by torch-fidelity, an
extra.

It compares sets, not faces, and is not biased by their number.
"""

import numpy as np
import torch

from ifrp_bench.metrics import Column, Metric
from ifrp_bench.nets.inception import open_inception

SUBSETS, SUBSET = 100, 1000   # as torch-fidelity has them; a subset is at most half of the smaller set


def distance(recovered: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Mean over subsets, and its spread, between Inception features (N, D) and (M, D).

    Nan for fewer than four.
    """
    from torch_fidelity.metric_kid import kid_features_to_metric

    size = min(SUBSET, min(len(recovered), len(real)) // 2)
    if size < 2:
        return float("nan"), float("nan")
    kid = kid_features_to_metric(
        torch.from_numpy(recovered), torch.from_numpy(real),
        kid_subsets=SUBSETS, kid_subset_size=size, verbose=False, rng_seed=0,
    )
    return float(kid["kernel_inception_distance_mean"]), float(kid["kernel_inception_distance_std"])


class Kid:
    """The scorer."""

    def __init__(self) -> None:
        self.net = open_inception()
        self.sha256, self.features_name, self.features = self.net.sha256, self.net.name, self.net.features

    def score(self, recovered: np.ndarray, real: np.ndarray) -> dict[str, float]:
        """``kid`` and ``kid_std``."""
        mean, spread = distance(recovered, real)
        return {"kid": mean, "kid_std": spread}


COLUMNS = (Column("kid", "kid", digits=4, lower=True), Column("kid_std"))
METRIC = Metric("set", COLUMNS, open=Kid, table="sets", everywhere=False, place=90)

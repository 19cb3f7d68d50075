"""Frechet Inception distance between recovered and real faces (Heusel et al. 2017), by torch-fidelity, an
extra.

It compares sets, not faces. With fewer than 2,048 faces it is biased upwards; KID is not.
"""

import numpy as np
import torch

from ifrp_bench.metrics import Column, Metric
from ifrp_bench.nets.inception import open_inception


def distance(recovered: np.ndarray, real: np.ndarray) -> float:
    """Between Inception features (N, D) and (M, D)."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (recovered, real)]
    return float(fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"])


class Fid:
    """The scorer."""

    def __init__(self) -> None:
        self.net = open_inception()
        self.sha256, self.features_name, self.features = self.net.sha256, self.net.name, self.net.features

    def score(self, recovered: np.ndarray, real: np.ndarray) -> dict[str, float]:
        """``fid``."""
        return {"fid": distance(recovered, real)}


METRIC = Metric(
    "set", (Column("fid", "fid", lower=True),), open=Fid, table="sets", everywhere=False, place=80
)

"""LPIPS (Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018), version 0.1 on VGG-16: how far two pictures are
apart in features.

The features were weighted to agree with people; lower is closer. Neither weight file comes with the package:
``ifrp-bench fetch vgg16`` and ``ifrp-bench fetch lpips`` place them, checked.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.images import to_faces
from ifrp_bench.ground.weights import fetched_weights, load_state
from ifrp_bench.metrics import Column, Columns, Metric
from ifrp_bench.nets.vgg import open_features

AT_ONCE = 8   # pairs: the features of one take 16 MB
# and their channels
LAYERS = {"relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512}


class Lpips:
    """The published network. Raises InputError where a weight file is missing or is another."""

    def __init__(self) -> None:
        self.features = open_features("vgg16")   # its preprocessing is that of LPIPS
        path = fetched_weights("lpips")
        state = load_state(path)
        self.sha256 = sha256_of(path) + self.features.sha256
        try:
            self.weights = {
                name: state[f"lin{number}.model.1.weight"].reshape(1, channels, 1, 1)
                for number, (name, channels) in enumerate(LAYERS.items())
            }
        except (KeyError, RuntimeError):
            keys = ", ".join(list(state)[:2])
            raise InputError(
                f"{path}: not LPIPS' weights of VGG-16, found keys like {keys}; fetch them again"
            ) from None

    def score(self, recovered: np.ndarray, real: np.ndarray) -> Columns:
        """``lpips``."""
        return {"lpips": self.distances(recovered, real)}

    @torch.inference_mode()
    def distances(self, recovered: np.ndarray, real: np.ndarray) -> np.ndarray:
        """float64 (N,) between uint8 (N, H, W, 3) RGB faces."""
        starts = range(0, len(recovered), AT_ONCE)
        return np.concatenate(
            [
                self._distances(recovered[start : start + AT_ONCE], real[start : start + AT_ONCE])
                for start in starts
            ]
        )

    def _distances(self, recovered: np.ndarray, real: np.ndarray) -> np.ndarray:
        one, other = (self.features(to_faces(faces), tuple(LAYERS)) for faces in (recovered, real))
        by_layer = []
        for name, weight in self.weights.items():
            apart = (_unit(one[name]) - _unit(other[name])).square()
            by_layer.append((weight * apart).sum(1).double().mean((1, 2)))   # (N,)
        return torch.stack(by_layer).sum(0).numpy()   # type: ignore[no-any-return]


def _unit(features: Tensor) -> Tensor:
    """Of length one at every place."""
    return F.normalize(features, dim=1, eps=1e-10)


METRIC = Metric("picture", (Column("lpips", "lpips", digits=3, lower=True),), open=Lpips, place=60)

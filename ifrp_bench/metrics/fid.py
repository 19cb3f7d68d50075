"""Frechet and kernel Inception distance between recovered and real faces (Heusel et al. 2017; Binkowski et al. 2018), by torch-fidelity, an extra. They
compare sets, not faces: a number for each entry and group of styles. With fewer than 2,048 faces FID is biased upwards; KID is not.
"""

from typing import Any

import numpy as np
import torch

from ifrp_bench.errors import InputError
from ifrp_bench.images import as_pictures, to_faces
from ifrp_bench.weights import fetched_weights, load_state, sha256_of

SUBSETS, SUBSET = 100, 1000   # of KID, as torch-fidelity has them; a subset is at most half of the smaller set


class Inception:
    """torch-fidelity's InceptionV3 (the published FID weights; ``ifrp-bench fetch inception``), pool features (N, 2048)."""

    name = "inception"

    def __init__(self) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise InputError("fid and kid need the extra fid: pip install 'ifrp-bench[fid]'") from None
        path = fetched_weights("inception")
        state = load_state(path)   # proves that the file holds tensors and no code, before a library opens it
        self.sha256 = sha256_of(path)
        try:
            self.net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: not the Inception of FID ({len(state)} tensors; {' '.join(str(error).split())[:80]}); fetch it again") from None

    @torch.inference_mode()
    def features(self, faces: np.ndarray) -> np.ndarray:
        """float32 (N, 2048) of uint8 (N, H, W, 3) faces."""
        pictures = as_pictures(to_faces(faces)).permute(0, 3, 1, 2)
        return self.net(pictures)[0].numpy()   # type: ignore[no-any-return]


def distances(recovered: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """``fid``, ``kid`` (mean over subsets) and its ``kid_std`` between features (N, D) and (M, D); kid is nan for fewer than four."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    one, other = torch.from_numpy(recovered), torch.from_numpy(real)
    fid = fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(other), False)
    size = min(SUBSET, min(len(one), len(other)) // 2)
    if size < 2:
        return {"fid": float(fid["frechet_inception_distance"]), "kid": float("nan"), "kid_std": float("nan")}
    kid = kid_features_to_metric(one, other, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False, rng_seed=0)
    return {
        "fid": float(fid["frechet_inception_distance"]), "kid": float(kid["kernel_inception_distance_mean"]),
        "kid_std": float(kid["kernel_inception_distance_std"]),
    }

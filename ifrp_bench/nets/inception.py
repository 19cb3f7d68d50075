"""InceptionV3 with the published FID weights, by torch-fidelity, an extra: what FID and KID compare faces by.
"""

from functools import cache

import numpy as np
import torch

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.images import as_pictures, to_faces
from ifrp_bench.ground.weights import fetched_weights, load_state


class Inception:
    """Pool features (N, 2048) of faces.

    Raises InputError without the extra ``fid`` and without `ifrp-bench fetch inception`.
    """

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
            self.net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path),
            )
        except RuntimeError as error:
            found = f"{len(state)} tensors; {' '.join(str(error).split())[:80]}"
            raise InputError(f"{path}: not the Inception of FID ({found}); fetch it again") from None

    @torch.inference_mode()
    def features(self, faces: np.ndarray) -> np.ndarray:
        """float32 (N, 2048) of uint8 (N, H, W, 3) faces."""
        pictures = as_pictures(to_faces(faces)).permute(0, 3, 1, 2)
        return self.net(pictures)[0].numpy()   # type: ignore[no-any-return]


@cache
def open_inception() -> Inception:
    """The network, opened once for the metrics that share it."""
    return Inception()

"""What the identity loss compares: perceptual features of a face, frozen. Faces come in as float32 (N, 3, H,
W) RGB in [0, 1].

``builtin`` is a narrow VGG-19 up to relu3_1 that the project trained to give the features of the real one;
``vgg19`` (torchvision's weights) and files in VGG's conventions are read up to relu3_2, the paper's layer, or
the deepest they have; ``facenet`` is an InceptionResnetV1 (VGGFace2), whose embedding the journal version of
the paper takes.
"""

from pathlib import Path

from torch import Tensor, nn

from ifrp_bench.nets.facenet import FaceNet
from ifrp_bench.nets.vgg import Features, open_features

LAYER = "relu3_2"   # [P]


class Identity(nn.Module):
    """Features (N, ...) of faces. ``name``, ``layer`` and ``sha256`` say which."""

    def __init__(self, features: Features | FaceNet) -> None:
        super().__init__()
        self.features = features
        self.name, self.sha256 = features.name, features.sha256
        self.layer = (
            "embedding"
            if isinstance(features, FaceNet)
            else LAYER if LAYER in features.layers else features.layers[-1]
        )

    def forward(self, faces: Tensor) -> Tensor:
        return (
            self.features(faces)
            if isinstance(self.features, FaceNet)
            else self.features(faces, (self.layer,))[self.layer]
        )


def open_identity(source: str | Path, device: str = "cpu") -> Identity:
    """Features by name (``builtin``, ``vgg19``, ``vgg16``, ``facenet``) or from a file.

    Raises InputError for weights that are not there.
    """
    return Identity(FaceNet() if str(source) == "facenet" else open_features(source)).to(device)

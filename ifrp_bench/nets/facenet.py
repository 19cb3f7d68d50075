"""FaceNet as facenet-pytorch publishes it: InceptionResnetV1 trained on
VGGFace2. Weights are downloaded by ``ifrp-bench fetch facenet``.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.warp import WINDOW_PX
from ifrp_bench.ground.weights import fetched_weights, load_state

INPUT_PX = 160


class FaceNet(nn.Module):
    """Embeddings (N, 512) of unit length of faces (N, 3, H, W) in [0, 1], frozen.

    The window's anisotropy is undone (128x128 stands for 107x133), the sides are filled by reflection to a
    square, and pixels become (x - 127.5) / 128 as in facenet-pytorch. Raises InputError if the weights were
    not fetched.
    """

    name = "facenet"

    def __init__(self) -> None:
        super().__init__()
        from facenet_pytorch import InceptionResnetV1

        path = fetched_weights("facenet")
        self.sha256 = sha256_of(path)
        self.net = InceptionResnetV1(pretrained=None, classify=False)
        state = {name: value for name, value in load_state(path).items() if not name.startswith("logits.")}
        try:
            self.net.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"{path}: not InceptionResnetV1's weights ({' '.join(str(error).split())[:120]})"
            ) from None
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FaceNet":
        """Frozen: always in evaluation."""
        return super().train(False)

    def forward(self, faces: Tensor) -> Tensor:
        return self.net((self.square(faces) * 255 - 127.5) / 128)

    def square(self, faces: Tensor) -> Tensor:
        """(N, 3, 160, 160): the face in its true proportions."""
        width = round(INPUT_PX * WINDOW_PX[2] / WINDOW_PX[3])   # 129 of 160
        faces = F.interpolate(faces, size=(INPUT_PX, width), mode="bilinear", antialias=True)
        left = (INPUT_PX - width) // 2
        return F.pad(faces, (left, INPUT_PX - width - left, 0, 0), mode="reflect")

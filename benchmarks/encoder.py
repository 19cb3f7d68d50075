"""What SRN's encoder knows of a person: its code read by one linear layer, without a decoder.

    ifrp-bench train --method benchmarks/encoder.py --data data/lfw --preset cpu --set steps=1600

The layer reads the code as principal components of the training's real faces (Turk and Pentland 1991,
"Eigenfaces for recognition"), and the pixel loss is that of the faces that these make. Evaluated like any
method. SRN's decoder is neither trained nor asked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.images import as_faces
from ifrp_bench.methods import Method, Setup, to_unit
from ifrp_bench.methods.ifrp import IFRP, PRESETS
from ifrp_bench.methods.ifrp import Config as OfIFRP

COMPONENTS = 256   # they name nine in ten people whom they were not taken from (docs/ifrp.md)
FACES = 8000   # looked at, at most: they are laid out as float32
FACE_PX = 64   # at half size a person is still there, and a component is a quarter as long
CHUNK = 256   # faces laid out at a time
CODE = 4 * 512   # numbers


class Eigenfaces(nn.Module):
    """Codes (N, 512, 2, 2) to faces in [-1, 1], (N, 3, 128, 128), by one linear layer and the principal
    components that ``learn`` has found.
    """

    mean: Tensor
    components: Tensor

    def __init__(self) -> None:
        super().__init__()
        # in standard deviations; it starts from the mean face
        self.read = nn.Linear(CODE, COMPONENTS)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        length = 3 * FACE_PX * FACE_PX
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("components", torch.zeros(COMPONENTS, length))

    def learn(self, real: Tensor) -> None:
        """Take the mean and the components of real faces, uint8 (n, 128, 128, 3).

        Equal faces give equal ones on one machine. Fewer faces than components leave the last ones at zero.
        """
        some = real[:: -(-len(real) // FACES)]
        faces = torch.cat([_laid_out(part) for part in some.split(CHUNK)]).cpu()   # (n, 3 * 64 * 64)
        mean = faces.mean(0)
        count = min(COMPONENTS, len(faces) - 1)

        # the subspaces that the search begins with are drawn, of a seed of their own
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, sizes, directions = torch.pca_lowrank(faces - mean, count, center=False)
        self.mean.copy_(mean)
        self.components[:count].copy_((directions * sizes / len(faces) ** 0.5).T)

    def of(self, real: Tensor) -> Tensor:
        """The components, in standard deviations (n, COMPONENTS), of real faces, uint8 (n, 128, 128, 3)."""
        sizes = self.components.square().sum(1).clamp_min(1e-12)
        parts = [(_laid_out(part) - self.mean) @ self.components.T / sizes for part in real.split(CHUNK)]
        return torch.cat(parts)

    def faces(self, read: Tensor) -> Tensor:
        """Faces in [-1, 1], (N, 3, 128, 128), of components in standard deviations, (N, COMPONENTS)."""
        small = torch.addmm(self.mean, read, self.components).view(-1, 3, FACE_PX, FACE_PX)
        return F.interpolate(small, scale_factor=2, mode="bilinear")

    def forward(self, code: Tensor) -> Tensor:
        read = self.read(code.contiguous().flatten(1))
        # a bf16 face moves in steps of half a grey level
        with torch.autocast(code.device.type, enabled=False):
            return self.faces(read.float())


def _laid_out(real: Tensor) -> Tensor:
    """uint8 (n, 128, 128, 3) to (n, 3 * 64 * 64) in [-1, 1]."""
    faces = 2 * as_faces(real) - 1
    return F.avg_pool2d(faces, faces.shape[-1] // FACE_PX).flatten(1)


@dataclass(frozen=True)
class Config(OfIFRP):
    """IFRP's, by default with the pixel loss alone."""

    losses: str = "srn"


class Encoder(IFRP):
    """SRN's encoder and the linear layer, which stands among the network's parts."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.eigenfaces = setup.place(Eigenfaces())
        if setup.training is not None:
            self.eigenfaces.learn(setup.training.real)
        # a part of the network: kept, averaged and trained with it, so the optimiser is made anew
        self.network.eigenfaces = self.eigenfaces
        self.optimizers = self._optimizers() if setup.trains else {}
        self.call_grown = self.read

    def read(
        self, stylized: Tensor, px: int, share: Tensor | None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Faces (N, 3, 128, 128), and STN1's four numbers, in place of ``Grown``'s."""
        code, parameters, _ = self.grown.srn.bottleneck(stylized, told)
        return self.eigenfaces(code), parameters

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        self.grown.eval()
        return to_unit(self.read(2 * stylized - 1, 128, None)[0])


def build(config: Config, setup: Setup) -> Encoder:
    return Encoder(config, setup)


# at 128x128 from the first step: nothing grows
METHOD = Method(
    Config, build,
    presets={name: {**preset, "grow_32": 0.0, "grow_64": 0.0} for name, preset in PRESETS.items()},
)

"""What a code of 2x2x512 can hold: SRN without its STNs as an autoencoder of upright real faces.

    ifrp-bench train --method benchmarks/ceiling.py --data data/lfw --preset cpu

The SF is never looked at while training; what a face comes back as is what ``network`` makes of the face
itself.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from ifrp_bench.methods import Method, Pairs, Setup
from ifrp_bench.methods.ifrp import IFRP, PRESETS, stages
from ifrp_bench.methods.ifrp import Config as OfIFRP


@dataclass(frozen=True)
class Config(OfIFRP):
    """IFRP's, by default without STNs and with the pixel loss alone."""

    network: str = "srn-0stn"
    losses: str = "srn"


class Autoencoder(IFRP):
    """Real faces to themselves; ``recover`` shows what becomes of the real face where it is given."""

    def step(self, batch: Pairs) -> dict:
        return super().step(replace(batch, stylized=batch.real))

    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        return super().recover(stylized if real is None else real)


def build(config: Config, setup: Setup) -> Autoencoder:
    return Autoencoder(config, setup)


METHOD = Method(
    Config, build,
    presets={name: {**preset, "align_weight": 0.0} for name, preset in PRESETS.items()}, stages=stages,
)

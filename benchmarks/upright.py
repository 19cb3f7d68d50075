"""What SRN's STNs cost: SRN without them, on SFs brought upright by the stored warps.

    ifrp-bench train --method benchmarks/upright.py --data data/lfw --preset cpu

Evaluated under ``oracle``, where its SFs are upright.
"""

from ifrp_bench.methods import Method
from ifrp_bench.methods.ifrp import IFRP, PRESETS, build, stages

from benchmarks.ceiling import Config

METHOD = Method(
    Config, build,
    presets={name: {**preset, "align_weight": 0.0} for name, preset in PRESETS.items()},
    stages=stages, exports=IFRP.inference, sees="upright", headline="oracle",
)

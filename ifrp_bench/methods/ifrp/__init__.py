"""Identity-preserving Face Recovery from Portraits (Shiri, Yu, Porikli, Hartley, Koniusz, WACV 2018), with
its ablations.

A style removal network (SRN: encoder with spatial transformers, bottleneck, decoder) learns from a pixel
loss, a discriminative network (DN) and the distance of perceptual features, which is what keeps the identity.
``network.py`` has the published tables, ``fast.py`` the exact rewrite that is trained, ``growing.py`` an
option that grows it, ``method.py`` losses and schedules.
"""

from ifrp_bench.methods import Method, Variant, reported
from ifrp_bench.methods.ifrp.growing import stages
from ifrp_bench.methods.ifrp.method import IFRP, PRESETS, Config, build

# the release has three STNs and is the default; the paper's four are a setting, its ablations have rows of
# their own
METHOD = Method(
    Config, build,
    presets=PRESETS,
    stages=stages,
    exports=IFRP.inference,
    row=90,
    reported=reported(27.08, 0.93, 24.83, 0.91, 24.89, 0.92, 86.93, 74.52, 91.05, 92.06),
    variants={   # rows of the paper's ablation, and ours
        "srn": Variant(
            "IFRP's ablation: SRN with the pixel loss alone", {"losses": "srn"}, row=70,
            reported=reported(25.12, 0.89, 24.09, 0.88, 24.13, 0.89),
        ),
        "srn-dn": Variant(
            "IFRP's ablation: SRN and DN without the identity loss", {"losses": "srn-dn"}, row=80,
            reported=reported(25.25, 0.90, 24.25, 0.89, 24.56, 0.90),
        ),
        "ifrp-4x4": Variant(
            "IFRP with a code of 4x4 places in place of 2x2, ours", {"network": "srn-4x4"}, row=95
        ),
        "ifrp-skips": Variant(
            "IFRP whose encoder passes on its upright maps, ours", {"network": "srn-skips"}, row=96
        ),
    },
)

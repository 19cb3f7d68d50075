"""ifrp-bench: synthesize, train and evaluate face recovery from stylized portraits.

The toolkit around "Identity-preserving Face Recovery from Portraits" (Shiri, Yu, Porikli, Hartley, Koniusz,
WACV 2018). Importing the package loads nothing heavy: torch, OpenCV and h5py come with the module that needs
them.

    import ifrp_bench
    face = ifrp_bench.destylize("portrait.jpg")   # uint8 (266, 214, 3) RGB
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``destylize``, imported when it is first asked for."""
    if name == "destylize":
        from ifrp_bench.recovery.call import destylize

        return destylize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Memory of large tensors, kept for the next step instead of given back to the system: on Linux every
training step else pays for fresh pages.
"""

import ctypes
import ctypes.util
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8   # of mallopt(3)


def keep() -> bool:
    """Tell glibc to take large blocks from its heap, one for all threads, and never to shrink it; returns
    whether it did. Another system is left as it is.

    A step at 128x128 took 3.9 s with the default settings and 2.4 s with these (two cores, batch 64;
    ``benchmarks/results.md``).
    """
    if not sys.platform.startswith("linux") or "libc" not in (ctypes.util.find_library("c") or ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(
        mallopt
        and mallopt(_MMAP_MAX, 0)
        and mallopt(_ARENA_MAX, 1)
        and mallopt(_TRIM_THRESHOLD, -1)
        and mallopt(_TOP_PAD, 2**28)
    )

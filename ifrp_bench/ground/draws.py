"""Random draws as a function of a key, never of order: the reason why any worker count, batch size and
restart give the same bytes.
"""

import hashlib

import numpy as np


def generator(*key: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, for example ``generator(seed, "warp", "train", face, style)``.

    Philox is counter-based (Salmon et al. 2011); its 128-bit key is the BLAKE2b hash of the given parts, so
    two different keys give independent streams and the same key gives the same stream on every machine.
    """
    text = "\x1f".join(str(part) for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

"""Which precision is fast on the hardware at hand: bfloat16 where there are instructions for it, float32
elsewhere.

A CPU without them does bfloat16 in small steps, ten to hundreds of times slower than float32
(``benchmarks/results.md``).
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def has_bfloat16(device: str) -> bool:
    """Whether ``device`` (``cpu`` or ``cuda``) multiplies in bfloat16: AVX-512 or AMX with bf16, Arm's BF16,
    a GPU from Ampere on.

    Not where torch is told to do without these, ``ATEN_CPU_CAPABILITY=avx2``.
    """
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine().lower() in ("x86_64", "amd64"):
        there = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return there and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "NO AVX", "DEFAULT")
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fast_precision(device: str) -> str:
    """``bfloat16`` or ``float32``."""
    return "bfloat16" if has_bfloat16(device) else "float32"


def autocast(device: str) -> torch.autocast:
    """Networks in the precision that is fast.

    Enter it anew in every step: it keeps its copies of the weights until it is left.
    """
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=has_bfloat16(device))


def exact_float32(device: str) -> None:
    """Float32 as it stands: no TF32, which would take a GPU's pixels away from a CPU's, and the same kernels
    every time.
    """
    import torch

    if device != "cpu":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True

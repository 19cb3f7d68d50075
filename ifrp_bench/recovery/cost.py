"""What a trained method costs to use: parameters, operations and time of one face."""

import statistics
import sys
from typing import Any

import numpy as np
import torch

from ifrp_bench.data.runs import Run
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.ground.timing import call_seconds
from ifrp_bench.nets.recogniser import probe_face
from ifrp_bench.recovery.trained import load_trained, recover

TIMES = 15   # that one face is recovered
BUSY = 1.5   # median by best: by itself 1.15 where others use the host, too (docs/align-restore.md)


def cost_of(run: Run, device: str = "cpu", *, latency_ms: float | None = None) -> dict[str, Any]:
    """``parameters``, ``operations`` (floating-point, of one face), ``latency_ms`` (median of one face at a
    time, measured unless it is given) and ``latency_machine``; None each for a method that is no network.
    """
    trained = load_trained(run, device=device) if run.has("last") else None
    network = trained.method.network if trained else None
    if trained is None or network is None:
        return dict.fromkeys(("parameters", "operations", "latency_ms", "latency_machine"))
    face = probe_face()
    method = trained.method
    if latency_ms is None:
        latency_ms = _latency_ms(method, face, device)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "operations": _operations(method, face, device),
        "latency_ms": round(latency_ms, 2),
        "latency_machine": fingerprint(device),
    }


def _latency_ms(method: Any, face: np.ndarray, device: str) -> float:
    """Says so where the machine was too busy for the time to be the method's."""
    seconds = call_seconds(lambda: recover(method, face, device=device), TIMES, warm=2)
    median_ms, best_ms = 1000 * statistics.median(seconds), 1000 * min(seconds)
    if median_ms > BUSY * best_ms:
        took = f"one face took {median_ms:.1f} ms in the median and {best_ms:.1f} at best of {len(seconds)}"
        mend = "submit again with --replace when it is not, or say --latency-ms"
        print(f"note: {took}: this machine is busy; {mend}", file=sys.stderr)
    return median_ms


def _operations(method: Any, face: np.ndarray, device: str) -> float:
    """As torch counts those of convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    faces = torch.from_numpy(face).to(device).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        method.recover(faces)
    return float(counter.get_total_flops())

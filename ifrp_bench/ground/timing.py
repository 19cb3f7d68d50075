"""How long a piece of work takes on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def median_seconds(function: Callable[[], Any], timed: int, warm: int = 1) -> float:
    """Of ``timed`` calls after ``warm`` others: allocations, kernels chosen, compiled graphs."""
    taken = []
    for _ in range(timed + warm):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[warm:])

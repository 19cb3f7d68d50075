"""How long a piece of work takes on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def median_seconds(
    function: Callable[[], Any], timed: int, warm: int = 1, enough: float | None = None
) -> float:
    """Of ``timed`` calls after ``warm`` others: allocations, kernels chosen, compiled graphs.

    Once ``enough`` seconds are timed, two calls will do.
    """
    taken: list[float] = []
    while len(taken) < timed + warm:
        of = taken[warm:]
        if enough is not None and len(of) >= 2 and sum(of) >= enough:
            break
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[warm:])

"""How long a piece of work takes on this machine."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any


def median_seconds(
    function: Callable[[], Any], timed: int, warm: int = 1, enough: float = math.inf
) -> float:
    """The median of ``call_seconds``."""
    return statistics.median(call_seconds(function, timed, warm, enough))


def call_seconds(
    function: Callable[[], Any], timed: int, warm: int = 1, enough: float = math.inf
) -> list[float]:
    """What each took of ``timed`` calls after ``warm`` others: allocations, kernels chosen, compiled graphs.

    Once ``enough`` seconds are timed, two calls will do.
    """
    for _ in range(warm):
        function()
    taken: list[float] = []
    while len(taken) < timed and (len(taken) < 2 or sum(taken) < enough):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return taken

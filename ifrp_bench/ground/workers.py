"""Independent pieces of work over a few processes, results in order,
with nothing left running when the parent is killed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.launch import find_place

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """One process for each core that this process may use; 0, the process itself, on a single core.

    Those of a machine that were started by one launcher share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= find_place().local_world
    return cores if cores > 1 else 0


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    initializer: Callable[..., None],
    arguments: tuple[Any, ...]
) -> Iterator[Result]:
    """``function`` of each item, in the items' order, on ``workers`` processes (0: here). ``initializer``
    prepares each process once.

    Torch runs on one thread for each process, this one included; workers are spawned (a forked torch can
    hang) and end by themselves when their parent is gone. At most two items for each worker are under way, so
    memory does not grow with their number.
    """
    if workers == 0:
        with one_thread():
            initializer(*arguments)
            yield from map(function, items)
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), _start_worker, (os.getpid(), initializer, arguments)
    ) as pool:
        todo = iter(items)
        pending: list[Future[Result]] = [pool.submit(function, item) for item in islice(todo, 2 * workers)]
        try:
            while pending:
                result = pending.pop(0).result()
                pending.extend(pool.submit(function, item) for item in islice(todo, 1))
                yield result
        except BrokenProcessPool:
            raise InputError(
                "a worker process was ended from outside, most likely for want of memory; run again with"
                " fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def on_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of each item, in order, on one thread a core with one torch thread each: the same bytes on
    any number of cores.

    For work that leaves Python's lock, as networks and array operations do.
    """
    with one_thread(), ThreadPoolExecutor(
        default_workers() or 1, initializer=_set_threads, initargs=(1, 1)
    ) as pool:
        return list(pool.map(function, items))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and OpenCV on one thread: sums over several come out in another order, and pixels with them."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    _set_threads(1, 1)
    try:
        yield
    finally:
        _set_threads(*before)


def _set_threads(for_torch: int, for_opencv: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(for_torch)
    cv2.setNumThreads(for_opencv)


def _start_worker(parent: int, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)   # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _set_threads(1, 1)
    initializer(*arguments)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)

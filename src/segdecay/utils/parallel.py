"""Apply a function to many files on all cores: results come in the order of the files, and few wait in memory.

Threads are used, since decoders, hashes and writes release Python's global lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # finished results per core that may wait in memory


def count_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def ordered_map(work: Callable[[T], R], items: Iterable[T], *, cores: int | None = None) -> Generator[R, None, None]:
    """Apply `work` to every item on `cores` threads (default: all cores); results and errors keep the items' order.

    Closing the generator cancels the work that has not begun.

    >>> list(ordered_map(lambda number: number * number, range(5)))
    [0, 1, 4, 9, 16]
    """
    cores = count_cores() if cores is None else cores
    if cores == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(cores, thread_name_prefix="read")
    waiting = deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > AHEAD * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

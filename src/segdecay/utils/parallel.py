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

AHEAD = 2  # results a core that may wait to be taken: they are held in memory
MOST_HELD = 310 << 20  # bytes that items in work and results that wait may need together


def count_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def ordered_map(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    cores: int | None = None,
    weigh: Callable[[T], int] | None = None,
) -> Generator[R, None, None]:
    """`work` of every item, in the items' order, on all cores (or so many); an error is raised in its turn.

    weigh: bytes that an item needs while it is worked on and waits; another one begins only where all together need at
    most MOST_HELD, or alone. Whoever stops taking results stops the work: what has not begun is dropped.

    >>> list(ordered_map(lambda number: number * number, range(5)))
    [0, 1, 4, 9, 16]
    """
    cores = count_cores() if cores is None else cores
    if cores == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(cores, thread_name_prefix="read")
    waiting, held = deque[tuple[Future[R], int]](), 0
    try:
        for item in items:
            weight = weigh(item) if weigh is not None else 0
            while waiting and (len(waiting) > AHEAD * cores or held + weight > MOST_HELD):
                yield waiting[0][0].result()
                held -= waiting.popleft()[1]
            waiting.append((pool.submit(work, item), weight))
            held += weight
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

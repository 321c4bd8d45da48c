"""Results that a thread prepares while others are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

AHEAD = 2  # batches that are prepared ahead
T = TypeVar("T")


@contextmanager
def ahead(jobs: Sequence[Callable[[], T]], count: int) -> Iterator[Iterator[T]]:
    """The results of the jobs in their order; `count` of them are prepared by a thread, 0: each when it is asked for.

    An error of a job is raised where its result is asked for. At the end of the context the thread has ended.

    >>> with ahead([lambda: 1, lambda: 2, lambda: 3], 2) as results:
    ...     list(results)
    [1, 2, 3]
    """
    if not count or not jobs:
        yield (job() for job in jobs)
        return
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "segdecay-batches", torch.set_num_threads, (threads,)) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            yield _in_turn(pool, jobs, waiting, count)
        finally:
            for future in waiting:
                future.cancel()


def _in_turn(
    pool: ThreadPoolExecutor, jobs: Sequence[Callable[[], T]], waiting: deque[Future[T]], count: int
) -> Iterator[T]:
    left = iter(jobs)
    for job in left:
        waiting.append(pool.submit(job))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

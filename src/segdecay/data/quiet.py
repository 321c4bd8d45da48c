"""Warnings of decoders, kept from people while several threads decode. Knows nothing of files.

`warnings.catch_warnings` changes the filters of the whole process and is not made for threads: where two overlap, the
first to end takes the other's silence away, and the last one leaves it behind for good.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LOCK = threading.Lock()
_INSIDE = 0  # threads that want silence now
_CAUGHT = ExitStack()


@contextmanager
def no_warnings() -> Iterator[None]:
    """No warning is shown or raised until the last thread inside has left; then filters are as they were."""
    global _INSIDE  # noqa: PLW0603  (as the filters, which belong to the process)
    with _LOCK:
        if not _INSIDE:
            _CAUGHT.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _INSIDE += 1
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if not _INSIDE:
                _CAUGHT.close()

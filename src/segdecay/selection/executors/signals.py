"""Signals that stop a run, held back for a moment. Knows nothing of cells or processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


@contextmanager
def signals_wait() -> Iterator[None]:
    """What would stop this process within does so after it; elsewhere than in the main thread nothing is held back."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: Any) -> None:
        came.append(number)

    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) is not None:  # None: set by other code, which cannot be given back
                before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)

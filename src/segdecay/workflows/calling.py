"""What the process that calls a function may start, and who is told how it goes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segdecay.errors import ConfigError
from segdecay.workflows.progress import ConsoleWatcher, build_watcher


def main_reason() -> str | None:
    """Why workers cannot start from the script that is run; None where they can."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None:
        return None
    if not Path(file).is_file():  # "<stdin>", or a script that was removed since
        return f"the script is {file}, which is no file that workers could import"
    if "__name__" in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return f'{Path(file).name} has no `if __name__ == "__main__":`, so every worker would run it anew'


def refuse_devices(devices: int) -> None:
    """Refuse several devices to a script of which no process can be started.

    Raises:
        ConfigError: each of them would be a process that runs the script anew.
    """
    reason = main_reason() if devices > 1 else None
    if reason is not None:
        raise ConfigError(f"devices={devices}: {reason}. Put the call below that line, or use one device.")


def refuse_worker() -> None:
    """Refuse to begin a run while a worker imports the script that began it.

    Raises:
        ConfigError: it does.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "A worker imports this script and would start the same run again. Put the call below "
            '`if __name__ == "__main__":`, or take workers=0.'
        )


@contextmanager
def watching(workers: int | None, *, quiet: bool) -> Iterator[tuple[int | None, ConsoleWatcher]]:
    """How many workers can be had from here, and who is told how it goes."""
    refuse_worker()
    if workers is not None and (not isinstance(workers, int) or workers < 0):
        raise ConfigError(f"workers= takes 0 (this process) or more; saw {workers!r}.")
    with build_watcher(quiet=quiet, as_json=False) as watcher:
        reason = None if workers == 0 else main_reason()
        if reason is not None:
            watcher.say(f"Trainings run in this process, one after the other: {reason}.")
        yield 0 if reason is not None else workers, watcher

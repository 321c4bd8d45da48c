"""Commands that write a checkpoint after every step, and killing them at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DRIVER = """
import sys
from pathlib import Path
from segdecay.workflows.request import build_config
from segdecay.workflows.progress import build_watcher
from segdecay.execution.options import Execution
from segdecay.workflows.{verb} import {verb}
if __name__ == "__main__":
    data, run, *settings = sys.argv[1:]
    config = build_config(data, None, settings, {{}})
    with build_watcher(quiet=False, as_json=False) as watcher:
        {verb}(config, Path(run), Execution(workers={workers}, device="cpu", checkpoint_every_s=0.0), watcher)
"""


def write_driver(folder: Path, verb: str, workers: int = 1) -> Path:
    """driver.py DATA RUN KEY=VALUE...: `tune` or `train`."""
    path = folder / "driver.py"
    path.write_text(DRIVER.format(verb=verb, workers=workers), encoding="utf-8")
    return path


def kill_when(
    command: list[str],
    ready: Callable[[float], bool],
    timeout_s: float = 600.0,
    kill: Callable[[int, int], None] = os.killpg,
) -> bool:
    """Start a command, and kill its process group (or, with os.kill, only the driver) as soon as `ready` is true;
    returns False if it ended before.
    """
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        if ready(time.monotonic() - start):
            kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        assert time.monotonic() - start < timeout_s
        time.sleep(0.001)
    return False

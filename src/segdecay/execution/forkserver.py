"""Imported by the fork server for its side effect: the server ignores signals that are sent to the whole process group.

Such signals stop the driver, and the driver stops its workers; if the server ended too, the exit codes of the workers
would be lost. A worker inherits these handlers, so that Ctrl-C before it has set its own prints no traceback.
"""

from __future__ import annotations

import signal
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):  # any other import has no effect
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

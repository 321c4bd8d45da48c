"""Imported by the fork server before any worker, for its effect: signals for the whole group leave the server alone.

They stop the driver, and the driver stops its workers; the server, whose end would hide theirs, stays. A worker begins
with what the server had here: Ctrl-C in the moment before it has set its own would print a traceback.
"""

from __future__ import annotations

import signal
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):  # any other import has no effect
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

"""A lease on a folder for one driver at a time, for file systems whose locks are not reliable.

The holder writes its name and a counter to a file by renaming, so neither locks nor modification times are needed. A
holder is alive while its counter changes; the reader measures this on its own monotonic clock, so the clocks of
machines need not agree. On one kernel the process number decides at once. No result depends on the lease, since every
file is renamed into place and every trial is a function of its task alone; the lease only avoids duplicate work.
"""

from __future__ import annotations

import _thread
import json
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BEAT_S = 2.0
WATCH_S = 15.0  # several beats: a holder without a beat for this time is dead, or will notice that it lost the folder


@dataclass(frozen=True)
class Holder:
    """The process that holds a folder."""

    host: str
    pid: int
    kernel: str  # boot and namespace in which `pid` is valid; empty: unknown
    token: str
    count: int = 0

    def words(self) -> str:
        """The holder in words.

        >>> Holder("ada", 7, "", "t").words()
        'process 7 on ada'
        """
        return f"process {self.pid} on {self.host}"


class HeldError(Exception):
    """A driver that is alive holds the folder."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder.words())
        self.holder = holder


@dataclass
class Lease:
    """The right to work on a folder. `lost`: the new holder, if another driver took it over from a sleeping one."""

    path: Path
    beat_s: float = BEAT_S
    watch_s: float = WATCH_S
    lost: Holder | None = None
    _own: Holder = field(default_factory=lambda: Holder(platform.node(), os.getpid(), _kernel(), uuid.uuid4().hex))
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def take(self, say: Callable[[str], None] = lambda _line: None) -> None:
        """Take the lease, also from a dead holder, and renew it in a thread until `release`.

        Raises:
            HeldError: the holder is alive.
            OSError: the folder cannot be written.
        """
        while not self._create():
            found = read_holder(self.path)
            if found is None or may_live(found):
                say(
                    f"Checking for up to {self.watch_s:g} s whether another segdecay still works on {self.path.parent}."
                )
                if self._is_given_back(found):
                    continue
            self._write()
            winner = read_holder(self.path)
            if winner is not None and winner.token != self._own.token:
                raise HeldError(winner)
            break
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop renewing, and remove the file if it is still ours."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        found = read_holder(self.path)
        if found is not None and found.token == self._own.token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Create the file; returns whether there was none. This is atomic on network file systems too."""
        try:
            with self.path.open("x", encoding="utf-8") as file:
                json.dump(asdict(self._own), file)
        except FileExistsError:
            return False
        return True

    def _write(self) -> None:
        beside = self.path.with_name(f".{self._own.token}.part")
        beside.write_text(json.dumps(asdict(self._own)), encoding="utf-8")
        beside.replace(self.path)

    def _is_given_back(self, first: Holder | None) -> bool:
        """Watch the holder: True when it releases the lease, False after WATCH_S without a beat.

        Raises:
            HeldError: its counter changed.
        """
        start = time.monotonic()
        while time.monotonic() - start < self.watch_s:
            time.sleep(min(0.5, self.beat_s))
            found = read_holder(self.path)
            if found is not None and found != first:
                raise HeldError(found)
            if not self.path.exists():
                return True
            if first is not None and not may_live(first):
                return False
        return False

    def _beat(self) -> None:
        while not self._ended.wait(self.beat_s):
            found = read_holder(self.path)
            if found is not None and found.token != self._own.token:
                self.lost = found
                _interrupt_main()
                return
            self._own = replace(self._own, count=self._own.count + 1)
            try:
                self._write()
            except OSError:  # a full disk or an unreachable server: the next beat tries again
                continue


def read_holder(path: Path) -> Holder | None:
    """The present holder by the file; None if the file is missing or half written."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**values)
    except (OSError, ValueError, TypeError):
        return None


def _kernel() -> str:
    """The scope of process numbers: boot of the machine and namespace; empty if the system does not tell them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def may_live(holder: Holder) -> bool:
    """Whether a holder may be alive: False if its process number belongs to this kernel and is not in use."""
    if not holder.kernel or holder.kernel != _kernel():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # a process of another user
    return True


def _interrupt_main() -> None:
    """Stop the main thread as a scheduler would, or as Ctrl-C does."""
    is_handled = callable(signal.getsignal(signal.SIGTERM))
    _thread.interrupt_main(signal.SIGTERM if is_handled else signal.SIGINT)

"""Cells in processes of their own: one thread each on a CPU, one process for each GPU otherwise.

A worker that dies takes only its cell with it. Workers watch the driver: when it is gone, they go too. Knows tasks and
processes; nothing of settings, statistics or pages.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Protocol

from segdecay.errors import DiskFullError, SegdecayError, describe_os_error
from segdecay.training.setup import CellTask

TRIES = 2  # of a cell whose process is killed from outside
STOP_WITHIN_S = 60.0


@dataclass(frozen=True)
class Event:
    """What happened to a cell: "started", "progress", "finished" or "failed"."""

    kind: str
    task: CellTask
    epoch: int = 0
    reason: str | None = None


Source = Callable[[], CellTask | None]  # asked whenever a worker is free; None: nothing to do now


class Executor(Protocol):
    """Runs cells; results are in their folders, events tell how it goes."""

    def run(self, tasks: Sequence[CellTask] | Source, on_event: Callable[[Event], None]) -> None:
        """Run tasks to their end, until a source has none and none is running; a failed cell is an event.

        Raises:
            DiskFullError: as soon as one cell finds no room, so that the others need not find out too.
        """


def source_of(tasks: Sequence[CellTask] | Source) -> Source:
    """A list of tasks as a source that gives them in their order."""
    if callable(tasks):
        return tasks
    left = iter(tasks)
    return lambda: next(left, None)


def _advice(error: BaseException, task: CellTask) -> str:
    """What a failed cell says: our own errors as they are, files with their path, memory with what to lower."""
    import torch

    if isinstance(error, SegdecayError):
        return str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        size = task.config.training.batch_size
        return f"out of memory: lower training.batch_size (now {size}), --size or --workers ({error})"
    if isinstance(error, OSError):
        return f"a file could not be read or written ({describe_os_error(error)})"
    return f"{type(error).__name__}: {error}"


def _full_disk(error: BaseException, task: CellTask) -> str | None:
    """The path where no room was left, where that is what an error says."""
    if not DiskFullError.is_told_by(error):
        return None
    return str(getattr(error, "filename", None) or getattr(error, "path", task.folder))


def _work(task: CellTask, connection: Connection) -> None:
    """Body of a worker process: train, and say in one JSON line how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver tells us to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asked = threading.Event()

    def watch() -> None:
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone: nobody waits for this cell, its checkpoint stays
        asked.set()

    threading.Thread(target=watch, daemon=True).start()

    def say(**values: Any) -> None:
        connection.send_bytes(json.dumps(values).encode())

    from segdecay.training.running import Interrupted, run_task

    try:
        run_task(task, stop=asked.is_set, report=lambda epoch, _epochs: say(kind="progress", epoch=epoch))
        say(kind="finished")
    except Interrupted:
        say(kind="interrupted")
    except Exception as error:  # noqa: BLE001 - whatever a cell raises is its own failure, told to the driver
        if not isinstance(error, (SegdecayError, OSError)):
            traceback.print_exc(file=sys.stderr)
        say(kind="failed", reason=_advice(error, task), full_disk=_full_disk(error, task))


def worker_context() -> BaseContext:
    """Processes forked from a small server that has imported torch but never used it; fresh ones elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segdecay.training.running"])
    return context


@dataclass
class _Running:
    process: Any
    connection: Connection
    task: CellTask
    slot: str
    ended: str | None = None
    reason: str | None = None
    full_disk: str | None = None


class LocalExecutor:
    """Up to `workers` cells at a time on this machine, each in a process of its own."""

    def __init__(self, workers: int, devices: Sequence[str]) -> None:
        self._slots = [devices[i % len(devices)] for i in range(workers)]
        self._context = worker_context()

    def run(self, tasks: Sequence[CellTask] | Source, on_event: Callable[[Event], None]) -> None:
        """Run every task; Ctrl-C, or a full disk, keeps the state of the running ones before it goes on its way."""
        source, waiting = source_of(tasks), deque[CellTask]()  # waiting: those whose process was killed
        tries: dict[Path, int] = {}
        free, running = list(reversed(self._slots)), dict[int, _Running]()
        try:
            while True:
                while free and (task := waiting.popleft() if waiting else source()) is not None:
                    slot = free.pop()
                    tries[task.folder] = tries.get(task.folder, 0) + 1
                    started = self._start(task, slot)
                    running[started.process.sentinel] = started
                    on_event(Event("started", task))
                if not running:
                    return
                for one in self._wait(running, on_event):
                    del running[one.process.sentinel]
                    free.append(one.slot)
                    self._conclude(one, tries, waiting, on_event)
        finally:
            self._stop(list(running.values()))

    def _start(self, task: CellTask, slot: str) -> _Running:
        ours, theirs = self._context.Pipe()
        on_slot = task if task.device == slot else CellTask(**{**task.__dict__, "device": slot})
        process = self._context.Process(target=_work, args=(on_slot, theirs), daemon=False)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        return _Running(process, ours, task, slot)

    def _wait(self, running: dict[int, _Running], on_event: Callable[[Event], None]) -> list[_Running]:
        """Pass on what workers say; return those whose process has ended."""
        by_connection = {id(one.connection): one for one in running.values() if not one.connection.closed}
        ready = wait([*running, *(one.connection for one in by_connection.values())], timeout=1.0)
        for item in ready:
            if isinstance(item, Connection):
                self._listen(by_connection[id(item)], on_event)
        ended = [one for sentinel, one in running.items() if sentinel in ready]
        for one in ended:
            while not one.connection.closed:
                self._listen(one, on_event)
            one.process.join()
        return ended

    @staticmethod
    def _listen(one: _Running, on_event: Callable[[Event], None]) -> None:
        try:
            said = json.loads(one.connection.recv_bytes())
        except (EOFError, OSError):
            one.connection.close()
            return
        if said["kind"] == "progress":
            on_event(Event("progress", one.task, epoch=said["epoch"]))
        else:
            one.ended, one.reason, one.full_disk = said["kind"], said.get("reason"), said.get("full_disk")

    @staticmethod
    def _conclude(
        one: _Running, tries: dict[Path, int], waiting: deque[CellTask], on_event: Callable[[Event], None]
    ) -> None:
        if one.ended == "finished":
            on_event(Event("finished", one.task))
        elif one.full_disk is not None:
            raise DiskFullError(one.full_disk)
        elif one.ended == "failed":
            on_event(Event("failed", one.task, reason=one.reason))
        elif tries[one.task.folder] < TRIES:
            waiting.append(one.task)  # its checkpoint is there; it goes on from it
        else:
            code = one.process.exitcode
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            reason = f"its process was {how}, {TRIES} times: often too little memory; lower --workers or batch_size"
            on_event(Event("failed", one.task, reason=reason))

    @staticmethod
    def _stop(left: list[_Running]) -> None:
        """Ask workers to keep their state and end; end those that do not listen."""
        for one in left:
            if not one.connection.closed:
                try:
                    one.connection.send_bytes(b"stop")
                except OSError:  # it ended just now
                    one.connection.close()
        for one in left:
            one.process.join(STOP_WITHIN_S)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()


class InlineExecutor:
    """Cells one after the other in this process: for debugging and for tests of what surrounds them."""

    def run(self, tasks: Sequence[CellTask] | Source, on_event: Callable[[Event], None]) -> None:
        """Run every task here."""
        from segdecay.training.running import run_task

        source = source_of(tasks)
        while (task := source()) is not None:
            on_event(Event("started", task))
            try:
                run_task(task, report=lambda epoch, _epochs, task=task: on_event(Event("progress", task, epoch)))  # type: ignore[misc]
            except (SegdecayError, OSError) as error:
                path = _full_disk(error, task)
                if path is not None:
                    raise DiskFullError(path) from error
                on_event(Event("failed", task, reason=_advice(error, task)))
            else:
                on_event(Event("finished", task))


def find_devices(wanted: str) -> list[str]:
    """The devices cells may use: every GPU for "auto" where there is one, else the CPU.

    Raises:
        SegdecayError: a device that is not there.
    """
    import torch

    found = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cpu" or (wanted == "auto" and not found):
        return ["cpu"]
    every = [f"cuda:{index}" for index in range(found)]
    if wanted in ("auto", "cuda") and every:
        return every
    if wanted in every:
        return [wanted]
    raise SegdecayError(f"--device {wanted}: not there. Found: {', '.join(['cpu', *every])}. Use auto or one of these.")


def default_workers(devices: Sequence[str]) -> int:
    """One worker a GPU; on a CPU one worker a core."""
    if devices[0] != "cpu":
        return len(devices)
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)

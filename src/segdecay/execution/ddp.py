"""One training over several devices of this machine: one process per device, watched by the process that starts them.

If one process ends early the others are ended too, since they would wait for it.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from segdecay.execution.outcome import Outcome, outcome_of
from segdecay.execution.process import line_to_driver, settle_signals, worker_context
from segdecay.training.setup import TrialTask

LOOK_EVERY_S = 0.2
CAUSE_WITHIN_S = 1.0  # within which a killed process is seen as ended
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # network interfaces of the process group
LOOPBACK = "lo"  # its name on Linux


@dataclass
class _Member:
    process: Any
    connection: Connection
    outcome: Outcome | None = None


def run_spread(task: TrialTask, stop: Callable[[], bool], report: Callable[[int, int], None]) -> Outcome:
    """Train a trial on all its devices; arguments as of `work_on`."""
    if (task.folder / "trial.json").exists():
        return Outcome("finished")
    with tempfile.TemporaryDirectory(prefix="segdecay-") as folder:
        members = _start(task, Path(folder) / "meeting")
        try:
            return _watch(members, stop, report)
        finally:
            for one in members:
                one.process.kill()
                one.process.join()
                one.connection.close()


def _start(task: TrialTask, meeting_point: Path) -> list[_Member]:
    context, members = worker_context(), list[_Member]()
    devices = task.spread.devices if task.spread else (task.device,)
    for rank, device in enumerate(devices):
        ours, theirs = context.Pipe()
        arguments = (replace(task, device=device), rank, meeting_point, theirs)
        process = context.Process(target=_share, args=arguments, daemon=False)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        members.append(_Member(process, ours))
    return members


def _watch(members: Sequence[_Member], stop: Callable[[], bool], report: Callable[[int, int], None]) -> Outcome:
    """Forward messages until the first process has finished, or any process has failed."""
    is_told = False
    while True:
        if stop() and not is_told:
            is_told = True
            with suppress(OSError):  # the process has just ended
                members[0].connection.send_bytes(b"stop")  # the first process stops the others at their next step
        by_connection = {id(one.connection): one for one in members if not one.connection.closed}
        ready = wait([one.connection for one in by_connection.values()], timeout=LOOK_EVERY_S)
        for item in ready:
            one = by_connection[id(item)]
            try:
                said = json.loads(one.connection.recv_bytes())
            except (EOFError, OSError):
                one.connection.close()
                if one.outcome is None:
                    return _died(members, one)
                continue
            if "epoch" in said:
                report(said["epoch"], said["epochs"])
            else:
                one.outcome = Outcome(**said)
                if one is members[0] or one.outcome.kind not in ("finished", "interrupted"):
                    return _first_cause(members, one, one.outcome)


def _first_cause(members: Sequence[_Member], one: _Member, said: Outcome) -> Outcome:
    """The outcome of a process; if it failed because another was killed, that cause."""
    if said.kind == "failed":
        silent = [other for other in members if other is not one and other.outcome is None]
        wait([other.process.sentinel for other in silent], timeout=CAUSE_WITHIN_S)
        killed = [other for other in silent if (other.process.exitcode or 0) < 0]
        if killed:
            return _died(members, killed[0])
    return said


def _died(members: Sequence[_Member], one: _Member) -> Outcome:
    one.process.join()
    code = one.process.exitcode
    how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    return Outcome("killed", f"the process of device {members.index(one) + 1} of {len(members)} was {how}")


def _share(task: TrialTask, rank: int, meeting_point: Path, connection: Connection) -> None:
    """Body of one process: train its share, and report the outcome as one JSON line."""
    if Path("/sys/class/net", LOOPBACK).exists():
        for name in INTERFACES:
            os.environ.setdefault(name, LOOPBACK)
    asked = threading.Event()
    settle_signals(asked)
    say = line_to_driver(connection, asked)

    def report(epoch: int, epochs: int) -> None:
        if rank == 0:
            say({"epoch": epoch, "epochs": epochs})

    say(asdict(_train(task, rank, meeting_point, asked.is_set, report)))


def _train(
    task: TrialTask, rank: int, meeting_point: Path, stop: Callable[[], bool], report: Callable[[int, int], None]
) -> Outcome:
    from segdecay.training.distributed import Ranks, join_group, leave_group
    from segdecay.training.loop import Interrupted, run_share

    ranks = Ranks(rank, len(task.spread.devices) if task.spread else 1)
    try:
        join_group(ranks, task.device, meeting_point)
        run_share(task, ranks, stop=stop, report=report)
        leave_group()
    except Interrupted:
        return Outcome("interrupted")
    except Exception as error:  # noqa: BLE001 - whatever a training raises is its own failure, told to who started it
        return outcome_of(error, task)
    return Outcome("finished")

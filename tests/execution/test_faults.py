"""Workers that hang, run out of memory or are stopped: each with real processes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from segdecay.execution import Attempts, Event, InlineExecutor, LocalExecutor, Outcome, Patience, work_on
from segdecay.execution.process import line_to_driver, worker_context
from segdecay.execution.retries import ESTIMATES, MEDIANS, AwakeClock
from segdecay.testing import small_trials as small
from segdecay.testing.executor_contract import interrupted, kinds_of, reason_of
from segdecay.testing.small_trials import SmallTrials, result_of, small_trials
from segdecay.training.setup import TrialTask


@pytest.fixture
def trials() -> Iterator[SmallTrials]:
    with small_trials() as found:
        yield found


QUICK_S, LONG_S = 1.5, 600.0  # silence that counts as a hang; nothing that is right is silent for so long


def _quick(estimate_s: float | None = None) -> Patience:
    return Patience(estimate_s, least_s=QUICK_S)


def _workers_of(folder: Path) -> list[int]:
    """Processes whose network noted a pass in `folder`."""
    return [int(path.stem) for path in folder.glob("*.times")]


def test_a_training_that_sleeps_is_ended_and_the_second_try_finishes(trials: SmallTrials) -> None:
    (task,), (other,) = trials.tasks("sleepy", 1, lines=small.SLEEPS_ONCE), trials.tasks("awake", 1)
    events: list[Event] = []
    patience = _quick()

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "again":  # the second try takes its time on a busy machine
            patience.least_s = LONG_S

    LocalExecutor(2, ["cpu"], patience).run([task, other], listen)
    assert [kind for kind in kinds_of(events, task) if kind != "progress"] == [
        "started",
        "again",
        "started",
        "finished",
    ]
    again = next(event.reason or "" for event in events if event.kind == "again")
    assert "no epoch ended for" in again
    assert f"over {MEDIANS:g} times the median trial" in again
    assert kinds_of(events, other)[-1] == "finished"


def test_one_that_always_sleeps_is_given_up_with_its_reason_before_any_trial_has_ended(trials: SmallTrials) -> None:
    (task,) = trials.tasks("asleep", 1, lines=small.SLEEPS_ALWAYS)
    events: list[Event] = []
    executor = LocalExecutor(1, ["cpu"], _quick())
    executor.expect(0.01)
    executor.run([task], events.append)
    assert kinds_of(events, task) == ["started", "again", "started", "failed"]
    assert f"over {ESTIMATES:g} times the expected 0.0 s of a trial" in reason_of(events, task)
    assert "2 times" in reason_of(events, task)


@pytest.mark.parametrize("epoch", [1, 20])
def test_a_worker_that_is_stopped_is_ended_and_its_trial_goes_on_from_its_checkpoint(
    trials: SmallTrials, epoch: int
) -> None:
    (task,) = trials.tasks("frozen", 1, lines=small.NOTES_TIMES, epochs=24)
    task = TrialTask(**{**task.__dict__, "checkpoint_every_s": 0.0})
    events: list[Event] = []
    stopped: list[int] = []
    patience = Patience(0.01, least_s=LONG_S)

    def freeze(event: Event) -> None:
        events.append(event)
        if event.kind == "progress" and event.epoch >= epoch and not stopped:
            stopped.extend(_workers_of(trials.root))
            os.kill(stopped[0], signal.SIGSTOP)
            patience.least_s = QUICK_S
        if event.kind == "again":
            patience.least_s = LONG_S

    LocalExecutor(1, ["cpu"], patience).run([task], freeze)
    assert stopped
    assert [kind for kind in kinds_of(events, task) if kind != "progress"] == [
        "started",
        "again",
        "started",
        "finished",
    ]
    epochs = [event.epoch for event in events if event.kind == "progress"]
    assert len(epochs) <= 25  # an epoch whose end was in the line may be told twice; none is trained from the start
    after = result_of(task)
    (task.folder / "trial.json").unlink()
    InlineExecutor().run([task], lambda _event: None)
    assert result_of(task) == after


def test_epochs_are_signs_of_life(trials: SmallTrials) -> None:
    lines = "self.training and time.sleep(1.0)"
    (task,) = trials.tasks("slow", 1, lines=lines, epochs=7, batch_size=6)
    events: list[Event] = []
    start = time.monotonic()
    LocalExecutor(1, ["cpu"], Patience(0.01, least_s=6.0)).run([task], events.append)
    assert time.monotonic() - start > 6.0  # longer than the bound, in epochs that are shorter
    assert "again" not in [event.kind for event in events]


def test_a_driver_that_was_itself_stopped_blames_no_worker() -> None:
    clock = AwakeClock(0.0)
    assert clock.look(3600.0) <= 5.0
    assert clock.look(3601.0) <= 6.0
    assert clock.look(10.0) <= 6.0  # a clock that went backwards takes nothing away


def test_no_bound_is_known_without_an_estimate_or_a_finished_trial() -> None:
    patience = Patience()
    assert patience.bound_s is None
    patience.note(1000.0)
    assert patience.bound_s == 5000.0
    patience.note(1.0)
    patience.note(1.0)
    assert patience.bound_s == patience.least_s


LIMITED = """import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
        torch.empty(512 << 20, dtype=torch.uint8)"""


def test_a_worker_with_a_real_limit_of_memory_fails_alone_with_advice(trials: SmallTrials) -> None:
    (bad,), good = trials.tasks("limited", 1, lines=LIMITED), trials.tasks("free", 2)
    events: list[Event] = []
    before = resource.getrlimit(resource.RLIMIT_AS)
    LocalExecutor(2, ["cpu"]).run([bad, *good], events.append)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    said = reason_of(events, bad)
    assert kinds_of(events, bad) == ["started", "again", "started", "failed"]
    assert "trying again, alone" in next(event.reason or "" for event in events if event.kind == "again")
    assert "out of memory" in said
    assert "training.batch_size (now 4;" in said
    assert "--workers (now 2)" in said
    assert all(kinds_of(events, task)[-1] == "finished" for task in good)


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
def test_errors_of_memory_are_told_apart_from_others(
    error: Exception, trials: SmallTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("segdecay.training.dispatch.run_trial", fail)
    (task,) = trials.tasks("any", 1)
    assert work_on(task, lambda: False, lambda _epoch, _epochs: None).kind == "memory"


def test_a_lost_machine_is_no_fault_of_its_trial(trials: SmallTrials) -> None:
    (task,) = trials.tasks("moved", 1)
    events: list[Event] = []
    attempts = Attempts([task], events.append, workers=2)
    for _ in range(5):
        assert attempts.start(1) is not None  # not alone: another runs beside it
        attempts.conclude(task, Outcome("lost", "its machine is gone"))
    assert attempts.start(1) is not None
    attempts.conclude(task, Outcome("finished"))
    assert kinds_of(events, task)[-1] == "finished"


def test_what_runs_alone_waits_for_the_others_and_holds_them_back(trials: SmallTrials) -> None:
    first, second, third = trials.tasks("three", 3)
    attempts = Attempts([first, second, third], lambda _event: None, workers=2)
    assert attempts.start(0) is first
    assert attempts.start(1) is second
    attempts.conclude(first, Outcome("memory", "no room"))
    assert attempts.start(1) is None
    attempts.conclude(second, Outcome("finished"))
    assert attempts.start(0) is first
    assert attempts.start(1) is None
    attempts.conclude(first, Outcome("finished"))
    assert attempts.start(0) is third


def test_sigterm_to_a_worker_alone_keeps_its_state_and_the_trial_goes_on(trials: SmallTrials) -> None:
    (task,) = trials.tasks("asked", 1, lines=small.NOTES_TIMES, epochs=20)
    events: list[Event] = []

    def ask(event: Event) -> None:
        events.append(event)
        if event.kind == "progress" and event.epoch == 5 and len(_workers_of(trials.root)) == 1:
            os.kill(_workers_of(trials.root)[0], signal.SIGTERM)

    LocalExecutor(1, ["cpu"]).run([task], ask)
    assert [kind for kind in kinds_of(events, task) if kind != "progress"] == [
        "started",
        "again",
        "started",
        "finished",
    ]
    epochs = [event.epoch for event in events if event.kind == "progress"]
    assert len(epochs) == 20  # kept to the step: nothing was trained twice


def test_ctrl_c_does_not_wait_for_a_worker_that_hangs_when_it_comes_twice(
    trials: SmallTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()  # the first has been heard

    def ask(connection: Connection) -> None:
        connection.send_bytes(b"stop")
        asked.set()

    monkeypatch.setattr("segdecay.execution.local.STOP_WITHIN_S", LONG_S)
    monkeypatch.setattr("segdecay.execution.local._ask_to_stop", ask)
    (task,) = trials.tasks("deaf", 1, lines=f"{small.NOTES_TIMES}; time.sleep(3600)")
    start = time.monotonic()

    def interrupt_twice() -> None:
        while not _workers_of(trials.root) and time.monotonic() - start < LONG_S:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        asked.wait(LONG_S)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(1, ["cpu"]).run([task], lambda _event: None)
    seconds = time.monotonic() - start
    thread.join()
    assert seconds < LONG_S  # the bound for workers that do not listen was not waited for
    (worker,) = _workers_of(trials.root)
    assert not Path(f"/proc/{worker}").exists()


def test_a_worker_that_does_not_answer_ctrl_c_is_ended_in_time(
    trials: SmallTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segdecay.execution.local.STOP_WITHIN_S", 1.0)
    (task,) = trials.tasks("mute", 1, lines=f"{small.NOTES_TIMES}; time.sleep(3600)")
    start = time.monotonic()

    def interrupt() -> None:
        while not _workers_of(trials.root) and time.monotonic() - start < LONG_S:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(1, ["cpu"]).run([task], lambda _event: None)
    thread.join()
    (worker,) = _workers_of(trials.root)
    assert not Path(f"/proc/{worker}").exists()


def test_ctrl_c_ends_when_the_workers_have_answered_and_waits_for_no_bound(
    trials: SmallTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segdecay.execution.local.STOP_WITHIN_S", LONG_S)
    (task,) = trials.tasks("quick", 1, epochs=300)
    assert interrupted(LocalExecutor(1, ["cpu"]), task, at_epoch=2) < LONG_S


def test_ctrl_c_in_the_first_moment_of_a_worker_is_left_to_the_driver(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    code = f"import signal, pathlib; pathlib.Path({str(answer)!r}).write_text(str(signal.getsignal(signal.SIGINT)))"
    process = worker_context().Process(target=exec, args=(code, {}))  # type: ignore[attr-defined]
    process.start()
    process.join(LONG_S)
    assert answer.read_text() == str(signal.SIG_IGN)


def test_a_worker_whose_driver_is_gone_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    ended, codes = threading.Event(), []

    def leave(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(os, "_exit", leave)
    line_to_driver(theirs, threading.Event())
    ours.close()
    assert ended.wait(60)
    assert codes == [1]
    theirs.close()


def test_a_worker_that_speaks_to_nobody_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    released, asked = threading.Event(), threading.Event()

    class LineToNobody:
        def recv_bytes(self) -> bytes:  # the watch sees nothing yet
            released.wait(LONG_S)
            return b"stop"

        def send_bytes(self, words: bytes) -> None:
            theirs.send_bytes(words)

    def leave(code: int) -> None:
        raise SystemExit(code)

    ours.close()
    monkeypatch.setattr(os, "_exit", leave)
    try:
        with pytest.raises(SystemExit, match="1"):
            line_to_driver(LineToNobody(), asked)({"epoch": 1})  # type: ignore[arg-type]
    finally:
        released.set()
        theirs.close()

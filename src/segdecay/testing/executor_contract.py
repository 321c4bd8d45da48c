"""The contract of executors, for our own and those of third parties: subclass it in a test module.

Needs no test framework: a broken promise is an AssertionError, and pytest collects the methods that begin with `test_`.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from segdecay.errors import DiskFullError
from segdecay.execution import Event, Executor, InlineExecutor
from segdecay.testing import small_trials as small
from segdecay.testing.small_runs import expect
from segdecay.testing.small_trials import EPOCHS, SmallTrials, result_of, small_trials
from segdecay.training.setup import TrialTask

STOP_WITHIN_S = 20.0


class ExecutorContract:
    """What every executor must do; `build` returns the executor under test.

    Promises: all tasks of a list or of a source are run; every trial starts once and ends once, with an event for each
    epoch; results are bitwise the same for every executor, order of tasks and number of workers; a trial that fails
    gives an event with the reason, and the others go on; a trial that runs out of memory is retried once, alone, and
    then fails with advice; a full disk raises; after Ctrl-C the state of running trials is kept, and the next run
    resumes from it; a finished trial is not trained again.

    Example:
        >>> class TestInline(ExecutorContract):
        ...     def build(self, workers: int) -> Executor:
        ...         return InlineExecutor()
        >>> TestInline().test_a_source_is_asked_until_it_has_none()
    """

    @abstractmethod
    def build(self, workers: int) -> Executor:
        """An executor with this number of workers, or with one if it does not support more."""

    # --- the promises -------------------------------------------------------------------------------------------------

    def test_every_trial_starts_once_ends_once_and_tells_every_epoch(self) -> None:
        with small_trials() as trials:
            tasks = trials.tasks("plain", 3)
            events = self._run(tasks)
            for task in tasks:
                kinds = kinds_of(events, task)
                expect(kinds == ["started", *["progress"] * EPOCHS, "finished"], f"A trial's events were {kinds}.")
                expect((task.folder / "trial.json").exists(), "A finished trial has no trial.json.")

    def test_a_source_is_asked_until_it_has_none(self) -> None:
        with small_trials() as trials:
            left = list(trials.tasks("source", 2))
            events = self._run(lambda: left.pop() if left else None)
            expect([event.kind for event in events].count("finished") == 2, "Not every task of a source was run.")

    def test_neither_executor_nor_order_nor_workers_change_a_bit(self) -> None:
        with small_trials() as trials:
            tasks = trials.tasks("same", 2)
            InlineExecutor().run(tasks, lambda _event: None)
            expected = [result_of(task) for task in tasks]
            for workers, ordered in ((1, tasks), (2, tasks[::-1])):
                for task in tasks:
                    shutil.rmtree(task.folder)
                self.build(workers).run(ordered, lambda _event: None)
                expect([result_of(task) for task in tasks] == expected, f"Results differ with {workers} workers.")

    def test_a_trial_that_cannot_work_is_an_event_and_the_others_go_on(self) -> None:
        with small_trials() as trials:
            (bad,), (good,) = trials.tasks("bad", 1, lines=small.WRONG), trials.tasks("good", 1)
            events = self._run([bad, good])
            expect(
                kinds_of(events, bad) == ["started", "failed"], f"A bad trial's events were {kinds_of(events, bad)}."
            )
            expect("this network cannot" in reason_of(events, bad), f"The reason was {reason_of(events, bad)!r}.")
            expect(kinds_of(events, good)[-1] == "finished", "The trial after a bad one did not finish.")
            expect(not (bad.folder / "trial.json").exists(), "A failed trial has a record.")

    def test_too_little_memory_once_is_tried_again_and_changes_no_bit(self) -> None:
        with small_trials() as trials:
            (task,) = trials.tasks("large", 1, lines=small.TOO_LARGE_ONCE)
            events = self._run([task])
            expect(kinds_of(events, task)[:3] == ["started", "again", "started"], f"{kinds_of(events, task)}")
            first = result_of(task)
            shutil.rmtree(task.folder)
            InlineExecutor().run([task], lambda _event: None)
            expect(result_of(task) == first, "A trial that was retried has another result.")

    def test_too_little_memory_twice_is_given_up_with_advice_and_the_others_go_on(self) -> None:
        with small_trials() as trials:
            (bad,), good = trials.tasks("huge", 1, lines=small.TOO_LARGE), trials.tasks("beside", 2)
            events = self._run([bad, *good])
            expect(kinds_of(events, bad) == ["started", "again", "started", "failed"], f"{kinds_of(events, bad)}")
            said = reason_of(events, bad)
            for words in ("out of memory", "batch_size (now 4", "--size (now"):
                expect(words in said, f"'{words}' is not in the advice: {said}")
            expect(all(kinds_of(events, task)[-1] == "finished" for task in good), "The others did not finish.")

    def test_the_second_try_for_memory_runs_alone(self) -> None:
        with small_trials() as trials:
            lines = f"{small.TOO_LARGE_ONCE}\n        {small.NOTES_TIMES}"
            (bad,) = trials.tasks("alone", 1, lines=lines)
            others = trials.tasks("many", 4)
            events = self._run([bad, *others], workers=2)
            order = [(event.kind, event.task.folder) for event in events if event.kind != "progress"]
            second = len(order) - 1 - order[::-1].index(("started", bad.folder))
            before = order[:second]
            running = [key for kind, key in before if kind == "started"]
            for kind, key in before:
                if kind in ("finished", "failed", "again"):
                    running.remove(key)
            expect(not running, f"{len(running)} trials were still running when the retry began.")
            expect(order[second + 1] == ("finished", bad.folder), "Another trial began during the retry.")

    def test_a_full_disk_raises_and_the_next_run_goes_on(self) -> None:
        with small_trials() as trials:
            tasks = trials.tasks(
                "full", 3, lines=f"if once(): raise OSError({errno.ENOSPC}, 'No space left on device')"
            )
            events: list[Event] = []
            try:
                self.build(1).run(tasks, events.append)
            except DiskFullError:
                expect("failed" not in [event.kind for event in events], "A full disk was reported as a failed trial.")
                expect(
                    [event.kind for event in events].count("started") == 1,
                    "Trials were started on a full disk.",
                )
            else:
                raise AssertionError("A full disk raised no DiskFullError.")
            after = self._run(tasks)
            expect(all(kinds_of(after, task)[-1] == "finished" for task in tasks), "A trial failed on a free disk.")

    def test_ctrl_c_keeps_the_state_and_the_next_run_ends_the_same(self) -> None:
        with small_trials() as trials:
            task = trials.tasks("stopped", 1, epochs=120)[0]
            seconds = interrupted(self.build(1), task, at_epoch=3)
            expect(seconds < STOP_WITHIN_S, f"Ctrl-C took {seconds:.1f} s.")
            expect((task.folder / "checkpoint" / "state.safetensors").exists(), "Ctrl-C kept no state.")
            expect(not (task.folder / "trial.json").exists(), "A stopped trial has a record.")
            events = self._run([task])
            first = next(event.epoch for event in events if event.kind == "progress")
            expect(first > 1, "The next run began from the start.")
            after = result_of(task)
            shutil.rmtree(task.folder)
            InlineExecutor().run([task], lambda _event: None)
            expect(result_of(task) == after, "A stop changed the result.")

    def test_a_finished_trial_is_not_trained_again(self) -> None:
        with small_trials() as trials:
            tasks = trials.tasks("twice", 1)
            self._run(tasks)
            before = tasks[0].folder.joinpath("trial.json").read_bytes()
            events = self._run(tasks)
            expect("progress" not in [event.kind for event in events], "A finished trial was trained again.")
            expect(tasks[0].folder.joinpath("trial.json").read_bytes() == before, "A finished trial changed.")

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _run(self, tasks: Sequence[TrialTask] | Callable[[], TrialTask | None], workers: int = 2) -> list[Event]:
        events: list[Event] = []
        self.build(workers).run(tasks, events.append)
        return events


class WorkersContract(ExecutorContract):
    """What an executor must also do if every trial runs in its own process: a killed process affects only its trial.

    Promises: a trial whose process is killed is retried, resumes from its checkpoint and ends with the same result, bit
    for bit; one whose process is killed every time fails, and the others go on.
    """

    def test_a_trial_whose_process_is_killed_is_tried_again_and_changes_no_bit(self) -> None:
        with small_trials() as trials:
            (task,) = trials.tasks("killed", 1, lines=small.KILLED_ONCE)
            events = self._run([task])
            kinds = [kind for kind in kinds_of(events, task) if kind != "progress"]
            expect(kinds == ["started", "again", "started", "finished"], f"A killed trial's events were {kinds}.")
            after = result_of(task)
            shutil.rmtree(task.folder)
            InlineExecutor().run([task], lambda _event: None)
            expect(result_of(task) == after, "A kill changed the result.")

    def test_a_trial_whose_process_is_always_killed_is_given_up_and_the_others_go_on(self) -> None:
        with small_trials() as trials:
            (bad,), good = trials.tasks("doomed", 1, lines=small.KILLED_ALWAYS), trials.tasks("spared", 2)
            events = self._run([bad, *good])
            expect(kinds_of(events, bad)[-1] == "failed", "A trial that is always killed did not fail.")
            expect(all(kinds_of(events, task)[-1] == "finished" for task in good), "The others did not finish.")
            expect("memory" in reason_of(events, bad), f"No advice: {reason_of(events, bad)}")


def kinds_of(events: Sequence[Event], task: TrialTask) -> list[str]:
    """The kinds of the events of one trial, in order."""
    return [event.kind for event in events if event.task.folder == task.folder]


def reason_of(events: Sequence[Event], task: TrialTask) -> str:
    """The reason in the last event of a trial."""
    return [event.reason or "" for event in events if event.task.folder == task.folder][-1]


def interrupted(executor: Executor, task: TrialTask, *, at_epoch: int) -> float:
    """Run a trial and send SIGINT at the end of an epoch; returns the seconds until the run ended."""
    sent: list[float] = []

    def send(event: Event) -> None:
        if event.kind == "progress" and event.epoch >= at_epoch and not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test runners may ignore SIGINT
    try:
        executor.run([task], send)
    except KeyboardInterrupt:
        return time.monotonic() - sent[0]
    finally:
        signal.signal(signal.SIGINT, before)
    raise AssertionError("SIGINT did not interrupt the run.")


__all__ = ["ExecutorContract", "SmallTrials", "WorkersContract", "interrupted", "kinds_of", "reason_of"]

"""Overhead of the driver per trial, and its growth with trials and workers; each training is a stub that sleeps.

    python benchmarks/scaling.py --trials 10 30 100 --workers 1 2 --sleep 0.2 --executors local ray

A stub worker sleeps, then copies the record of one real small training; everything else is as in a search: a fork per
trial, its messages, the ledger, and reading every record for the race. The overhead per trial is (wall time × workers ÷
trials) − sleep; since it is wall time, it includes other programs on the machine. These hardly change the processor
time, which is given per trial for the driver, and for the worker from its fork (with Ray, from the arrival of the task)
to the end of the stub.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from segdecay.execution import InlineExecutor, LocalExecutor
from segdecay.execution.ray import TRIALS_A_PROCESS, RayExecutor
from segdecay.search.ledger import Ledger
from segdecay.search.race_runner import Racing, build_race
from segdecay.testing.small_trials import small_trials
from segdecay.training.setup import TrialTask

SLEEP_S = 0.2
USED = "worker_seconds"  # a file in the folder of a stub's trial


def stub_of(sleep_s: float, finished: str, since: float = 0.0) -> Callable[..., None]:
    """A training that sleeps, then writes the files of a real one and its processor time since `since`."""

    def run_trial(task: TrialTask, *, stop: Any, report: Callable[[int, int], None]) -> None:
        del stop
        time.sleep(sleep_s)
        report(1, 1)
        shutil.copytree(finished, task.folder, dirs_exist_ok=True)
        (task.folder / USED).write_text(str(time.process_time() - since), encoding="ascii")

    return run_trial


class StubExecutor(LocalExecutor):
    """A LocalExecutor whose workers run the sleeping stub in place of a training."""

    def __init__(self, workers: int, sleep_s: float, finished: Path) -> None:
        super().__init__(workers, ["cpu"])
        self.work = partial(stub_work, sleep_s, str(finished))


def stub_work(sleep_s: float, finished: str, task: TrialTask, connection: Any) -> None:
    """A worker of this machine whose training is the stub."""
    from segdecay.execution.worker import work
    from segdecay.training import dispatch as running

    vars(running)["run_trial"] = stub_of(sleep_s, finished)
    work(task, connection)


class StubRay(RayExecutor):
    """A RayExecutor on a cluster of this machine whose trainings are the stub."""

    def __init__(self, workers: int, sleep_s: float, finished: Path) -> None:
        super().__init__("local", workers=workers)
        kept = str(finished)

        def stub_errand(*arguments: Any) -> Any:
            from segdecay.execution.ray_remote import run_errand
            from segdecay.training import dispatch as running

            vars(running)["run_trial"] = stub_of(sleep_s, kept, time.process_time())
            return run_errand(*arguments)

        self._remote = self._ray.remote(num_cpus=1, max_retries=0, max_calls=TRIALS_A_PROCESS)(stub_errand)


EXECUTORS: dict[str, type[StubExecutor | StubRay]] = {"local": StubExecutor, "ray": StubRay}


def measure(
    executor: LocalExecutor | RayExecutor, trials: int, workers: int, sleep_s: float, first: TrialTask, root: Path
) -> tuple[int, float, float, float]:
    """Number of trials of a race; overhead, processor time of the driver and of the worker per trial, in seconds."""
    blocks = -(-trials // 2)
    run = root / f"{type(executor).__name__}-{trials}-{workers}"
    tasks = [
        [replace(first, folder=run / f"{value:g}" / str(block), seed=block, value=value) for block in range(blocks)]
        for value in (0.0, 2.0)
    ]
    racing = Racing(build_race([0.0, 2.0], 0.0, blocks=blocks, asked=2, most=trials), tasks, Ledger(run), {})
    warm = [replace(first, folder=run / f"warm-{number}") for number in range(workers)]
    executor.run(warm, lambda _event: None)  # the fork server, or each of Ray's processes, imports torch once
    start, begun = time.perf_counter(), time.process_time()
    kinds: list[str] = []
    executor.run(racing.next_task, lambda event: kinds.append(event.kind))
    wall, work, ran = time.perf_counter() - start, time.process_time() - begun, kinds.count("finished")
    used = [float(path.read_text(encoding="ascii")) for path in run.glob(f"*/*/{USED}")]
    return ran, wall * workers / ran - sleep_s, work / ran, sum(used) / len(used)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sleep", type=float, default=SLEEP_S)
    parser.add_argument("--executors", nargs="+", default=["local"], choices=EXECUTORS)
    given = parser.parse_args()
    titles = ("executor", "workers", "trials", "overhead a trial, ms", "driver's own work, ms", "worker's own work, ms")
    print(f"| {' | '.join(titles)} |\n" + "|---" * len(titles) + "|")
    with small_trials() as small, tempfile.TemporaryDirectory() as folder:
        (first,) = small.tasks("real", 1)
        InlineExecutor().run([first], lambda _event: None)
        for name, workers in product(given.executors, given.workers):
            executor = EXECUTORS[name](workers, given.sleep, first.folder)
            for trials in given.trials:
                ran, *seconds = measure(executor, trials, workers, given.sleep, first, Path(folder))
                shown = " | ".join(f"{1000 * each:.0f}" for each in seconds)
                print(f"| {name} | {workers} | {ran} | {shown} |", flush=True)


if __name__ == "__main__":
    main()

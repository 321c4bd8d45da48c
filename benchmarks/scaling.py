"""What the driver costs a cell, and how that grows with cells and workers; each training is a stub that sleeps.

    python benchmarks/scaling.py --cells 10 30 100 --workers 1 2 --sleep 0.2

A stub worker sleeps, then copies the record of one real small training; so everything else is as in a search: a fork
a cell, its messages, the ledger, the race's look at every record. Overhead a cell is (wall time × workers ÷ cells) −
sleep. `work` is the driver's own processor time a cell, forks not among it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from segdecay.selection.executors import InlineExecutor, LocalExecutor
from segdecay.selection.ledger import Ledger
from segdecay.selection.racing import Racing, build_race
from segdecay.testing.small_cells import small_cells
from segdecay.training.setup import CellTask

SLEEP_S = 0.2


class StubExecutor(LocalExecutor):
    """A LocalExecutor whose workers run the sleeping stub in place of a training."""

    def __init__(self, workers: int, sleep_s: float, finished: Path) -> None:
        super().__init__(workers, ["cpu"])
        self.work = partial(stub_work, sleep_s, str(finished))


def stub_work(sleep_s: float, finished: str, task: CellTask, connection: Any) -> None:
    """A worker whose training sleeps, and leaves the files of a real one."""
    from segdecay.selection.executors.worker import work
    from segdecay.training import running

    def run_cell(task: CellTask, *, stop: Any, report: Callable[[int, int], None]) -> None:
        del stop
        time.sleep(sleep_s)
        report(1, 1)
        shutil.copytree(finished, task.folder, dirs_exist_ok=True)

    vars(running)["run_cell"] = run_cell
    work(task, connection)


def measure(cells: int, workers: int, sleep_s: float, first: CellTask, root: Path) -> tuple[int, float, float]:
    """Cells that a race over about so many ran; overhead and driver's processor time of each, in seconds."""
    blocks = -(-cells // 2)
    run = root / f"{cells}-{workers}"
    tasks = [
        [replace(first, folder=run / f"{value:g}" / str(block), seed=block, value=value) for block in range(blocks)]
        for value in (0.0, 2.0)
    ]
    racing = Racing(build_race([0.0, 2.0], 0.0, blocks=blocks, asked=2, most=cells), tasks, Ledger(run), {})
    executor = StubExecutor(workers, sleep_s, first.folder)
    warm = replace(first, folder=run / "warm")
    executor.run([warm], lambda _event: None)  # the fork server imports torch once
    start, used = time.perf_counter(), time.process_time()
    kinds: list[str] = []
    executor.run(racing.next_task, lambda event: kinds.append(event.kind))
    wall, work, ran = time.perf_counter() - start, time.process_time() - used, kinds.count("finished")
    return ran, wall * workers / ran - sleep_s, work / ran


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sleep", type=float, default=SLEEP_S)
    given = parser.parse_args()
    print("| workers | cells | overhead a cell, ms | driver's own work a cell, ms |\n|---|---|---|---|")
    with small_cells() as small, tempfile.TemporaryDirectory() as folder:
        (first,) = small.tasks("real", 1)
        InlineExecutor().run([first], lambda _event: None)
        for workers in given.workers:
            for cells in given.cells:
                ran, overhead, work = measure(cells, workers, given.sleep, first, Path(folder))
                print(f"| {workers} | {ran} | {1000 * overhead:.0f} | {1000 * work:.0f} |", flush=True)


if __name__ == "__main__":
    main()

"""What a cell costs beside its training: processes, ledger and race, as cells and workers grow.

    python benchmarks/scaling.py                 # about two minutes on a quiet machine
    python benchmarks/scaling.py --ray           # the same through a Ray cluster of this machine

The training is a stub that sleeps (`sleeping_training`), so nothing here says how fast networks train. Overhead a cell
is (time x workers - what was slept) / cells, from the end of the first cells (before it the fork server imports torch,
once a run) to the last end: the driver's bookkeeping, a worker's process, the cell's files, and what workers waited.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segdecay import Axis, OwnData
from segdecay.asking import config_of
from segdecay.execution import Execution
from segdecay.own import OwnSearch, tune_own

FOLDS, IMAGES, SLEEP_S = 5, 20, 0.5


def sleeping_training(setting: Any, fold: Any, seed: int) -> Any:
    """A stub: sleeps instead of training, and scores a little better with strength."""
    time.sleep(SLEEP_S)
    right = 600 + 3 * round(10 * setting.value) + 7 * fold.number + seed
    return np.tile(np.array([[right, 1000 - right], [1000 - right, right]]), (len(fold.validation), 1, 1))


@dataclass
class Clock:
    """A watcher that keeps when cells started and ended."""

    ends: list[float] = field(default_factory=list)

    def say(self, line: str) -> None: ...

    def plan(self, *_: object) -> None: ...

    def begin(self, *_: object) -> None: ...

    def event(self, event: Any) -> None:
        if event.kind == "finished":
            self.ends.append(time.monotonic())


def measure(cells: int, workers: int, executor: str, *, race: bool) -> tuple[int, float]:
    """Cells that were run, and the overhead of each in milliseconds."""
    grid = [0.1 * (1 + i) for i in range(max(1, cells // FOLDS - 1))]
    data = OwnData([f"image {i}" for i in range(IMAGES)], ["one", "other"])
    axis = Axis("strength", grid)
    keys = {"search.race": race, "search.folds": FOLDS, "search.resamples": 100}
    config = config_of(data, None, keys, {}, function=sleeping_training, axis=axis)
    folder, clock = Path(tempfile.mkdtemp()), Clock()
    try:
        execution = Execution(workers=workers, device="cpu", executor=executor)
        tune_own(config, folder / "run", execution, clock, OwnSearch(sleeping_training, data))
    finally:
        shutil.rmtree(folder)
    span, after = clock.ends[-1] - clock.ends[workers - 1], len(clock.ends) - workers
    return len(clock.ends), 1000 * (span * workers - after * SLEEP_S) / after


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every number of workers and cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--cells", type=int, nargs="+", default=[10, 30, 100])
    asked = parser.parse_args(arguments)
    executor = "ray" if asked.ray else "local"
    print(f"executor {executor}; the stub sleeps {SLEEP_S * 1000:.0f} ms a cell")
    for workers in (1, 2):
        for cells in asked.cells:
            found, overhead = measure(cells, workers, executor, race=False)
            print(
                f"{workers} worker{'s' if workers > 1 else ' '} {found:4d} cells of a grid: {overhead:6.1f} ms a cell"
            )
    found, overhead = measure(max(asked.cells), 2, executor, race=True)
    print(f"2 workers {found:4d} cells of a race over {max(asked.cells)}: {overhead:6.1f} ms a cell")


if __name__ == "__main__":
    main()

"""Record a full grid once, so that every selector can be replayed on it without training (benchmarks/selection.py).

    python benchmarks/record_grid.py digits --run /tmp/grid-digits
    python benchmarks/record_grid.py nuclei --data DIR --run /tmp/grid-nuclei
    python benchmarks/record_grid.py camvid --data DIR --run /tmp/grid-camvid

Nine strengths of decoupled decay, D = 0, 1/4, ... 32, on every fold and seed; the trials are those of `segdecay tune`,
with a validation score after every epoch. The same command resumes. The result is one file,
benchmarks/records/NAME.npz (no pickle): `values` (V), `curves` (V, F, S, E) validation mIoU after every epoch, `train`
(V, F, S) training mIoU at the end, `confusion` (the per-image matrices of the last step as index and count, in the
order V, F, S, image), `fold_of` (N) and `group_of` (N) of the pooled images, `seconds` (V, F, S).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from grids.packing import image_places, pack_matrices, write_npz

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import load_dataset
from segdecay.data.splits.folds import plan_folds
from segdecay.execution import Event, LocalExecutor
from segdecay.runs.records import TrialRecord
from segdecay.search.ledger import Ledger
from segdecay.search.study import Study
from segdecay.training.setup import TrialTask

GRID = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Recipe:
    """The recorded settings of a data set; sizes are such that one training takes at most 40 s on one core."""

    folds: int
    seeds: tuple[int, ...]
    size: tuple[int, int] | None = None
    epochs: int = 80


RECIPES = {
    "digits": Recipe(folds=5, seeds=(0, 1)),
    "nuclei": Recipe(folds=3, seeds=(0, 1), size=(64, 64), epochs=30),
    "camvid": Recipe(folds=3, seeds=(0, 1), size=(48, 64), epochs=15),
}


def _config(recipe: Recipe, path: str) -> RunConfig:
    data: dict[str, object] = {"path": path}
    if recipe.size is not None:
        data["size"] = list(recipe.size)
    search = {"grid": list(GRID), "folds": recipe.folds, "seeds": list(recipe.seeds)}
    return parse_config({"data": data, "search": search, "training": {"epochs": recipe.epochs}})


def _finished(ledger: Ledger, task: TrialTask) -> TrialRecord:
    record = ledger.record(task.folder)
    if record is None or record.validation is None or record.train is None:
        raise SystemExit(f"{task.folder} holds no finished training; the same command goes on")
    return record


def _pack(study: Study, recipe: Recipe, name: str) -> Path:
    """All trials of a finished grid in one file."""
    shape = (len(GRID), recipe.folds, len(recipe.seeds))
    curves = np.full((*shape, recipe.epochs), np.nan, dtype=np.float32)
    train, seconds = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    matrices = []
    for v, value in enumerate(GRID):
        for task in sorted(study.tasks(value), key=lambda task: (task.fold, task.seed)):
            record, at = _finished(study.ledger, task), (v, task.fold, recipe.seeds.index(task.seed))
            line = [row["validation_miou"] for row in study.ledger.curve(task.folder)]
            curves[at] = [np.nan if score is None else score for score in line]
            train[at], seconds[at] = record.train.miou, record.seconds  # type: ignore[union-attr]
            matrices += list(study.ledger.confusions(task.folder))
    path = RECORDS / f"{name}.npz"
    write_npz(
        path,
        {
            "values": np.array(GRID),
            "seeds": np.array(recipe.seeds),
            "classes": np.array(study.dataset.classes),
            "curves": curves,
            "train": train,
            "seconds": seconds,
            **image_places(study.dataset, study.folds),
            **pack_matrices(matrices),
        },
    )
    return path


def main() -> None:
    """Train what is missing, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", default="digits", help="folder or dataset.yaml; not needed for digits")
    parser.add_argument("--run", type=Path, required=True, help="where the trials lie while the grid is recorded")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    recipe = RECIPES[asked.name]
    config = _config(recipe, asked.data)
    asked.run.mkdir(parents=True, exist_ok=True)
    RECORDS.mkdir(exist_ok=True)
    dataset, _ = load_dataset(config.data, cache=asked.run / "cache")
    executor = LocalExecutor(asked.workers, ["cpu"])
    study = Study(config, dataset, plan_folds(dataset, config), Ledger(asked.run), executor, on_event=lambda _: None)
    tasks = [
        replace(task, scores_on_the_way=recipe.epochs, checkpoint_every_s=60.0)
        for value in GRID
        for task in study.tasks(value)
        if study.ledger.record(task.folder) is None
    ]
    tasks.sort(key=lambda task: (task.seed, task.fold, task.value))
    started, left = time.monotonic(), len(tasks)

    def note(event: Event) -> None:
        nonlocal left
        if event.kind == "failed":
            print(f"{event.task.folder}: {event.reason}", file=sys.stderr)
        if event.kind == "finished":
            left -= 1
            print(f"{event.task.folder.parent.name} {event.task.folder.name}: {left} left", flush=True)

    if tasks:
        executor.run(tasks, note)
    print(f"{len(tasks)} trainings in {time.monotonic() - started:.0f} s; {_pack(study, recipe, asked.name)}")


if __name__ == "__main__":
    main()

"""Train the grids of the atlas, one after the other, and keep each in benchmarks/records/atlas/NAME.npz.

    python benchmarks/atlas.py --data FOLDER --work DIR                     # all recipes of grids/recipes.py, in order
    python benchmarks/atlas.py --data FOLDER --work DIR --only steel-defects-base

A grid holds total decay D = 0, 1/2, 1, 2, 4, 8, and 16 where the best mean is at 8, on 3 folds. Its trials are those of
`segdecay tune --no-race`. The same command goes on where it was interrupted, within a trial too; finished grids are
left as they are. `--list` says which are finished. The page of the records: benchmarks/atlas_report.py.

Keys of a record (V strengths, F folds, S seeds, C classes): `atlas` version of the format; `recipe` JSON; `values` (V);
`status` (V, F, S) finished, diverged or failed; `train` and `validation` (V, F, S) final scores (mIoU, or balanced
accuracy for labels of images); `train_iou`, `train_recall`, `train_precision`, `train_support` (V, F, S, C);
`curve_epochs` (E) and `curves` (V, F, S, E) validation scores; `seconds`, `steps` (V, F, S); `fold_of`, `group_of` (N)
of the validation images fold by fold; `confusion_*`: the per-image matrices of the last step, in the order V, F, S,
image.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from grids.data import prepare
from grids.packing import image_places, pack_matrices, scored_curve, write_npz
from grids.recipes import RECIPES, STRONGER, Recipe
from grids.records import RECORDS, SCORE_KEYS, VERSION, Facts, read_record

from segdecay.config.schema import RunConfig, parse_config, to_plain
from segdecay.data import load_dataset
from segdecay.data.splits.folds import FoldPlan, plan_folds
from segdecay.errors import SegdecayError, did_you_mean
from segdecay.execution import Event, LocalExecutor
from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.confusion import I64
from segdecay.runs.records import TrialRecord
from segdecay.search.ledger import Ledger
from segdecay.search.study import Study
from segdecay.training.optim import momentum_of
from segdecay.training.setup import TrialTask, strength_of
from segdecay.utils.files import read_json, write_json
from segdecay.workflows.steps import fitted_to_task

SCORES_ON_THE_WAY = 6
CHECKPOINT_S = 30.0
EXPECTED_S = 900.0  # of a trial; only bounds for how long a worker may be silent


@dataclass(frozen=True)
class Grid:
    """A recipe ready to train: its study, and the training images of every fold."""

    recipe: Recipe
    study: Study

    @property
    def values(self) -> list[float]:
        """The strengths that belong to the grid by now."""
        values = list(self.study.config.search.grid or ())
        return [*values, STRONGER] if self._is_edge(values) else values

    def tasks(self, value: float) -> list[TrialTask]:
        """The trials of one strength."""
        return [
            replace(task, scores_on_the_way=SCORES_ON_THE_WAY, checkpoint_every_s=CHECKPOINT_S)
            for task in self.study.tasks(value)
        ]

    def missing(self) -> list[TrialTask]:
        """The trials that are not finished, fold by fold."""
        return self.study.missing([task for value in self.values for task in self.tasks(value)])

    def _is_edge(self, values: Sequence[float]) -> bool:
        """Whether all trials are finished and the best mean is at the strongest."""
        means = []
        for value in values:
            records = self.study.records(self.study.tasks(value))
            if len(records) < len(self.study.tasks(value)):
                return False
            scores = [score_of(self.study, task) for task in self.study.tasks(value)]
            means.append(float(np.mean(scores)))
        return bool(np.isfinite(means[-1])) and means[-1] == np.nanmax(means)


def score_of(study: Study, task: TrialTask) -> float:
    """The criterion of a finished trial on its validation images; NaN if it diverged."""
    record = study.ledger.record(task.folder)
    if record is None or record.status != "finished":
        return float("nan")
    return Counts.of(study.ledger.confusions(task.folder)).score(study.criterion)


def halved(folds: FoldPlan, study_groups: Sequence[str | None], share: float, seed: int) -> FoldPlan:
    """The folds with a share of their training images, whole groups at random; the validation images stay."""
    if share == 1:
        return folds
    kept = []
    for number, fold in enumerate(folds.folds):
        names = [str(study_groups[index]) for index in fold.train]
        groups = sorted(set(names))
        np.random.default_rng([seed, number]).shuffle(groups)
        taken: set[str] = set()
        for group in groups:
            if sum(name in taken for name in names) >= share * len(names):
                break
            taken.add(group)
        kept.append(replace(fold, train=tuple(i for i, name in zip(fold.train, names, strict=True) if name in taken)))
    return replace(folds, folds=tuple(kept))


def open_grid(recipe: Recipe, path: str, work: Path, executor: LocalExecutor) -> Grid:
    """Read the data and plan the folds of a recipe."""
    config = parse_config(recipe.config(path))
    dataset, _ = load_dataset(config.data, cache=work / "cache")
    config = fitted_to_task(config, dataset.task)
    groups = [item.group for item in dataset.items]
    folds = halved(plan_folds(dataset, config), groups, recipe.share, recipe.seed)
    run = work / "grids" / recipe.name
    claim(run, config, folds.fingerprint)
    return Grid(recipe, Study(config, dataset, folds, Ledger(run), executor, on_event=lambda _: None))


def claim(run: Path, config: RunConfig, folds: str) -> None:
    """Write down what the trials of a folder are trained with, so that no other recipe goes on with them.

    Raises:
        SystemExit: the folder holds trials of another recipe.
    """
    wanted = {"config": to_plain(config), "folds": folds}
    path = run / "recipe.json"
    kept = read_json(path) if path.exists() else wanted
    if any(kept.get(key) != value for key, value in wanted.items()):
        raise SystemExit(f"{run} holds trials of another recipe or of other folds. Remove it, or give another --work.")
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def train(grid: Grid) -> int:
    """Train what is missing, with the stronger strength if it is needed; the number of trials that failed."""
    failed = 0
    while tasks := [task for task in grid.missing() if task.folder not in grid.study.failures]:
        left, started = len(tasks), time.monotonic()

        def note(event: Event, started: float = started) -> None:
            nonlocal left
            grid.study.note(event)
            if event.kind in ("finished", "failed"):
                left -= 1
                took = f"{time.monotonic() - started:.0f} s"
                why = f": {event.reason}" if event.kind == "failed" else ""
                trial = f"{event.task.folder.parent.name}/{event.task.folder.name}"
                print(f"{grid.recipe.name} {trial} {event.kind}{why}, {left} left, {took}", flush=True)

        grid.study.executor.run(tasks, note)
        failed = len(grid.study.failures)
    return failed


def facts_of(grid: Grid) -> Facts:
    """What the grid was trained with."""
    recipe, study = grid.recipe, grid.study
    config, dataset, criterion = study.config, study.dataset, study.criterion
    plain = to_plain(config)
    plain["data"]["path"] = recipe.data
    return Facts(
        name=recipe.name,
        data=recipe.data,
        change=recipe.change,
        task=dataset.task,
        criterion=criterion.kind,
        regularizer=config.decay.regularizer,
        optimizer=config.optimizer.name,
        momentum=momentum_of(config.optimizer),
        lr=config.optimizer.lr,
        lambda_at_one=float(strength_of(config, 1.0, study.fold_images).lambda_ or 0.0),
        model=config.model.name,
        width=recipe.width if config.model.name.startswith("unet") else None,
        epochs=config.training.epochs,
        batch=config.training.batch_size,
        size=_size(study),
        images=sum(len(fold.validation) for fold in study.folds.folds),
        train_images=study.fold_images,
        excluded=criterion.excluded,
        method=study.folds.method,
        seed=recipe.seed,
        config=plain,
        versions={name: version(name) for name in ("segdecay", "torch")},
    )


def _size(study: Study) -> tuple[int, int]:
    """Height and width of the images, px."""
    first = study.dataset.items[0]
    return study.config.data.size or (first.height, first.width)


def pack(grid: Grid) -> Path:
    """All trials of a finished grid in one file."""
    study, values, recipe = grid.study, grid.values, grid.recipe
    tasks = [task for value in values for task in sorted(grid.tasks(value), key=lambda one: one.fold)]
    records = [record for task in tasks if (record := study.ledger.record(task.folder)) is not None]
    classes = study.dataset.classes
    shape = (len(values), len(study.folds.folds), 1)
    key = "miou" if study.dataset.task == "segmentation" else "balanced_accuracy"

    def by_trial(numbers: Sequence[object], kind: type = np.float32) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.array(numbers, dtype=kind)
        return array.reshape(*shape, *array.shape[1:])

    curves = [dict(scored_curve(study.ledger.curve(task.folder), f"validation_{key}")) for task in tasks]
    epochs = sorted({epoch for curve in curves for epoch in curve})
    path = RECORDS / f"{recipe.name}.npz"
    write_npz(
        path,
        {
            "atlas": np.array(VERSION),
            "recipe": np.array(facts_of(grid).to_json()),
            "values": np.array(values),
            "classes": np.array(classes),
            "status": np.array([record.status for record in records]).reshape(shape),
            "train": by_trial([_train_score(study, record) for record in records]),
            "validation": by_trial([score_of(study, task) for task in tasks]),
            **{
                f"train_{name}": by_trial([_of_train(record, name, len(classes)) for record in records])
                for name in SCORE_KEYS
            },
            "curve_epochs": np.array(epochs, dtype=np.int32),
            "curves": by_trial([[curve.get(epoch, np.nan) for epoch in epochs] for curve in curves]),
            "seconds": by_trial([record.seconds for record in records]),
            "steps": by_trial([record.steps for record in records], np.int32),
            **image_places(study.dataset, study.folds),
            **pack_matrices(matrix for task in tasks for matrix in _matrices(study, task)),
        },
    )
    return path


def _train_score(study: Study, record: TrialRecord) -> float:
    return float("nan") if record.train is None else study.criterion.of_record(record.train)


def _of_train(record: TrialRecord, name: str, classes: int) -> tuple[float, ...]:
    """Scores of every class on the training images; NaN for a trial that diverged."""
    return (float("nan"),) * classes if record.train is None else tuple(map(float, getattr(record.train, name)))


def _matrices(study: Study, task: TrialTask) -> I64:
    """(N, C, C) of a trial; zeros if it diverged."""
    record, classes = study.ledger.record(task.folder), len(study.dataset.classes)
    if record is None or record.status != "finished":
        return np.zeros((len(task.scored), classes, classes), dtype=np.int64)
    return study.ledger.confusions(task.folder)


def asked_recipes(only: Sequence[str] | None) -> list[Recipe]:
    """The recipes with these names, in the order of the list; all without names.

    Raises:
        SystemExit: a name is unknown; all are listed.
    """
    names = [recipe.name for recipe in RECIPES]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        lines = [f"no recipe is called {name}.{did_you_mean(name, names)}" for name in unknown]
        raise SystemExit("\n".join([*lines, f"Recipes: {', '.join(names)}"]))
    return [recipe for recipe in RECIPES if only is None or recipe.name in only]


def run(recipe: Recipe, folder: Path | None, work: Path, executor: LocalExecutor) -> bool:
    """Train and keep one grid; whether it is finished."""
    started, path = time.monotonic(), prepare(recipe.data, folder, work)
    if path is None:
        print(f"{recipe.name}: left out, --data holds no {recipe.data}", flush=True)
        return True
    try:
        grid = open_grid(recipe, path, work, executor)
    except SegdecayError as error:
        print(f"{recipe.name}: {error}", file=sys.stderr, flush=True)
        return False
    failed = train(grid)
    if failed:
        reasons = "; ".join(f"{path.parent.name}/{path.name}: {why}" for path, why in grid.study.failures.items())
        print(f"{recipe.name}: {failed} trials failed, not kept ({reasons})", file=sys.stderr, flush=True)
        return False
    kept = pack(grid)
    read_record(kept)
    print(f"{recipe.name}: kept in {kept} after {time.monotonic() - started:.0f} s", flush=True)
    return True


def main() -> None:
    """Train every recipe that is asked for and whose record is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the data sets; without it only digits")
    parser.add_argument("--work", type=Path, required=True, help="folder for trials and copies of data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recipes by name")
    parser.add_argument("--list", action="store_true", help="say which recipes are finished, and train nothing")
    asked = parser.parse_args()
    recipes = asked_recipes(asked.only)
    if asked.list:
        for recipe in recipes:
            print(f"{recipe.name}: {'finished' if (RECORDS / f'{recipe.name}.npz').exists() else 'to train'}")
        return
    asked.work.mkdir(parents=True, exist_ok=True)
    executor = LocalExecutor(asked.workers, ["cpu"])
    executor.expect(EXPECTED_S)
    left = [recipe for recipe in recipes if not (RECORDS / f"{recipe.name}.npz").exists()]
    done = [run(recipe, asked.data, asked.work, executor) for recipe in left]
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()

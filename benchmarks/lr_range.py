"""How good the learning rate is that `segdecay lr` suggests: trainings without decay at rates around it.

    python benchmarks/lr_range.py --work DIR                    # digits
    python benchmarks/lr_range.py --work DIR --data FOLDER      # and three data sets in FOLDER (images/, masks/)

Every data set is trained on its first fold at the suggested rate and at rates below and above it, with one seed, so a
score carries the luck of one training. Writes benchmarks/records/lr_range.json; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from grids.data import prepare

import segdecay
from segdecay.config.schema import parse_config
from segdecay.data import load_dataset
from segdecay.data.splits.folds import plan_folds
from segdecay.training.loop import run_trial
from segdecay.training.setup import TrialTask

RECORD = Path(__file__).parent / "records" / "lr_range.json"
FACTORS = (1 / 30, 1 / 10, 1 / 3, 1.0, 3.0, 10.0)  # of the suggested rate


@dataclass(frozen=True)
class Recipe:
    """One data set and how it is trained."""

    data: str
    epochs: int
    optimizer: str = "adamw"
    size: str | None = None

    @property
    def name(self) -> str:
        return f"{self.data} {self.optimizer}"


RECIPES = (
    Recipe("digits", 20),
    Recipe("digits", 20, "sgd"),
    Recipe("nuclei-small", 10, size="64x64"),
    Recipe("camvid-small", 5, size="48x64"),
    Recipe("steel-defects-small", 10, size="64x64"),
)


def row_of(recipe: Recipe, path: str, work: Path) -> dict[str, object]:
    """The suggestion for a recipe, and the scores at rates around it."""
    changes: dict[str, object] = {"training.epochs": recipe.epochs, "optimizer.name": recipe.optimizer}
    if recipe.size:
        changes["data.size"] = [int(side) for side in recipe.size.split("x")]
    folder = work / recipe.name.replace(" ", "-")
    found = segdecay.lr(path, set=changes, out=folder / "lr", quiet=True)
    rate = found.suggestion.rate
    if rate is None:
        return {"run": recipe.name, "suggested": None, "reason": found.suggestion.reason}
    scores = {f"{factor * rate:.2g}": score_at(recipe, path, factor * rate, folder) for factor in FACTORS}
    return {
        "run": recipe.name,
        "epochs": recipe.epochs,
        "size": recipe.size,
        "suggested": rate,
        "at_middle_decay": found.at_strength.rate if found.at_strength else None,
        "scores": scores,
    }


def score_at(recipe: Recipe, path: str, rate: float, folder: Path) -> dict[str, float | None]:
    """Training and validation mIoU of the first fold at this rate, without decay."""
    data: dict[str, object] = {"path": path}
    if recipe.size:
        data["size"] = [int(side) for side in recipe.size.split("x")]
    optimizer = {"name": recipe.optimizer, "lr": rate}
    config = parse_config({"data": data, "training": {"epochs": recipe.epochs}, "optimizer": optimizer})
    dataset, _ = load_dataset(config.data)
    fold = plan_folds(dataset, config).folds[0]
    out = folder / f"{rate:.2g}"
    record = run_trial(TrialTask(out, dataset.root, config, "rate", 0.0, 0, 0, fold.train, fold.validation))
    return {
        "train": record.train.miou if record.train else None,
        "validation": record.validation.miou if record.validation else None,
    }


def main() -> None:
    """Every recipe whose data are there; the record is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for trainings and copies of data")
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    asked = parser.parse_args()
    rows = []
    for recipe in RECIPES:
        path = prepare(recipe.data, asked.data, asked.work)
        if path is not None:
            rows.append(row_of(recipe, path, asked.work))
            print(json.dumps(rows[-1], indent=1), flush=True)
            record = {"command": "python benchmarks/lr_range.py", "runs": rows}
            RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

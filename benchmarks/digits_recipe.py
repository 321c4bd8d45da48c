"""Validation and training mIoU of every trial for a recipe of `digits` and a schedule, without a verdict.

    python benchmarks/digits_recipe.py --strengths 0,2 --seeds 0,1 --recipe SIDE_PX=32 --recipe GLYPH_PX=8,12 \
        --set optimizer.lr=0.008 --set training.batch_size=16

Trials are those of `segdecay tune` (same loop, folds and seeds). --recipe changes constants of
segdecay.data.formats.digits for this process; scenes go to a temporary cache. Used to find the default recipe;
the figures are in docs/log.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from segdecay.config.schema import parse_config
from segdecay.data import load_dataset
from segdecay.data.formats import digits
from segdecay.data.splits.folds import plan_folds
from segdecay.execution import Event, LocalExecutor
from segdecay.search.ledger import Ledger
from segdecay.search.study import Study
from segdecay.utils.yaml import parse_assignment, put_key


def _change_recipe(assignments: list[str]) -> None:
    for assignment in assignments:
        name, text = assignment.split("=")
        if not hasattr(digits, name):
            raise SystemExit(f"no constant {name} in {digits.__name__}")
        numbers = tuple(float(part) if "." in part else int(part) for part in text.split(","))
        setattr(digits, name, numbers if len(numbers) > 1 else numbers[0])
    digits.compose_scenes.__defaults__ = (0, digits.N_TRAIN, digits.N_TEST)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strengths", default="0,2")
    parser.add_argument("--folds", default="0,1,2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    return parser.parse_args()


def main() -> None:
    """Train the trials and print them, one line per strength."""
    asked = _arguments()
    _change_recipe(asked.recipe)
    strengths = [float(text) for text in asked.strengths.split(",")]
    folds = {int(text) for text in asked.folds.split(",")}
    values: dict[str, object] = {"data": {"path": "digits"}}
    for assignment in [*asked.set, f"search.seeds=[{asked.seeds}]"]:
        put_key(values, *parse_assignment(assignment))
    config = parse_config(values)
    with tempfile.TemporaryDirectory() as scratch:
        dataset, _ = load_dataset(config.data, cache=Path(scratch) / "cache")
        ledger, executor = Ledger(Path(scratch)), LocalExecutor(asked.workers, ["cpu"])
        study = Study(config, dataset, plan_folds(dataset, config), ledger, executor, on_event=lambda _: None)
        tasks = [replace(task, checkpoint_every_s=1e9) for value in strengths for task in study.tasks(value)]
        tasks = sorted((task for task in tasks if task.fold in folds), key=lambda task: (task.seed, task.fold))
        started = time.perf_counter()
        lines: dict[float, list[str]] = defaultdict(list)
        scores: dict[float, list[float]] = defaultdict(list)
        seconds: list[float] = []

        def note(event: Event) -> None:
            if event.kind == "failed":
                print(event.reason)
            record = ledger.record(event.task.folder) if event.kind == "finished" else None
            if record and record.validation and record.train:
                at = event.task.value
                lines[at].append(f"{record.fold}-{record.seed} {record.validation.miou:.3f} ({record.train.miou:.3f})")
                scores[at].append(record.validation.miou)
                seconds.append(record.seconds)

        executor.run(tasks, note)
    print(f"recipe {asked.recipe}, settings {asked.set}: fold-seed validation (train)")
    for value in strengths:
        mean = statistics.mean(scores[value]) if scores[value] else float("nan")
        print(f"  D={value:g}: {mean:.3f}   " + ", ".join(sorted(lines[value])))
    print(f"  {statistics.mean(seconds):.0f} s a trial, {time.perf_counter() - started:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()

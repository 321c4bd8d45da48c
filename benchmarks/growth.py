"""Growth of the cost of a search: measured with small trainings, or computed where this machine is too small.

    python benchmarks/growth.py          # four minutes on two idle cores

One quantity is varied at a time; the ratio is to the first line of its table. Images are generated (noise with a square
of each of a few classes); the network is a small built-in U-Net. Trials and searches of one process are in seconds of
processor time, which other programs hardly change; only the lines of workers are wall time. Computed lines train
nothing: they follow the rules of the race through the recorded grid of digits, with trainings of equal length.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from replay.records import read_grid
from replay.replaying import Replay, draw_repeat

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import load_dataset
from segdecay.execution.options import Execution
from segdecay.search import race
from segdecay.search.race_runner import build_race
from segdecay.training.dispatch import run_task
from segdecay.training.setup import TrialTask
from segdecay.workflows.progress import build_watcher
from segdecay.workflows.tune import tune

DIGITS = Path(__file__).parent / "records" / "digits.npz"
IMAGES, SIDE_PX, CLASSES, EPOCHS = 60, 32, 2, 10  # of a trial, unless varied
SEARCH_IMAGES, STRENGTHS, FOLDS = 60, 2, 3  # of a search, likewise
SQUARES = 3  # in an image, each of another class
REPEATS = 3  # of a trial; the fastest counts, since other programs only add time
ORDERS = 5  # of the recorded folds, each with both seeds
HEAD = "| what grows | value | seconds | ratio | |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    value: str
    seconds: float
    ratio: float
    how: str  # measured or computed, and what of it

    def show(self) -> str:
        """The line as Markdown."""
        return f"| {self.what} | {self.value} | {self.seconds:.2f} | {self.ratio:.2f} | {self.how} |"


def write_squares(folder: Path, images: int, side: int, classes: int) -> Path:
    """Images of noise with squares; the classes take turns, so that all are equally frequent."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    shades = np.linspace(30, 230, classes).astype(np.uint8)
    for number in range(images):
        image = random.integers(90, 160, (side, side, 3)).astype(np.uint8)
        mask = np.zeros((side, side), dtype=np.uint8)
        for turn in range(SQUARES):
            label = 1 + (number * SQUARES + turn) % (classes - 1)
            top, left = random.integers(0, side * 2 // 3, 2)
            place = np.s_[top : top + side // 3, left : left + side // 3]
            image[place], mask[place] = shades[label], label
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03d}.png")
    (folder / "classes.txt").write_text("\n".join(f"class{label}" for label in range(classes)) + "\n", encoding="utf-8")
    return folder


def config_of(data: Path, **search: Any) -> RunConfig:
    """A small network and a short schedule."""
    return parse_config(
        {
            "data": {"path": str(data)},
            "model": {"width": 8, "depth": 2},
            "training": {"epochs": EPOCHS, "batch_size": 8},
            "search": search,
        }
    )


def trial_seconds(root: Path, images: int, side: int, classes: int) -> float:
    """Processor time of one training on `images` images; a third as many are scored, as with four folds."""
    scored = images // 3
    data = write_squares(root / f"{images}-{side}-{classes}", images + scored, side, classes)
    config = config_of(data)
    dataset, _ = load_dataset(config.data, cache=root / "cache")
    task = TrialTask(
        folder=root / data.name / "trial",
        dataset=dataset.root,
        config=config,
        setting="total_decay=2",
        value=2.0,
        fold=0,
        seed=0,
        train=tuple(range(images)),
        scored=tuple(range(images, images + scored)),
    )
    taken = []
    for number in range(REPEATS):
        start = time.process_time()
        run_task(replace(task, folder=task.folder / str(number)))
        taken.append(time.process_time() - start)
    return min(taken)


def search_seconds(root: Path, data: Path, strengths: int, folds: int, workers: int) -> tuple[float, float, int]:
    """Processor time of this process, wall time and number of trainings of a whole `tune` without a race."""
    grid = [0.0, *(0.25 * 2.0**step for step in range(strengths - 1))]
    config = config_of(data, grid=grid, folds=folds, race=False)
    run = root / f"run-{strengths}-{folds}-{workers}"
    used, wall = time.process_time(), time.perf_counter()
    with build_watcher(quiet=True, as_json=True) as watcher:
        done = tune(config, run, Execution(workers=workers, device="cpu", cache=root / "cache"), watcher)
    trainings = done.verdict.cost.trials + done.verdict.cost.refits
    return time.process_time() - used, time.perf_counter() - wall, trainings


def measured_trials(root: Path) -> Iterator[Line]:
    """A trial against images, their side, and classes."""
    trial_seconds(root / "warm", 8, SIDE_PX, CLASSES)
    grown = {
        "images of a training": [(number, SIDE_PX, CLASSES) for number in (60, 120, 240)],
        "side of an image, px": [(IMAGES, side, CLASSES) for side in (32, 64, 128)],
        "classes": [(IMAGES, SIDE_PX, classes) for classes in (2, 11, 40)],
    }
    for column, (what, sizes) in enumerate(grown.items()):
        first = None
        for size in sizes:
            seconds = trial_seconds(root / what.split()[0], *size)
            first = first or seconds
            yield Line(what, str(size[column]), seconds, seconds / first, "measured: a training")


def measured_searches(root: Path) -> Iterator[Line]:
    """A whole search against strengths, folds and workers."""
    data = write_squares(root / "searched", SEARCH_IMAGES, SIDE_PX, CLASSES)
    for workers in (0, 1):  # with a worker, the fork server imports torch once
        search_seconds(root / "warm", data, 2, 2, workers)
    grown = {
        "strengths": [(strengths, FOLDS, 0) for strengths in (2, 4, 8)],
        "folds": [(STRENGTHS, folds, 0) for folds in (3, 5, 10)],
        "workers": [(4, 5, workers) for workers in (1, 2)],
    }
    for column, (what, sizes) in enumerate(grown.items()):
        first = None
        for size in sizes:
            used, wall, trainings = search_seconds(root / what, data, *size)
            seconds = wall if size[2] else used
            first = first or seconds
            kind = "wall time" if size[2] else "processor time"
            how = f"measured: {kind} of a whole search of {trainings} trainings, refit and report among them"
            yield Line(what, str(size[column]), seconds, seconds / first, how)


def rounds(plan: race.Race, replay: Replay, workers: int) -> tuple[int, int]:
    """Rounds of trainings of equal length until the race is over, and the number of trainings in them."""
    done: set[race.Trial] = set()
    count = 0

    def look_up(trial: race.Trial) -> race.SeenTrial | None:
        if trial not in done:
            return None
        return race.SeenTrial(
            *trial,
            score=replay.trial(*trial),
            resampled=replay.resampled(*trial),
            collapsed=replay.is_collapsed(*trial),
        )

    while True:
        seen, wanted = race.walk(plan, look_up)
        if wanted is None:
            return count, len(done)
        ahead = race.likely_trials(plan, seen, [wanted], workers - 1, look_up)
        done |= {wanted, *ahead}
        count += 1


def computed() -> Iterator[str]:
    """The effect of more workers, and the number of trainings of the race."""
    yield "\n| workers | 45 trainings of the grid, rounds | the race: rounds | trainings | |\n|---|---|---|---|---|"
    grid = read_grid(DIGITS)
    plan = build_race(grid.values, 0.0, blocks=grid.shape[1], asked=len(grid.values), most=None)
    whole = len(grid.values) * grid.shape[1]
    for workers in (1, 2, 4, 8, 16):
        found = [
            rounds(plan, Replay(draw_repeat(grid, seed, number)), workers)
            for seed in range(grid.shape[2])
            for number in range(ORDERS)
        ]
        mean, trained = np.mean(found, axis=0)
        yield f"| {workers} | {-(-whole // workers)} | {mean:.1f} | {trained:.1f} | computed |"
    yield "\n| strengths | folds | the grid | the race, at least | at most | |\n|---|---|---|---|---|---|"
    for strengths, folds in ((2, 3), (4, 3), (8, 3), (9, 3), (9, 5), (9, 10), (17, 5), (33, 10)):
        values = [0.0, *(2.0**step for step in range(strengths - 1))]
        plan = build_race(values, 0.0, blocks=folds, asked=strengths, most=None)
        least, most = plan.trials_at_least, min(plan.trials_at_most, strengths * folds)
        yield f"| {strengths} | {folds} | {strengths * folds} | {min(least, most)} | {most} | computed |"


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, as a worker does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, one_thread():
        print(HEAD)
        for measure in (measured_trials, measured_searches):
            for line in measure(Path(folder)):
                print(line.show(), flush=True)
    for row in computed():
        print(row, flush=True)


if __name__ == "__main__":
    main()

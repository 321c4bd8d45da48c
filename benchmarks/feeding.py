"""A training step as a trial runs it, against the same step on tensors that are ready, with and without a thread.

    python benchmarks/feeding.py

One thread for the steps; batches of 8 with flips, affine maps and colour. The kinds take turns by blocks of 20 steps,
so that noise affects all alike and a thread cannot prepare its batches while another kind runs; medians of the blocks.
The thread needs a second core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import Dataset, load_dataset
from segdecay.training.ahead import AHEAD
from segdecay.training.feeding import Batch, Feed
from segdecay.training.loop import open_trial, train_step
from segdecay.training.setup import ALONE, TrialTask, epoch_batches
from segdecay.training.state import Trial

NETS = {"unet-tiny": ("unet-tiny", 48), "smp:Unet, resnet18": ("smp:Unet", 256)}
IMAGES, CLASSES = 32, 4
BLOCK = 20


def noise_data(folder: Path, side: int) -> Path:
    """Images of noise and masks of stripes."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(IMAGES):
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        mask = np.broadcast_to(np.arange(side) * CLASSES // side, (side, side)).astype(np.uint8)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "classes.txt").write_text("".join(f"class {label}\n" for label in range(CLASSES)), encoding="utf-8")
    return folder


def step_config(data: Path, model: str) -> RunConfig:
    """A training with every kind of augmentation."""
    values = {
        "data": {"path": str(data)},
        "model": {"name": model, **({"encoder": "resnet18"} if model != "unet-tiny" else {})},
        "augment": {"degrees": 10, "scale": 0.1, "shift": 0.05, "brightness": 0.1, "contrast": 0.1},
        "training": {"epochs": 10_000, "batch_size": 8},
    }
    return parse_config(values)


def open_trial_on(config: RunConfig, dataset: Dataset, folder: Path, device: str = "cpu", *, ahead: int = 0) -> Trial:
    """A trial at its first step."""
    part = dataset.part("train", "val")
    task = TrialTask(folder, dataset.root, config, "0", 0.0, 0, 0, part, part, device, batches_ahead=ahead)
    return open_trial(task, ALONE, lambda: False, lambda _epoch, _epochs: None)


def epochs_of(feed: Feed, task: TrialTask) -> Generator[Batch, None, None]:
    """Its batches, without an end."""
    for epoch in range(10_000):
        with feed.batches(epoch, list(epoch_batches(task, epoch)), 0) as batches:
            yield from batches


def stepper(trial: Trial, next_batch: Callable[[], Batch], *, read_every: int = 1) -> Callable[[], None]:
    """A training step; the sums are read as often as a trial reads them on the device."""

    def step() -> None:
        trial.progress.step %= len(trial.parts.rates)
        train_step(trial, [next_batch()])
        if trial.tally.steps % read_every == 0:
            trial.tally.read()

    return step


def main() -> None:
    """Print milliseconds a step and the ratio to ready tensors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for shown, (model, side) in NETS.items():
        with tempfile.TemporaryDirectory() as root:
            data = noise_data(Path(root) / "data", side)
            config = step_config(data, model)
            dataset, _ = load_dataset(config.data, cache=Path(root) / "cache")
            trials = {
                "ready tensors": open_trial_on(config, dataset, Path(root) / "a"),
                "prepared before the step": open_trial_on(config, dataset, Path(root) / "b"),
                f"prepared by a thread, {AHEAD} ahead": open_trial_on(config, dataset, Path(root) / "c", ahead=AHEAD),
            }
            jobs: dict[str, Callable[[], None]] = {}
            for name, trial in trials.items():
                batches = epochs_of(trial.feed, trial.task)
                ready = next(batches)
                is_ready = name == "ready tensors"
                jobs[name] = stepper(trial, (lambda one=ready: one) if is_ready else batches.__next__)  # type: ignore[misc]
            times: dict[str, list[float]] = {name: [] for name in jobs}
            for number in range(rounds + 1):
                for name, job in jobs.items():
                    start = time.perf_counter()
                    for _ in range(BLOCK):
                        job()
                    if number:  # the first block warms up
                        times[name].append((time.perf_counter() - start) / BLOCK)
        bare = statistics.median(times["ready tensors"])
        print(f"{shown}, {side} x {side}")
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            print(f"  {name:32s} {1000 * middle:8.1f} ms   {middle / bare:.2f}")


if __name__ == "__main__":
    main()

"""Evaluation compared with torchmetrics: time of confusion matrices at equal counts, and cost of boundary IoU.

    python benchmarks/scores.py
    python benchmarks/scores.py --sizes 96x128 --classes 11 --images 4 --rounds 5

One thread of the CPU; scenes of smooth blobs, a tenth of the pixels ignored, predictions half right. Masks are int64,
as from argmax and for the loss. Compared are methods with equal counts: one matrix per image (as trials keep them), or
one matrix of all images. "checked": with torchmetrics' validation of arguments, its default. Medians of many rounds in
turn, so that noise affects all alike. Equality of counts is checked first. Goal: at least three times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from segdecay.data.dataset import IGNORE
from segdecay.metrics.boundary import image_boundaries
from segdecay.metrics.confusion import image_confusions, scores_of

SIZES = "48x48,96x128,360x480,512x512"
CLASSES = "2,11,150"


def scenes(n: int, height: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and truth (N, H, W) int64."""
    random = np.random.default_rng(seed)

    def blobs() -> np.ndarray:
        coarse = random.standard_normal((min(classes, 16), height // 8 + 1, width // 8 + 1))
        smooth = ndimage.gaussian_filter(coarse, (0, 1.5, 1.5)).argmax(0) * classes // min(classes, 16)
        return np.kron(smooth, np.ones((8, 8), np.int64))[:height, :width]

    truth = np.stack([blobs() for _ in range(n)])
    prediction = np.where(truth < classes // 2, truth, np.stack([blobs() for _ in range(n)]))
    truth[:, :, : max(1, width // 10)] = IGNORE
    return torch.from_numpy(prediction), torch.from_numpy(truth)


def jobs_of(prediction: Tensor, truth: Tensor, classes: int) -> dict[str, Callable[[], Tensor]]:
    """The timed methods, by "library, result"; each returns one matrix (C, C)."""
    bare = MulticlassConfusionMatrix(classes, ignore_index=IGNORE, validate_args=False)
    checked = MulticlassConfusionMatrix(classes, ignore_index=IGNORE)
    jaccard = MulticlassJaccardIndex(classes, ignore_index=IGNORE, validate_args=False)

    def one_by_one(metric: MulticlassConfusionMatrix) -> Tensor:
        found = []
        for i in range(len(truth)):
            metric.reset()
            metric.update(prediction[i : i + 1], truth[i : i + 1])
            found.append(metric.confmat)
        return torch.stack(found).sum(0)

    def at_once(metric: MulticlassConfusionMatrix) -> Tensor:
        metric.reset()
        metric.update(prediction, truth)
        return metric.confmat

    flat = prediction.flatten(0, 1)[None], truth.flatten(0, 1)[None]
    return {
        "ours, a matrix an image": lambda: image_confusions(prediction, truth, classes).sum(0),
        "torchmetrics, a matrix an image": lambda: one_by_one(bare),
        "torchmetrics checked, a matrix an image": lambda: one_by_one(checked),
        "ours, one matrix": lambda: image_confusions(*flat, classes)[0],
        "torchmetrics, one matrix": lambda: at_once(bare),
        "torchmetrics' Jaccard index, one matrix": lambda: at_once(jaccard),
    }


def check_equal(jobs: dict[str, Callable[[], Tensor]], prediction: Tensor, truth: Tensor, classes: int) -> None:
    """Exit if counts differ, or the mIoU computed from them."""
    ours = jobs["ours, a matrix an image"]()
    different = [name for name, job in jobs.items() if not torch.equal(job(), ours)]
    if different:
        raise SystemExit(f"counts differ: {', '.join(different)}")
    theirs = float(MulticlassJaccardIndex(classes, ignore_index=IGNORE)(prediction, truth))
    if abs(theirs - scores_of(ours.numpy()).miou) > 1e-5:
        raise SystemExit(f"mIoU differs: {theirs}")


def measure(height: int, width: int, classes: int, images: int, rounds: int) -> float:
    """Print milliseconds per image and ratios to ours; returns the smallest ratio."""
    prediction, truth = scenes(images, height, width, classes)
    jobs = jobs_of(prediction, truth, classes)
    check_equal(jobs, prediction, truth, classes)
    timed: dict[str, Callable[[], object]] = {
        **jobs,
        "boundary counts": lambda: image_boundaries(prediction.numpy(), truth.numpy(), classes),
    }
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, timed_job in timed.items():
            start = time.perf_counter()
            timed_job()
            times[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(taken) / images for name, taken in times.items()}
    print(f"\n{height}x{width}, {classes} classes")
    ratios = []
    for name, taken in middle.items():
        own = middle.get(f"ours, {name.partition(', ')[2]}", middle["ours, a matrix an image"])
        print(f"  {name:<42}{1e3 * taken:9.3f} ms an image {taken / own:7.1f} of ours")
        ratios += [taken / own] if name.startswith("torchmetrics") else []
    return min(ratios)


def main() -> None:
    """Every size with every number of classes, then the smallest ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--classes", default=CLASSES)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [[int(side) for side in size.split("x")] for size in asked.sizes.split(",")]
    ratios = [
        measure(height, width, int(classes), asked.images, asked.rounds)
        for height, width in sizes
        for classes in asked.classes.split(",")
    ]
    print(f"\nsmallest ratio of torchmetrics' time to ours: {min(ratios):.1f}")


if __name__ == "__main__":
    main()

"""Folds of random skewed data sets: how evenly classes are distributed, compared with scikit-learn's folds.

    python benchmarks/folds.py --sets 200      # about a minute

A data set has 12 to 120 groups of 1 to 40 images (a long tail), and 4 to 12 classes, each half as frequent as the one
before and concentrated in some groups; the pixels per class and image are log-normal. `StratifiedGroupKFold` takes one
label per image, so it gets the rarest class of each image (the usual practice) and the groups, and the best of five
shuffles by the reported score is used. Our folds use the counts. Reported over all sets, for classes that are in at
least as many groups as there are folds: the least even class (its largest distance from 1/folds, as a share of the
class, by pixels and by images, minus the part that its largest group makes unavoidable), and the folds that lack one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from segdecay.data.splits.stratify import balanced_folds, fold_weights

I64 = npt.NDArray[np.int64]
SHUFFLES = 5


@dataclass(frozen=True)
class Score:
    """Scores of a split: the least even class by pixels and by images, folds without a class, least even fold size."""

    pixels: float
    images: float
    lacking: int
    sizes: float


def draw_set(random: np.random.Generator) -> tuple[I64, I64]:
    """Pixels of each class in each image (N, C), and the group of each image (N,)."""
    n_groups, n_classes = int(random.integers(12, 121)), int(random.integers(4, 13))
    sizes = np.clip(random.lognormal(1.2, 1.0, n_groups), 1, 40).astype(np.int64)
    group = np.repeat(np.arange(n_groups), sizes)
    chance = 0.5 ** np.arange(n_classes)
    in_group = random.random((n_groups, n_classes)) < np.maximum(chance, 8 / n_groups)  # at least about eight groups
    in_image = in_group[group] & (random.random((len(group), n_classes)) < 0.6)
    in_image[:, 0] = True
    pixels = in_image * random.lognormal(6 - 0.3 * np.arange(n_classes), 0.8, in_image.shape)
    return np.ceil(pixels).astype(np.int64), group.astype(np.int64)


def score_of(fold: I64, pixels: I64, group: I64, n_folds: int) -> Score:
    """The evenness of the classes of a split."""
    images = (pixels > 0).astype(np.int64)
    groups = np.array([len(set(group[has > 0].tolist())) for has in images.T])
    enough = groups >= n_folds

    def worst(amounts: I64) -> float:
        sums = np.stack([amounts[fold == k].sum(axis=0) for k in range(n_folds)])
        of_group = np.zeros((int(group.max()) + 1, amounts.shape[1]), dtype=np.int64)
        np.add.at(of_group, group, amounts)
        total = np.maximum(1, amounts.sum(axis=0))
        unavoidable = np.maximum(0, of_group.max(axis=0) / total - 1 / n_folds)  # its largest group is in one fold
        distance = np.abs(sums / total - 1 / n_folds).max(axis=0)
        return float((distance - unavoidable)[enough].max())

    there = np.stack([images[fold == k].any(axis=0) for k in range(n_folds)])
    lacking = int((~there[:, enough]).sum())
    sizes = np.bincount(fold, minlength=n_folds) / len(fold)
    return Score(worst(pixels), worst(images), lacking, float(np.abs(sizes - 1 / n_folds).max()))


def ours(pixels: I64, group: I64, n_folds: int) -> I64:
    """The folds that segdecay makes of these groups."""
    n_groups, n_classes = int(group.max()) + 1, pixels.shape[1]
    table = np.concatenate([pixels, pixels > 0, np.ones((len(pixels), 1), dtype=np.int64)], axis=1)
    amounts = np.zeros((n_groups, table.shape[1]), dtype=np.int64)
    np.add.at(amounts, group, table)
    return np.asarray(balanced_folds(amounts, fold_weights(n_classes), n_folds, seed=0)[group])


def theirs(pixels: I64, group: I64, n_folds: int) -> I64:
    """The best of five shuffles of StratifiedGroupKFold on the rarest class of each image."""
    totals = np.where(pixels > 0, pixels.sum(axis=0), pixels.sum() + 1)
    rarest = totals.argmin(axis=1)
    found = []
    for state in range(SHUFFLES):
        fold = np.zeros(len(group), dtype=np.int64)
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of classes with fewer images than folds
            for k, (_, held_out) in enumerate(splitter.split(pixels, rarest, group)):
                fold[held_out] = k
        found.append(fold)
    return min(found, key=lambda fold: score_of(fold, pixels, group, n_folds).pixels)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random = np.random.default_rng(asked.seed)
    sets = [draw_set(random) for _ in range(asked.sets)]
    scores, seconds = {}, {}
    for name, split in (("segdecay", ours), ("StratifiedGroupKFold, best of 5", theirs)):
        started = time.perf_counter()
        folds = [split(pixels, group, asked.folds) for pixels, group in sets]
        seconds[name] = (time.perf_counter() - started) / len(sets)
        scores[name] = [score_of(fold, *one, asked.folds) for fold, one in zip(folds, sets, strict=True)]
    print(f"{asked.sets} sets, {asked.folds} folds, seed {asked.seed}; mean (95th percentile)\n")
    print("| split | least even class, pixels | images | folds that lack a class | least even size | s a set |")
    print("|---|---|---|---|---|---|")
    for name, found in scores.items():
        trials = [
            f"{np.mean(values):.3f} ({np.quantile(values, 0.95):.3f})"
            for values in ([getattr(score, key) for score in found] for key in ("pixels", "images", "sizes"))
        ]
        lacking = f"{sum(score.lacking for score in found)} in {sum(score.lacking > 0 for score in found)} sets"
        print(f"| {name} | {trials[0]} | {trials[1]} | {lacking} | {trials[2]} | {seconds[name]:.2f} |")
    first, second = scores.values()
    for key in ("pixels", "images"):
        apart = np.array([getattr(a, key) - getattr(b, key) for a, b in zip(first, second, strict=True)])
        print(f"\nby {key}: more even in {np.mean(apart < -1e-9):.0%} of the sets, less in {np.mean(apart > 1e-9):.0%}")


if __name__ == "__main__":
    main()

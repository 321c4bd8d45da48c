"""Coverage of the verdict's intervals and power of the verdict, on small models that are fitted for this.

    python benchmarks/calibration.py                          # all surfaces, 1,000 repeats each, about 12 minutes
    python benchmarks/calibration.py null --repeats 2000
    python benchmarks/calibration.py --records benchmarks/records/digits.npz    # real trainings, see record_grid.py

One repeat: images of pixels in classes with a long tail are drawn in groups, ridge classifiers (closed form) are
fitted at every strength on true folds over groups, per-image confusion matrices are kept as `segdecay tune` keeps them,
and the function of segdecay's verdict decides. It is judged on new groups. *Coverage of the models*: the truth is the
mean score of the models that the folds fitted, which is what cross-validation estimates. *Coverage of the procedure*:
the truth is the mean over all repeats, so new training data as well. The rejected statistics are shown too: `images`
(no term for training noise), `bonferroni` (the same errors without the joint quantile), `spread` (the first version:
the larger of images and fold spread, t with few degrees of freedom, Bonferroni) and `bbc` (repeating the selection,
also for the difference).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from grids.packing import MATRIX_KEYS, unpack_matrices

from segdecay.metrics import bootstrap as ev
from segdecay.metrics import intervals as iv
from segdecay.metrics.confusion import intersection_union, iou, mean_present
from segdecay.runs.records import StrengthRecord
from segdecay.search.undertrained import check_training
from segdecay.search.verdict import Candidate, Decision, decide

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
CONFIDENCE = 0.95
RESAMPLES = 500


@dataclass(frozen=True)
class World:
    """A simulated case. luck: deviation of the random image weights that are drawn for every training."""

    penalties: tuple[float, ...]
    luck: float
    groups: int = 36
    images: int = 3  # of a group
    pixels: int = 24  # of an image
    classes: int = 6
    features: int = 24
    folds: int = 3
    distance: float = 3.5  # of class means, in deviations of a pixel
    group_spread: float = 0.7
    new_groups: int = 500  # to judge on


WORLDS = {
    "null": World((1e-3,) * 5, luck=0.5),
    "null, much luck": World((1e-3,) * 4, luck=1.2),
    "null, 8 strengths": World((1e-3,) * 9, luck=0.5),
    "null, few groups": World((1e-3,) * 4, luck=0.5, groups=12, images=9),
    "null, 5 folds": World((1e-3,) * 5, luck=0.5, groups=40, folds=5),
    "null, lucky trainings": World((1e-3,) * 4, luck=2.5),
    "nothing to learn": World((1e-3,) * 4, luck=0.5, distance=0.0, group_spread=0.3),
    "grid": World((1e-4, 1e-2, 0.1, 0.5, 3.0), luck=0.3),
    # as digits: 11 classes, 12 groups, 52 images a fold, a gain of .09 with a fold deviation of .035
    "gain": World(
        (1e-4, 0.05, 0.5, 5.0), luck=0.3, groups=12, images=13, pixels=14, classes=11, features=500, distance=5.0,
        group_spread=0.3, new_groups=60,
    ),
}  # fmt: skip


def draw_images(random: np.random.Generator, world: World, n_groups: int) -> tuple[F32, I64, I64]:
    """Features (N, P, p + 1) with a constant, classes (N, P) and group (N) of new images."""
    n, k, p = n_groups * world.images, world.classes, world.features
    present = random.random((n, k - 1)) < 0.7 * 0.75 ** np.arange(k - 1)
    share = np.concatenate([np.full((n, 1), 1.5), 0.35 * present], axis=1)
    limits = (share / share.sum(axis=1, keepdims=True)).cumsum(axis=1)
    truth = (random.random((n, world.pixels, 1)) > limits[:, None, :-1]).sum(axis=-1)
    group = np.repeat(np.arange(n_groups), world.images)
    centres = np.zeros((k, p), dtype=np.float32)
    centres[np.arange(k), np.arange(k)] = world.distance
    shift = random.standard_normal((n_groups, k, p), dtype=np.float32) * np.float32(world.group_spread)
    features = np.ones((n, world.pixels, p + 1), dtype=np.float32)
    features[..., :p] = centres[truth] + shift[group[:, None], truth]
    features[..., :p] += random.standard_normal((n, world.pixels, p), dtype=np.float32)
    return features, truth, group


def fit_ridge(features: F32, truth: I64, weights: F64, penalty: float, classes: int) -> F32:
    """Ridge on one-hot classes, weighted by image and by 1/√(class frequency): coefficients (p + 1, C)."""
    x, y = features.reshape(-1, features.shape[-1]), np.eye(classes, dtype=np.float32)[truth.ravel()]
    balance = y @ (1 / np.sqrt(np.maximum(y.sum(axis=0), 1)))
    w = np.repeat(weights, truth.shape[1]) * balance
    xw = x * (w / w.sum()).astype(np.float32)[:, None]
    gram = xw.T @ x
    inner = np.arange(len(gram) - 1)  # the constant is not penalised
    gram[inner, inner] += np.float32(penalty)
    return np.asarray(np.linalg.solve(gram, xw.T @ y))


def confusions(predicted: I64, truth: I64, classes: int) -> I64:
    """(..., P) predictions of pixels in (..., P) classes to (..., C, C)."""
    lead = predicted.shape[:-1]
    entry = (truth * classes + predicted).reshape(int(np.prod(lead)), -1)
    entry += np.arange(len(entry))[:, None] * classes**2
    return np.bincount(entry.ravel(), minlength=len(entry) * classes**2).reshape(*lead, classes, classes)


def one_repeat(random: np.random.Generator, world: World) -> tuple[list[Candidate], list[I64], F64]:
    """Candidates with their kept counts, the groups of every fold, and the true score (V, F) of every model."""
    features, truth, group = draw_images(random, world, world.groups)
    fold_of = random.permutation(np.arange(world.groups) % world.folds)[group]
    k, n_strengths = world.classes, len(world.penalties)
    models = np.zeros((n_strengths, world.folds, world.features + 1, k), dtype=np.float32)
    counts: list[list[list[ev.Counts]]] = [[] for _ in world.penalties]
    for fold in range(world.folds):
        trained, scored = fold_of != fold, fold_of == fold
        for v, penalty in enumerate(world.penalties):
            weights = random.gamma(world.luck**-2, world.luck**2, int(trained.sum()))
            models[v, fold] = fit_ridge(features[trained], truth[trained], weights, penalty, k)
            predicted = (features[scored] @ models[v, fold]).argmax(axis=-1)
            counts[v].append([ev.Counts.of(confusions(predicted, truth[scored], k))])
    candidates = [
        Candidate(StrengthRecord("total_decay", float(v)), trials, None, None, 0) for v, trials in enumerate(counts)
    ]
    new, new_truth, _ = draw_images(random, world, world.new_groups)
    columns = models.transpose(2, 0, 1, 3).reshape(world.features + 1, -1)
    scores = (new.reshape(-1, world.features + 1) @ columns).reshape(-1, n_strengths, world.folds, k)
    matrices = confusions(np.moveaxis(scores.argmax(axis=-1), 0, -1), new_truth.ravel(), k)
    true = mean_present(iou(*intersection_union(matrices)))
    return candidates, [group[fold_of == fold] for fold in range(world.folds)], true


@dataclass
class Tally:
    """Intervals and verdicts of all repeats, with the true values."""

    intervals: dict[str, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))
    what: dict[str, list[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    off: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, interval: tuple[float, float] | None, truth: F64, setting: int, *, paired: bool) -> None:
        """An interval of a setting, or of its difference from no decay; truth (V)."""
        if interval is None:
            return
        self.intervals[name].append((*interval, float(truth[setting] - (truth[0] if paired else 0.0))))
        self.what[name].append((setting, paired))

    def lines(self, procedure: F64) -> list[str]:
        """Coverage of the models and of the procedure, and mean width, of every kind of interval."""
        found = []
        for name, rows in self.intervals.items():
            low, high, truth = np.array(rows).T
            other = np.array([procedure[s] - (procedure[0] if paired else 0.0) for s, paired in self.what[name]])
            models, both = ((low <= value) & (value <= high) for value in (truth, other))
            found.append(f"| {name} | {models.mean():.3f} | {both.mean():.3f} | {np.mean(high - low):.4f} |")
        return found


def others(
    candidates: list[Candidate], seed: int, best: int
) -> tuple[dict[str, iv.Estimates], tuple[float, float] | None]:
    """Differences from no decay by the rejected statistics, and the interval of the best by repeating the selection."""
    names = [str(v) for v in range(len(candidates))]
    surface, _ = ev.surface_of([one.trials for one in candidates], names, resamples=RESAMPLES, seed=seed)
    tool = iv.difference_estimates(surface, 0)
    n_folds, n = surface.scores.shape[1], len(candidates)
    images = np.sqrt(np.maximum(tool.errors**2 - tool.training, 0.0))
    spread = (surface.scores - surface.scores[0]).var(axis=1, ddof=1)
    shared = (0.5 * spread + 0.5 * np.median(spread[1:])) / n_folds
    first = np.sqrt(np.maximum(images**2, shared))
    few = np.full(n, iv.pooled_freedom(n_folds, n - 1))
    by_images = [iv.image_freedom([fold[v] - fold[0] for fold in surface.influences]) for v in range(n)]
    luck = iv.selection_deviations(surface, tool)
    taken = (surface.scores.mean(axis=1)[:, None] + luck).argmax(axis=0)
    repeated = iv.corrected(
        np.nan_to_num(tool.means),
        luck - luck[0],
        taken,
        best,
        error=float(tool.errors[best]),
        freedom=float(tool.freedom[best]),
        confidence=CONFIDENCE,
    )
    lost = {
        "images": iv.Estimates(tool.means, images, np.array(by_images), tool.deviations, tool.training),
        "bonferroni": tool,
        "spread": iv.Estimates(tool.means, first, few, tool.deviations, tool.training),
    }
    return lost, repeated.interval if best else None


def note_decision(tally: Tally, decision: Decision, truth: F64) -> None:
    """Add segdecay's intervals, with the truth."""
    named, best, taken = 1, decision.best, decision.taken
    setting, difference = decision.settings[named], decision.best_difference
    tally.note("setting named beforehand", setting.interval, truth, named, paired=False)
    tally.note("difference named beforehand", setting.difference_named, truth, named, paired=True)
    tally.note("selected setting", decision.selection.interval, truth, taken, paired=False)
    if difference is not None:
        tally.note("selected difference", difference.interval, truth, best, paired=True)
    if decision.honest is not None and decision.selection.mean is not None:
        tally.off["mean of the selected"].append(decision.selection.mean - truth[taken])
        tally.off["the same, corrected"].append(decision.honest["mean"] - truth[taken])
    tally.kinds["tool"].append(decision.kind in ("chosen", "edge"))


def is_trained(candidate: Candidate, classes: list[str], groups: list[list[int]], seed: int) -> bool:
    """Whether the gate of `tune` lets a verdict be given; by validation scores, as these worlds keep no others."""
    found = check_training(
        candidate, (), ev.MIOU, classes, confidence=CONFIDENCE, resamples=RESAMPLES, seed=seed, groups=groups
    )
    return found.is_enough


def calibrate(name: str, world: World, repeats: int, seed: int) -> None:
    """Run one world and print its table."""
    random, tally, truths = np.random.default_rng(seed), Tally(), []
    started = time.process_time()
    for number in range(repeats):
        candidates, groups, true = one_repeat(random, world)
        truth = true.mean(axis=1)
        truths.append(truth)
        classes, names = [str(c) for c in range(world.classes)], [fold.tolist() for fold in groups]
        decision = decide(candidates, classes, confidence=CONFIDENCE, resamples=RESAMPLES, seed=number, groups=names)
        note_decision(tally, decision, truth)
        told = is_trained(candidates[decision.best], classes, names, number)
        tally.kinds["not trained enough"].append(not told)
        tally.kinds["said"].append(told and tally.kinds["tool"][-1])
        by_group = ev.resampled_by(names) == "groups"
        units = [_summed(one, groups) for one in candidates] if by_group else candidates
        found_by, repeated = others(units, number, decision.best)
        tally.note("selected difference, bbc", repeated, truth, decision.best, paired=True)
        for other, found in found_by.items():
            tail = (1 - CONFIDENCE) / (len(truth) - 1) if other != "images" else iv.joint_tail(found, CONFIDENCE)
            interval = found.interval(decision.best, tail).interval
            tally.note(f"selected difference, {other}", interval, truth, decision.best, paired=True)
            tally.kinds[other].append(interval is not None and interval[0] > 0)
    seconds = time.process_time() - started
    print(f"\n### {name}: {repeats} repeats, {seconds:.0f} s of one core, resampled: {decision.resampled}")
    print(f"true means {np.mean(truths, axis=0).round(3).tolist()}\n")
    print("| interval | covers the models | the procedure | mean width |\n|---|---|---|---|")
    print("\n".join(tally.lines(np.mean(truths, axis=0))))
    print("\nchosen: " + ", ".join(f"{key} {np.mean(rows):.3f}" for key, rows in tally.kinds.items()))
    print("too high by: " + ", ".join(f"{key} {np.mean(rows):+.4f}" for key, rows in tally.off.items()), flush=True)


def _summed(candidate: Candidate, groups: list[I64]) -> Candidate:
    counts = [[trial.by_group(groups[f].tolist()) for trial in seeds] for f, seeds in candidate.trials.items()]
    return Candidate(candidate.strength, counts, None, None, 0)


def power_on_records(path: Path, values: tuple[float, ...], n_folds: int) -> None:
    """The verdict on every subset of `n_folds` recorded folds and every single seed, as `tune` runs by default."""
    with np.load(path, allow_pickle=False) as kept:
        grid, fold_of, names = kept["values"].tolist(), kept["fold_of"], [str(name) for name in kept["classes"]]
        seeds, groups = len(kept["seeds"]), kept["group_of"]
        matrices = unpack_matrices({key: kept[key] for key in MATRIX_KEYS}, len(names))
    by_fold = [np.flatnonzero(fold_of == fold) for fold in range(int(fold_of.max()) + 1)]
    counts, start = {}, 0
    for trial in itertools.product(grid, range(len(by_fold)), range(seeds)):
        n = len(by_fold[trial[1]])
        counts[trial] = ev.Counts.of(matrices[start : start + n])
        start += n
    kinds: dict[str, int] = defaultdict(int)
    for folds, seed in itertools.product(itertools.combinations(range(len(by_fold)), n_folds), range(seeds)):
        candidates = [
            Candidate(StrengthRecord("total_decay", v), [[counts[v, fold, seed]] for fold in folds], None, None, 0)
            for v in values
        ]
        of = [groups[by_fold[fold]].tolist() for fold in folds]
        kinds[decide(candidates, names, confidence=CONFIDENCE, resamples=2000, seed=0, groups=of).kind] += 1
    print(f"{path.name}, D = {values}, subsets of {n_folds} folds, one seed each: {dict(kinds)}")


def main() -> None:
    """Run the requested cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", default=[], help=f"any of: {', '.join(WORLDS)}")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", type=Path, help="recorded grid to decide on instead")
    parser.add_argument("--strengths", default="0,1,4,16", help="of the recorded grid; the default grid of tune")
    parser.add_argument("--folds", type=int, default=3, help="of the recorded grid")
    asked = parser.parse_args()
    if asked.records is not None:
        power_on_records(asked.records, tuple(float(value) for value in asked.strengths.split(",")), asked.folds)
        return
    for name in asked.worlds or WORLDS:
        calibrate(name, WORLDS[name], asked.repeats, asked.seed)


if __name__ == "__main__":
    main()

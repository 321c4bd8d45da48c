"""Recorded grids: every trial's matrices and curves, from benchmarks/records/NAME.npz (see record_grid.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from grids.packing import MATRIX_KEYS, unpack_matrices

from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.confusion import mean_present

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
KEYS = ("values", "curves", "fold_of", *MATRIX_KEYS)


@dataclass(frozen=True)
class Grid:
    """All trials of one data set: V strengths from none to the strongest, F folds, S seeds, E epochs."""

    name: str
    values: tuple[float, ...]
    curves: F64  # (V, F, S, E) validation mIoU after every epoch
    counts: tuple[tuple[tuple[Counts, ...], ...], ...]  # [v][f][s], of the last step
    collapsed: npt.NDArray[np.bool_]  # (V, F, S) whether a trial predicts a single class

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(V, F, S, E)."""
        v, f, s, e = self.curves.shape
        return v, f, s, e

    def scores(self, seed: int) -> F64:
        """(V, F) mIoU after the last step on all images of each fold."""
        return np.array([[float(mean_present(fold[seed].class_iou())) for fold in setting] for setting in self.counts])


def read_grid(path: Path) -> Grid:
    """The grid in one file.

    Raises:
        SystemExit: keys are missing, or the number of matrices is not that of trials times images.
    """
    with np.load(path, allow_pickle=False) as kept:
        missing = [key for key in (*KEYS, "classes") if key not in kept]
        if missing:
            raise SystemExit(f"{path} lacks {', '.join(missing)}; record it anew with benchmarks/record_grid.py")
        parts = {key: kept[key] for key in KEYS}
        n_classes = len(kept["classes"])
    n_settings, n_folds, n_seeds, _ = parts["curves"].shape
    of_fold = [int((parts["fold_of"] == fold).sum()) for fold in range(n_folds)]
    expected = n_settings * n_seeds * sum(of_fold)
    if len(parts["confusion_length"]) != expected:
        raise SystemExit(
            f"{path} holds {len(parts['confusion_length'])} matrices; {n_settings} strengths, {n_seeds} seeds and "
            f"{sum(of_fold)} images make {expected}; record it anew with benchmarks/record_grid.py"
        )
    matrices = unpack_matrices(parts, n_classes)
    curves = parts["curves"].astype(np.float64)
    counts, collapsed = _trials(matrices, (n_settings, n_folds, n_seeds), of_fold)
    return Grid(path.stem, tuple(float(value) for value in parts["values"]), curves, counts, collapsed)


def _trials(
    matrices: I64,  # (all trials and images, C, C)
    shape: tuple[int, int, int],
    of_fold: list[int],  # images
) -> tuple[tuple[tuple[tuple[Counts, ...], ...], ...], npt.NDArray[np.bool_]]:
    """The matrices trial by trial: their counts, and whether a trial predicts a single class."""
    n_settings, n_folds, _ = shape
    counts: list[list[list[Counts]]] = [[[] for _ in range(n_folds)] for _ in range(n_settings)]
    collapsed = np.zeros(shape, dtype=bool)
    start = 0
    for v, f, s in np.ndindex(shape):
        own = matrices[start : start + of_fold[f]]
        start += of_fold[f]
        counts[v][f].append(Counts.of(own))
        total = own.sum(axis=0)
        collapsed[v, f, s] = (total.sum(axis=0) > 0).sum() <= 1 < (total.sum(axis=1) > 0).sum()
    return tuple(tuple(tuple(trials) for trials in setting) for setting in counts), collapsed

"""Simulated grids whose truth is known. Not recordings: no network was trained for them.

score = curve(strength) + fold + trial noise, with images whose own difficulty all strengths share. Sizes are those of
the project's first simulation: noise of a trial .012, fold effects .03. Scores on the way rise as epochs^a with a from
.2 at none to .7 at the strongest, which is how decayed trainings lag at a half and a quarter of their schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replay.judging import Judge
from replay.records import F64, Grid
from replay.selectors import octaves
from segdecay.metrics.bootstrap import Counts

VALUES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
N_FOLDS, EPOCHS, IMAGES = 5, 40, 40
LEVEL = 0.5
TRIAL_NOISE, FOLD_EFFECT = 0.012, 0.03
IMAGE_EFFECT, IMAGE_NOISE = 0.1, 0.03  # difficulty that strengths share, and what they do not
PIXELS = 10_000
COLLAPSE_CHANCE, COLLAPSED_SCORE = 0.1, 0.05
LAG = (0.2, 0.7)

X = octaves(VALUES)


def _peak(at: float, curvature: float) -> F64:
    return np.asarray(-curvature * (X - at) ** 2)


@dataclass(frozen=True)
class Surface:
    """What is true of a simulated data set: curves (V, F), and how often a trial collapses."""

    curves: F64
    collapse: float = 0.0


def _everywhere(curve: F64) -> F64:
    return np.repeat(curve[:, None], N_FOLDS, axis=1)


def _one_differs() -> F64:
    curves = _everywhere(_peak(2.0, 0.003))
    curves[:, 0] = _peak(-2.0, 0.006)
    return curves


SURFACES: dict[str, Callable[[], Surface]] = {
    "flat": lambda: Surface(_everywhere(np.zeros(len(X)))),
    "gentle peak": lambda: Surface(_everywhere(_peak(1.0, 0.0015))),
    "sharp peak": lambda: Surface(_everywhere(_peak(2.0, 0.006))),
    "none best": lambda: Surface(_everywhere(-0.002 * (X - X[0]) ** 1.5)),
    "edge": lambda: Surface(_everywhere(0.01 * (X - X[0]))),
    "bimodal": lambda: Surface(
        _everywhere(0.04 * np.exp(-0.5 * (X + 1.0) ** 2) + 0.05 * np.exp(-0.5 * (X - 4.0) ** 2))
    ),
    "a fold that differs": lambda: Surface(_one_differs()),
    "trials that collapse": lambda: Surface(_everywhere(_peak(2.0, 0.006)), COLLAPSE_CHANCE),
}


def truth_of(surface: Surface) -> Judge:
    """The true means over the folds; the unit is the paired standard error that a full grid would have."""
    variance = 2 * (TRIAL_NOISE**2 + IMAGE_NOISE**2 / IMAGES)
    return Judge(LEVEL + surface.curves.mean(axis=1), float(np.sqrt(variance / N_FOLDS)))


def draw_grid(name: str, surface: Surface, number: int) -> Grid:
    """One grid of one seed from a surface."""
    random = np.random.Generator(np.random.PCG64([number, len(name)]))
    shape = surface.curves.shape
    score = LEVEL + surface.curves + FOLD_EFFECT * random.standard_normal(N_FOLDS)
    score += TRIAL_NOISE * random.standard_normal(shape)
    collapsed = random.random(shape) < surface.collapse
    score[collapsed] = COLLAPSED_SCORE
    image = IMAGE_EFFECT * random.standard_normal((N_FOLDS, IMAGES))
    image = (image - image.mean(axis=1, keepdims=True))[None] * ~collapsed[..., None]
    own = IMAGE_NOISE * random.standard_normal((*shape, IMAGES)) * ~collapsed[..., None]
    hit = np.rint(PIXELS * np.clip(score[..., None] + image + own, 0.0, 1.0)).astype(np.int64)
    union = np.full((IMAGES, 1), PIXELS)
    counts = tuple(tuple((Counts(fold[:, None], union, union),) for fold in setting) for setting in hit)
    last = hit.mean(axis=-1) / PIXELS
    lag = np.linspace(*LAG, shape[0])[:, None, None]
    progress = np.arange(1, EPOCHS + 1) / EPOCHS
    curves = last[..., None] * progress**lag
    return Grid(name, VALUES, curves[:, :, None, :], counts, collapsed[..., None])

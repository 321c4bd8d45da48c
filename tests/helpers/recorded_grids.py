"""Grids of trials for tests of the replay benchmark: files as record_grid.py writes them, simulations without noise."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from segdecay.metrics.confusion import scores_of

BENCHMARKS = ROOT / "benchmarks"
VALUES = (0.0, 1.0, 4.0, 16.0)
SIZES = (5, 7, 6)  # images of each fold
CLASSES, SEEDS, EPOCHS = 3, 2, 4
SHARES = ((0.25, 0.5, 0.75, 1.0), (0.5, 0.6, 0.7, 1.0))  # of the last score after every epoch, by seed


def _load() -> Any:
    """The benchmark's modules by name; they are scripts, so their folder is on the path only while they are read."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("records", "replaying", "selectors", "judging", "surfaces")
    found = {name: importlib.import_module(f"replay.{name}") for name in names}
    found["selection"] = importlib.import_module("selection")
    sys.path.remove(str(BENCHMARKS))
    return SimpleNamespace(**found)


bench = _load()


def random_matrices(seed: int = 0) -> dict[tuple[int, int, int], Any]:
    """Random (N, C, C) matrices of every trial; trial (3, 2, 1) predicts one class, trial (2, 2, 1) two."""
    random = np.random.default_rng(seed)
    shape = (len(VALUES), len(SIZES), SEEDS)
    found = {at: random.integers(0, 50, (SIZES[at[1]], CLASSES, CLASSES)) for at in np.ndindex(shape)}
    found[3, 2, 1][:, :, 1:] = 0
    found[2, 2, 1][:, :, 2:] = 0
    return found


def write_record(path: Path, matrices: dict[tuple[int, int, int], Any], **changes: Any) -> Path:
    """A file as record_grid.py writes it."""
    flat = [matrix.ravel() for own in matrices.values() for matrix in own]
    where = [np.nonzero(one)[0] for one in flat]
    curves = np.zeros((len(VALUES), len(SIZES), SEEDS, EPOCHS), dtype=np.float32)
    for at, own in matrices.items():
        curves[at] = scores_of(own.sum(axis=0)).miou * np.array(SHARES[at[2]])
    content = {
        "values": np.array(VALUES),
        "seeds": np.arange(SEEDS),
        "classes": np.array(["a", "b", "c"]),
        "curves": curves,
        "fold_of": np.repeat(np.arange(len(SIZES)), SIZES),
        "confusion_index": np.concatenate(where).astype(np.uint16),
        "confusion_count": np.concatenate([one[index] for one, index in zip(flat, where, strict=True)]).astype(
            np.uint32
        ),
        "confusion_length": np.array([len(index) for index in where], dtype=np.uint16),
    } | changes
    np.savez_compressed(path, **{key: value for key, value in content.items() if value is not None})
    return path


def open_replay(grid: Any, seed: int = 0, number: int = 0, budget: float = np.inf) -> Any:
    """The replay of one repeat, with all images, for a selector."""
    return bench.replaying.Replay(bench.replaying.draw_repeat(grid, seed, number, resample=False), budget)


def noiseless(monkeypatch: pytest.MonkeyPatch, name: str = "sharp peak") -> tuple[Any, int]:
    """A simulated grid with almost no noise, and its best strength."""
    for constant in ("TRIAL_NOISE", "IMAGE_NOISE", "IMAGE_EFFECT"):
        monkeypatch.setattr(bench.surfaces, constant, 1e-4)
    surface = bench.surfaces.Surface(bench.surfaces.SURFACES[name]().curves)
    return bench.surfaces.draw_grid(name, surface, 0), int(surface.curves.mean(axis=1).argmax())

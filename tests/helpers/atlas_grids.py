"""Grids of the atlas for its tests: a small record as atlas.py writes it, with changes; scripts loaded by name."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from recorded_grids import BENCHMARKS

VALUES = (0.0, 1.0, 4.0)
SIZES = (9, 8, 8)  # images of each fold
CLASSES = ("ground", "road")
SHAPE = (len(VALUES), len(SIZES), 1)


def _load() -> Any:
    """The scripts of the atlas; their folder is on the path only while they are read."""
    sys.path.insert(0, str(BENCHMARKS))
    found = {name: importlib.import_module(f"grids.{name}") for name in ("packing", "records", "judging", "figures")}
    found |= {name: importlib.import_module(f"grids.{name}") for name in ("recipes", "data", "earlier")}
    found |= {name: importlib.import_module(name) for name in ("atlas", "atlas_report")}
    sys.path.remove(str(BENCHMARKS))
    return SimpleNamespace(**found)


atlas = _load()


def facts(name: str) -> dict[str, Any]:
    """What a small grid says of its recipe."""
    return {
        "name": name,
        "data": "roads-small",
        "change": "base",
        "task": "segmentation",
        "criterion": "miou",
        "regularizer": "decoupled",
        "optimizer": "adamw",
        "momentum": 0.0,
        "lr": 0.003,
        "lambda_at_one": 2.0,
        "model": "unet-tiny",
        "width": 12,
        "epochs": 5,
        "batch": 8,
        "size": [11, 11],
        "images": sum(SIZES),
        "train_images": 16,
        "excluded": [],
        "method": "groups",
        "seed": 0,
        "config": {},
        "versions": {},
    }


def matrices(gains: tuple[float, ...] = (0.0, 0.1, 0.2)) -> list[Any]:
    """(N, 2, 2) matrices of every trial in the order of a record: .6 of the pixels are right, and a gain a strength."""
    random = np.random.default_rng(0)
    found = []
    images = [random.integers(40, 60, (size, 2)) for size in SIZES]  # pixels of both classes of every image
    hard = [random.uniform(0.0, 0.1, size) for size in SIZES]
    for gain in gains:
        for pixels, off in zip(images, hard, strict=True):
            right = np.round(pixels * (0.6 + gain - off)[:, None]).astype(np.int64)
            wrong = pixels - right
            found.append(
                np.stack([np.stack([right[:, 0], wrong[:, 0]], 1), np.stack([wrong[:, 1], right[:, 1]], 1)], 1)
            )
    return found


def write_grid(path: Path, *, gains: tuple[float, ...] = (0.0, 0.1, 0.2), told: Any = None, **changes: Any) -> Path:
    """A record as atlas.py writes it; `told` changes its recipe, `changes` its arrays (None: left out)."""
    trials = matrices(gains)
    criterion = atlas.records.Criterion()
    scores = [atlas.records.Counts.of(one).score(criterion) for one in trials]
    by_class = np.full((*SHAPE, 2), 0.8, dtype=np.float32)
    content = {
        "atlas": np.array(atlas.records.VERSION),
        "recipe": np.array(json.dumps(facts(path.stem) | (told or {}))),
        "values": np.array(VALUES),
        "classes": np.array(CLASSES),
        "status": np.full(SHAPE, "finished"),
        "train": np.full(SHAPE, 0.9, dtype=np.float32),
        "validation": np.array(scores, dtype=np.float32).reshape(SHAPE),
        **{f"train_{name}": by_class for name in ("iou", "recall", "precision")},
        "train_support": np.full((*SHAPE, 2), 900, dtype=np.float32),
        "curve_epochs": np.array([2, 5], dtype=np.int32),
        "curves": np.zeros((*SHAPE, 2), dtype=np.float32),
        "seconds": np.ones(SHAPE, dtype=np.float32),
        "steps": np.full(SHAPE, 10, dtype=np.int32),
        "fold_of": np.repeat(np.arange(3), SIZES),
        "group_of": np.arange(sum(SIZES)),
        **atlas.packing.pack_matrices(one for trial in trials for one in trial),
    } | changes
    atlas.packing.write_npz(path, {key: value for key, value in content.items() if value is not None})
    return path

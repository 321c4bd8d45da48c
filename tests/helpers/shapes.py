"""A small, quick data set of squares for tests: real files, learnable in a few epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data import Dataset, load_dataset
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.setup import TrialTask

CLASSES = ("ground", "bright", "dark")


def write_shapes(folder: Path, n_images: int = 18, side: int = 16, *, test_images: int = 0, seed: int = 0) -> Path:
    """images/ and masks/ with one bright and one dark square each, classes.txt and groups.csv (two images a group)."""
    random = np.random.default_rng(seed)
    parts = {"train": n_images, "test": test_images} if test_images else {"": n_images}
    rows = ["name,group"]
    for part, count in parts.items():
        for kind in ("images", "masks"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = random.integers(90, 160, (side, side, 3)).astype(np.uint8)
            mask = np.zeros((side, side), dtype=np.uint8)
            for label, value in ((1, 230), (2, 20)):
                top, left = random.integers(0, side - 6, 2)
                image[top : top + 6, left : left + 6] = value
                mask[top : top + 6, left : left + 6] = label
            name = f"{part or 'all'}{number:02d}"
            Image.fromarray(image).save(folder / "images" / part / f"{name}.png")
            Image.fromarray(mask).save(folder / "masks" / part / f"{name}.png")
            rows.append(f"{name},{part}g{number // 2}")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    (folder / "groups.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def small_config(data: Path | str, **sections: Any) -> RunConfig:
    """A configuration that trains in about a second; sections override keys."""
    values: dict[str, Any] = {
        "data": {"path": str(data)},
        "model": {"width": 4, "depth": 2},
        "training": {"epochs": 3, "batch_size": 4},
        "optimizer": {"lr": 0.01},
        "search": {"grid": [0, 2], "resamples": 200, "folds": 3},
    }
    for name, keys in sections.items():
        values[name] = {**values.get(name, {}), **keys} if isinstance(keys, dict) else keys
    return parse_config(values)


def small_task(folder: Path, config: RunConfig, *, value: float = 2.0, **changes: Any) -> tuple[TrialTask, Dataset]:
    """A trial on the first two thirds of a data set, scored on the rest."""
    dataset, _ = load_dataset(config.data)
    cut = len(dataset.items) * 2 // 3
    task = TrialTask(
        folder=folder,
        dataset=dataset.root,
        config=config,
        setting="test",
        value=value,
        fold=0,
        seed=0,
        train=tuple(range(cut)),
        scored=tuple(range(cut, len(dataset.items))),
        keep_model=True,
    )
    return replace(task, **changes), dataset


def stopped_and_resumed(whole: TrialTask, folder: Path, steps: int) -> TrialTask:
    """The same trial in another folder, stopped after so many steps and trained on from its checkpoint."""
    broken = replace(whole, folder=folder)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_trial(broken, stop=lambda: next(asked) >= steps)
    run_trial(broken)
    return broken


def same_weights(one: TrialTask, other: TrialTask) -> bool:
    """Whether two finished trials kept the same weights, bit for bit."""
    ours, theirs = (load_file(task.folder / "model.safetensors") for task in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

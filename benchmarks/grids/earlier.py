"""The three grids of benchmarks/record_grid.py, recorded before the atlas, as grids of the atlas.

They have nine strengths up to D = 32 and two seeds, and neither scores of single classes on the training images nor the
recipe in the file: the recipe is that of record_grid.RECIPES.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from grids.packing import MATRIX_KEYS
from grids.records import FINISHED, Facts, GridRecord, groups_by_fold, trial_counts
from segdecay.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from segdecay.errors import RunError
from segdecay.training.optim import learning_rates
from segdecay.training.setup import count_batches

FOLDER = Path(__file__).parents[1] / "records"
RECORDED: Mapping[str, tuple[tuple[int, int], int, str]] = {  # size, px; epochs; how folds are made
    "digits": ((32, 32), 80, "groups"),
    "nuclei": ((64, 64), 30, "groups"),
    "camvid": ((48, 64), 15, "blocks"),
}
KEYS = ("values", "seeds", "classes", "curves", "train", "seconds", "fold_of", "group_of")


def read_earlier(name: str, folder: Path = FOLDER) -> GridRecord:
    """One of the three grids.

    Raises:
        RunError: the file cannot be read or lacks keys.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            parts = {key: kept[key] for key in (*KEYS, *MATRIX_KEYS)}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be read ({error}); record it anew with benchmarks/record_grid.py.") from error
    shape, classes = parts["train"].shape, tuple(str(one) for one in parts["classes"])
    facts = _facts(name, parts["fold_of"])
    return GridRecord(
        facts=facts,
        values=tuple(parts["values"].tolist()),
        classes=classes,
        status=np.full(shape, FINISHED),
        train=parts["train"],
        train_scores={},
        curve_epochs=np.arange(1, parts["curves"].shape[-1] + 1, dtype=np.int32),
        curves=parts["curves"],
        seconds=parts["seconds"],
        steps=facts.epochs * count_batches(facts.train_images, facts.batch),
        groups=groups_by_fold(parts, shape[1]),
        counts=trial_counts(parts, shape, len(classes)),
    )


def _facts(name: str, fold_of: npt.NDArray[np.int32]) -> Facts:
    size, epochs, method = RECORDED[name]
    optimizer, batch = OptimizerConfig(), TrainingConfig().batch_size
    train_images = int(np.median(len(fold_of) - np.bincount(fold_of)))
    rates = learning_rates(ScheduleConfig(), optimizer.lr, epochs * count_batches(train_images, batch))
    return Facts(
        name=f"{name}-earlier",
        data=name if name == "digits" else f"{name}-small",
        change="earlier",
        task="segmentation",
        criterion="miou",
        regularizer="decoupled",
        optimizer=optimizer.name,
        momentum=0.0,
        lr=optimizer.lr,
        lambda_at_one=1 / sum(rates),
        model="unet-tiny",
        width=12,
        epochs=epochs,
        batch=batch,
        size=size,
        images=len(fold_of),
        train_images=train_images,
        excluded=(),
        method=method,
        seed=0,
        config={},
        versions={},
    )

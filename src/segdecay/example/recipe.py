"""The well-known CIFAR-10 recipe as configurations: once as it is meant, once with its strength left open.

Knows configurations; trains nothing.
"""

from __future__ import annotations

from pathlib import Path

from segdecay.config import RunConfig, parse_config

LAMBDA, LEARNING_RATE = 5e-4, 1e-3
EPOCHS, BATCH, PAD_PX = 10, 128, 4
GRID = (0.0, 5e-5, 5e-4, 5e-3)  # the well-known value in the middle; a best at the strong edge extends it
MECHANISM = "L2 on weights alone, added to the gradient as λθ (policy l2)"


def recipe_config(folder: Path, *, epochs: int, seed: int) -> RunConfig:
    """One training: Adam, λ as L2 on weights only, flips and padded crops of training images only.

    The recipe says L2: minimise L + λ·½Σθ². That is λθ in the gradient, here through Adam. The other reading of the
    same number, decoupled as in AdamW, would be total decay D = Σ η·λ, about 1e-4 in 200 steps: no decay at all.
    """
    return parse_config({**_common(folder, epochs, seed), "decay": {"policy": "l2", "lambda": LAMBDA}})


def search_config(folder: Path, *, epochs: int, seed: int, folds: int | None) -> RunConfig:
    """The same recipe with λ chosen by cross-validation."""
    search = {"grid": list(GRID), "folds": folds}
    return parse_config({**_common(folder, epochs, seed), "decay": {"policy": "l2"}, "search": search})


def total_decay_if_decoupled(steps: int) -> float:
    """D = Σ η·λ of the recipe's numbers, were they given to AdamW.

    >>> round(total_decay_if_decoupled(200), 6)
    0.0001
    """
    return LEARNING_RATE * LAMBDA * steps


def _common(folder: Path, epochs: int, seed: int) -> dict[str, object]:
    return {
        "data": {"path": f"cifar10:{folder}"},
        "model": {"name": "small-cnn"},
        "loss": {"class_weights": "none"},
        "optimizer": {"name": "adam", "lr": LEARNING_RATE},
        "schedule": {"name": "constant", "warmup": 0.0},
        "augment": {"flip": "horizontal", "pad": PAD_PX},
        "training": {"epochs": epochs, "batch_size": BATCH, "clip_norm": None},
        "seed": seed,
    }

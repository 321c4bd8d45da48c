"""Numbers of an invented run: its kind, its scores and its verdict.json, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from segdecay.runs.records import StrengthRecord

CLASSES = (
    "background",
    "<script>window.hacked = 1; alert(1)</script>",
    "straße · 道路 · طريق",
    '<img src=x onerror="window.hacked = 2"> & <b>bold</b>',
    "absent everywhere",
    "</script><script>window.hacked = 3</script>",
)
PALETTE = ((40, 44, 52), (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0))
ABSENT = 4  # index of the class that no image holds
VALUES = (0.0, 1.0, 4.0, 16.0)
FOLDS = 3
EPOCHS = 12
SIZE = (48, 40)  # height, width in pixels
DIVERGED = "loss became NaN in epoch 3 of fold 1 (<i>lower the learning rate</i>)"
PASTE = """groups = segdecay.decay.optimizer_groups(partition)
optimizer = torch.optim.AdamW(groups, lr=0.008)
# valid while <schedule>, batch size and number of steps stay as they are"""


@dataclass(frozen=True)
class Shape:
    """The kind of run to write."""

    kind: str = "chosen"  # chosen, zero, flat or edge
    has_test: bool = True
    regularizer: str = "decoupled"
    classes: tuple[str, ...] = CLASSES
    values: tuple[float, ...] = VALUES
    diverged: float | None = 16.0
    has_diagnostics: bool = True
    has_stages: bool = False


def strength(value: float) -> StrengthRecord:
    if value == 0:
        return StrengthRecord("total_decay", 0.0, 0.0, None, 0.0)
    return StrengthRecord("total_decay", value, value / 4, 60 / value, value)


def means_of(shape: Shape) -> dict[float, float | None]:
    """The mean score of every setting: a curve that fits the verdict."""
    peak = {"chosen": 4.0, "zero": 0.0, "flat": 1.0, "edge": max(shape.values)}[shape.kind]
    depth = 0.002 if shape.kind == "flat" else 0.03
    position = {value: math.log2(1 + value) for value in shape.values}
    return {
        value: None if value == shape.diverged else 0.46 - depth * abs(position[value] - math.log2(1 + peak)) ** 1.3
        for value in shape.values
    }


def verdict_of(shape: Shape, random: np.random.Generator) -> dict[str, Any]:
    means = means_of(shape)
    known = {value: mean for value, mean in means.items() if mean is not None}
    best = max(known, key=lambda value: known[value])
    taken = 0.0 if shape.kind in ("zero", "flat") else best
    shown = taken or best
    gain = known[taken] - known[0.0]
    interval = None if taken == 0 else [gain - 0.02, gain + 0.021]
    iou = {value: class_scores(shape, mean) for value, mean in known.items()}
    sentence = {
        "chosen": "Decay helps: total decay 4 (λ = 1) beats none by 0.090 mIoU, 95 % interval 0.070 to 0.111.",
        "zero": "Decay does not help here: none is best.",
        "flat": "Decay makes no difference that this search could see; none is used.",
        "edge": "The strongest setting is the best so far: the optimum may lie beyond the grid.",
    }[shape.kind]
    return {
        "kind": shape.kind,
        "sentence": sentence,
        "criterion": "miou",
        "regularizer": shape.regularizer,
        "strength": strength(taken),
        "one_se": strength(best) if shape.kind == "flat" else strength(max(known)),
        "selection": {
            "mean": known[taken],
            "standard_error": 0.011,
            "interval": [known[taken] - 0.02, known[taken] + 0.02],
        },
        "zero": {"mean": known[0.0], "standard_error": 0.013, "difference_interval": interval},
        "settings": [_setting(shape, value, means[value], known[0.0], random) for value in shape.values],
        "classes": [
            {
                "name": name,
                "support": 0 if row == ABSENT else 9000 // (row + 1),
                "chosen": iou[shown][row],
                "zero": iou[0.0][row],
                "difference_interval": _around(iou[shown][row], iou[0.0][row], 0.03 + row / 90) if shown else None,
            }
            for row, name in enumerate(shape.classes)
        ],
        "seeds": [0],
        "honest": None,
        "test": _test(shape, iou[taken], iou[0.0]) if shape.has_test else None,
        "cost": {
            "trials": FOLDS * len(shape.values),
            "refits": 2,
            "epochs": EPOCHS * FOLDS * len(shape.values),
            "seconds": 252.4,
        },
        "paste": PASTE,
        "evidence": {
            "statistic": "paired image bootstrap",
            "strengths_looked_at": 3,
            "best": strength(best),
            "best_difference": {"mean": 0.09, "standard_error": 0.009, "interval": [0.07, 0.111]},
        },
        "indistinguishable": [0.0, *(value for value in known if value)] if shape.kind == "flat" else [],
    }


def _around(one: float | None, other: float | None, reach: float) -> list[float] | None:
    return None if one is None or other is None else [one - other - reach, one - other + reach]


def class_scores(shape: Shape, mean: float) -> list[float | None]:
    scores = (max(0.03, min(0.97, mean * (1.9 - 0.3 * row) + 0.02 * math.sin(40 * mean + row))) for row in range(99))
    return [None if row == ABSENT else value for row, value in zip(range(len(shape.classes)), scores, strict=False)]


def _setting(
    shape: Shape, value: float, mean: float | None, none: float, random: np.random.Generator
) -> dict[str, Any]:
    if mean is None:
        lost = {"mean": None, "standard_error": None, "dropped": DIVERGED, "difference": None}
        return {"strength": strength(value), "folds": None, **lost, "classes": None, "collapsed": 1}
    folds = [mean + shift + float(random.normal(0, 0.006)) for shift in (-0.03, 0.004, 0.026)]
    gap = 0.28 - 0.05 * math.log2(1 + value)
    return {
        "strength": strength(value),
        "folds": folds,
        "mean": mean,
        "standard_error": 0.012,
        "dropped": None,
        "train_mean": mean + gap,
        "gap": gap,
        "classes": class_scores(shape, mean),
        "collapsed": 0,
        "difference": None
        if value == 0
        else {"mean": mean - none, "interval": [mean - none - 0.021, mean - none + 0.02]},
    }


def _test(shape: Shape, chosen: list[float | None], zero: list[float | None]) -> dict[str, Any]:
    def part(scores: list[float | None]) -> dict[str, Any]:
        known = [value for value in scores if value is not None]
        miou, iou = sum(known) / len(known) - 0.01, dict(zip(shape.classes, scores, strict=True))
        return {"miou": miou, "iou": iou, "score": miou, "classes": iou}

    return {"chosen": part(chosen), "zero": part(zero)}

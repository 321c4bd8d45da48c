"""Diagnostics and weight balancing of an invented run: plain numbers that a test can check by hand."""

from __future__ import annotations

import math
from typing import Any

from report_numbers import ABSENT, Shape

LAYERS = ("down.0.conv.weight", "up.<b>evil</b>.weight", "head.weight")
SPEARMAN = {0.0: 0.9, 4.0: 0.3}


def reading(shape: Shape, value: float, epoch: int, fold: int) -> dict[str, Any]:
    """One reading. Norms: (layer + 1) · 4 / (1 + D) + fold / 10; the ratio of the body: 8 / epoch · (1 + fold / 10)."""
    layers = [
        {
            "name": name,
            "group": "head" if name == LAYERS[-1] else "body",
            "shape": [8, 8],
            "norm": (row + 1) * 4 / (1 + value) + fold / 10,
            "stable_rank": 2.0 + row,
            "zeros": 0.25 if value and row == 0 else 0.0,
            "channels": 8,
            "zero_channels": 1 if value and row == 0 else 0,
            "angle": 0.01,
            "equilibrium": 0.01 if value else 0.0,
            "ratio": 8 / epoch * (1 + fold / 10) if value and row < 2 else None,
        }
        for row, name in enumerate(LAYERS)
    ]
    groups = [
        {"group": "body", "numbers": 300, "norm": 1.0, "zeros": 0.2 if value else 0.0, "channels": 16, "ratio": None},
        {"group": "norm", "numbers": 50, "norm": 1.0, "zeros": 0.5, "channels": 0, "ratio": None},
        {"group": "head", "numbers": 100, "norm": 1.0, "zeros": 0.0, "channels": 8, "ratio": None},
    ]
    return {
        "layers": layers,
        "groups": groups,
        "activations": [{"name": "down.0.relu", "channels": 8, "dead": 2 if value else 0, "zeros": 0.5}],
        "head": [{"name": "head.weight", "row_norms": row_norms(shape, value), "spearman": SPEARMAN.get(value, 0.5)}],
        "penalty": value,
        "penalty_share": value / (value + 12),
    }


def row_norms(shape: Shape, value: float) -> list[float]:
    return [3 / (1 + row) / (1 + value) + 0.1 for row in range(len(shape.classes))]


def extra_of(shape: Shape, value: float, *, has_validation: bool) -> dict[str, Any]:
    """The `extra` of a trial's record."""
    seen = [
        {"name": "down.0.relu", "channels": 8, "dead": 1, "zeros": 0.4},
        {"name": "up.relu", "channels": 24, "dead": 3, "zeros": 0.8},
    ]
    size = len(shape.classes)
    logs = [None if row == ABSENT else math.log(0.5 / 2**row) for row in range(size)]
    extra: dict[str, Any] = {
        "log_frequencies": logs,
        "diagnostics": {**reading(shape, value, 12, 0), "validation_activations": seen if has_validation else []},
        "stages": [{"stage": 1, "epochs": 12, "row_norms": {"head.weight": row_norms(shape, value)}}],
    }
    if shape.has_stages:
        extra["stages"][0]["validation"] = {"miou": 0.4, "iou": [0.5, 0.4, 0.3, 0.2, None, 0.1]}
        extra["stages"].append(
            {
                "stage": 2,
                "epochs": 10,
                "row_norms": {"head.weight": [0.7] * size},
                "caps": {"head.weight": 0.7},
                "examples": [20, 18, 9, 4, 0, 2],
                "class_weights": [0.4, 0.5, 0.9, 1.2, 0.0, 2.0],
                "lambda": 0.1,
                "total_decay": 0.045,
            }
        )
    return extra

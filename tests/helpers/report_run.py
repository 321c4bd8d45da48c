"""Writes complete small RUN folders, as `tune` and `train` leave them, with numbers drawn from a seed.

No training happens: the files have the layout of a run, and hostile names where names come from data.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from report_diagnostics import extra_of, reading
from report_numbers import (
    ABSENT,
    CLASSES,
    DIVERGED,
    EPOCHS,
    FOLDS,
    PALETTE,
    SIZE,
    Shape,
    class_scores,
    means_of,
    strength,
    verdict_of,
)

from segdecay.metrics.confusion import write_confusions
from segdecay.runs.records import Scores, TrialRecord
from segdecay.utils.files import to_json, write_json

IMAGES = 10  # of a validation fold


def write_run(folder: Path, shape: Shape | None = None) -> Path:
    """A finished run of `tune` in `folder`."""
    shape = shape or Shape()
    random = np.random.default_rng(3)
    _write_common(folder, shape, command=f"segdecay tune <data> --out {folder.name}")
    write_json(folder / "verdict.json", verdict_of(shape, random))
    for value in shape.values:
        for fold in range(FOLDS):
            _write_trial(folder, shape, value, fold, random)
    known = {value: mean for value, mean in means_of(shape).items() if value and mean is not None}
    _write_examples(folder / "examples", shape, max(known, key=lambda value: known[value]), random)
    return folder


def write_training(folder: Path) -> Path:
    """A finished run of `train` in `folder`: one strength, no folds, no verdict."""
    shape = Shape(diverged=None)
    _write_common(folder, shape, command="segdecay train DIR --decay decoupled --lambda 0.01")
    (folder / "run.yaml").write_text(
        "command: train\ndata: {path: DIR}\ndecay: {regularizer: decoupled, lambda: 0.01}\n", encoding="utf-8"
    )
    (folder / "folds.json").unlink()
    trial = folder / "refit" / "chosen"
    _write_training(trial, shape, 4.0, 0, np.random.default_rng(4), has_validation=False)
    return folder


def change(path: Path, *keys: str | int, value: Any) -> None:
    """Replace one value in a JSON file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    place = values
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(values), encoding="utf-8")


def _write_common(folder: Path, shape: Shape, command: str) -> None:
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(
        f"command: tune\ndata: {{path: DIR}}\nsearch: {{grid: {list(shape.values)}, folds: {FOLDS}}}\n",
        encoding="utf-8",
    )
    environment = {
        "python": "3.11.7",
        "packages": {"torch": "2.14.0", "numpy": "2.3.1", "plotly": "7.1.0"},
        "machine": {"system": "Linux", "cores": 2},
        "device": "cpu",
        "command": command,
        "segdecay": "0.1.0",
        "started": "2026-05-04T10:20:30+00:00",
    }
    write_json(folder / "environment.json", environment)
    write_json(folder / "data.json", _data(shape))
    names = [f"scene_{index:03d}" for index in range(30)]
    folds = [
        {"train": [n for n in names if n not in names[k::FOLDS]], "validation": names[k::FOLDS], "left_out": []}
        for k in range(FOLDS)
    ]
    table = [
        [0 if row == ABSENT else 9000 // (row + 1) + 7 * k for k in range(FOLDS)] for row in range(len(shape.classes))
    ]
    write_json(folder / "folds.json", {"method": "groups", "fingerprint": "ab12", "folds": folds, "table": table})
    write_json(folder / "partition.json", {"rows": _partition()})


def _data(shape: Shape) -> dict[str, Any]:
    total = 30 * SIZE[0] * SIZE[1]
    rows = [
        {
            "name": name,
            "pixels": 0 if row == ABSENT else 27000 // (row + 1),
            "share": 0.0 if row == ABSENT else 27000 / (row + 1) / total,
            "images": 0 if row == ABSENT else 30 - 3 * min(row, 9),
            "groups": 0 if row == ABSENT else 10 - min(row, 9),
        }
        for row, name in enumerate(shape.classes)
    ]
    findings = [
        {"level": "warning", "code": "absent", "file": None, "message": f"class '{shape.classes[-1]}' is rare"},
        {"level": "note", "code": "size", "file": "images/<b>a</b>.png", "message": "is 48x41; all others are 48x40"},
    ]
    return {
        "name": "scenes <1>",
        "classes": list(shape.classes),
        "palette": [PALETTE[row % len(PALETTE)] for row in range(len(shape.classes))],
        "bands": 3,
        "fingerprint": "0f3c9a",
        "images": {"train": 30, "test": 12} if shape.has_test else {"train": 30},
        "class_rows": rows,
        "findings": findings,
    }


def _partition() -> list[dict[str, Any]]:
    def row(name: str, shape: list[int], module: str, group: str) -> dict[str, Any]:
        reason = f"{module} with {len(shape)} dimensions"
        multiplier = 1.0 if group in ("body", "head") else 0.0
        return {
            "name": name,
            "shape": shape,
            "module": module,
            "group": group,
            "reason": reason,
            "multiplier": multiplier,
        }

    return [
        row("down.0.conv.weight", [8, 3, 3, 3], "Conv2d", "body"),
        row("down.0.norm.weight", [8], "BatchNorm2d", "norm"),
        row("down.0.norm.bias", [8], "BatchNorm2d", "norm"),
        row("head.weight", [6, 8, 1, 1], "Conv2d", "head"),
        row("head.bias", [6], "Conv2d", "bias"),
    ]


def _write_trial(folder: Path, shape: Shape, value: float, fold: int, random: np.random.Generator) -> None:
    trial = folder / "trials" / f"total_decay={value:g}" / f"{fold}-0"
    _write_training(trial, shape, value, fold, random, has_validation=True)


def _write_training(
    trial: Path, shape: Shape, value: float, fold: int, random: np.random.Generator, *, has_validation: bool
) -> None:
    trial.mkdir(parents=True)
    is_lost = value == shape.diverged and fold == 1
    iou = tuple(math.nan if score is None else score for score in class_scores(shape, 0.4))
    support = tuple(900 // (row + 1) for row in range(len(shape.classes)))
    precision, recall, edges = (tuple(factor * value for value in iou) for factor in (1.1, 0.9, 0.5))
    scores = Scores(
        0.45, iou, iou, 0.1, support, 0.7, precision=precision, recall=recall, boundary_iou=edges, boundary_miou=0.2
    )
    record = TrialRecord(
        setting=f"total_decay={value:g}",
        strength=strength(value),
        fold=fold,
        seed=0,
        status="diverged" if is_lost else "finished",
        reason=DIVERGED if is_lost else None,
        train=None if is_lost else scores,
        validation=None if is_lost or not has_validation else scores,
        epochs=EPOCHS,
        steps=EPOCHS * 2,
        seconds=12.5,
        parts=(20, 10 if has_validation else 0),
        extra=extra_of(shape, value, has_validation=has_validation) if shape.has_diagnostics and not is_lost else {},
    )
    (trial / "trial.json").write_text(to_json(record), encoding="utf-8")
    if record.validation is not None:
        write_confusions(trial / "confusion.npz", confusions_of(shape, value, fold))
    lines = []
    for epoch in range(1, EPOCHS + 1):
        loss = 2.2 * math.exp(-epoch / 5) + 0.25 + float(random.normal(0, 0.015))
        penalty = value * 6 * math.exp(-epoch * value / 40)
        lines.append(
            {
                "epoch": epoch,
                "lr": 0.008 * (1 - epoch / (EPOCHS + 1)),
                "loss": loss,
                "penalty": penalty,
                "objective": loss + penalty,
                "gradient_norm": 0.8,
                "validation_loss": loss * 1.3 if has_validation and epoch % 2 == 0 else None,
                "validation_miou": 0.46 - 0.4 * math.exp(-epoch / 4) - fold / 60
                if has_validation and epoch % 2 == 0
                else None,
                "train_miou": 0.63 if epoch == EPOCHS else None,
                "diagnostics": reading(shape, value, epoch, fold) if shape.has_diagnostics and epoch % 4 == 0 else None,
                "seconds": 1.0,
            }
        )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (trial / "curve.jsonl").write_text(text, encoding="utf-8")


def write_evaluation(folder: Path, classes: tuple[str, ...] = CLASSES, *, of_older_version: bool = False) -> Path:
    """A folder of `segdecay evaluate`, as in docs/evaluation.md; one of an older version lacks newer keys."""
    folder.mkdir(parents=True)
    total = confusions_of(Shape(classes=classes), 1.0, 0).sum(axis=0)
    hit, true, claimed = np.diagonal(total), total.sum(axis=1), total.sum(axis=0)
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(classes):
        union = int(true[index] + claimed[index] - hit[index])
        mean = None if union == 0 else float(hit[index] / union)
        bounds = None if mean is None else [mean - 0.04, mean + 0.03]
        share = None if true[index] == 0 else float(hit[index] / true[index])
        rows.append(
            {
                "name": name,
                "colour": PALETTE[index % len(PALETTE)],
                "support": int(true[index]),
                "predicted": int(claimed[index]),
                "images": IMAGES if true[index] else 0,
                "iou": {"mean": mean, "standard_error": 0.02, "interval": bounds},
                "dice": None if mean is None else 2 * mean / (1 + mean),
                "precision": share,
                "recall": share,
            }
        )
    images = [
        {"name": f"<i>{k}</i>", "group": None, "part": "test", "height": 48, "width": 40, "miou": 0.9 - k / 20}
        for k in range(IMAGES)
    ]
    content: dict[str, Any] = {
        "run": "runs/mine",
        "data": {"path": "DIR", "name": "scenes", "fingerprint": "0f", "part": "test", "images": IMAGES, "groups": 4},
        "model": {"weights_sha256": ["ab" * 32], "made_by": {"segdecay": "0.1.0"}},
        "how": {
            "tta": False,
            "tile": None,
            "overlap": 0.5,
            "models": 1,
            "size": None,
            "command": "segdecay evaluate runs/mine DIR",
        },
        "confidence": 0.95,
        "resamples": 2000,
        "resampled_by": "images",
        "miou": {"mean": 0.612, "standard_error": 0.01, "interval": [0.59, 0.63]},
        "accuracy": 0.93,
        "classes": rows,
        "confusion": total.tolist(),
        "images": [{**image, "trained_on": False} for image in images],
        "trained_on": 0,
        "warnings": ["3 images were <b>trained on</b>"],
        "seconds": 1.5,
    }
    if not of_older_version:
        for row in rows:
            row |= {"boundary_iou": row["iou"], "image_iou": row["iou"]}
        for at, key in enumerate(("worst", "weighted", "boundary_miou", "image_miou", "image_worst", "image_weighted")):
            content[key] = {"mean": 0.31 + at / 100, "standard_error": 0.01, "interval": [0.3, 0.4]}
    (folder / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def confusions_of(shape: Shape, value: float, fold: int) -> Any:
    """(N, C, C) matrices of a fold: pixels fall off the diagonal to the next class, fewer with strength."""
    size, random = len(shape.classes), np.random.default_rng([7, fold])
    matrices = np.zeros((IMAGES, size, size), np.int64)
    for row in range(size):
        true = 0 if row == ABSENT else 300 // (row + 1)
        wrong = random.binomial(true, 0.3 / (1 + value) + 0.02, IMAGES)
        following = (row + 1) % size if (row + 1) % size != ABSENT else 0
        matrices[:, row, row] = true - wrong
        matrices[:, row, following] += wrong
    return matrices


def _write_examples(folder: Path, shape: Shape, shown: float, random: np.random.Generator) -> None:
    folder.mkdir()
    cases = []
    for case, kind in enumerate(("best", "median", "worst", f"rare:{shape.classes[1]}")):
        truth = _scene(random)
        files = {part: f"{case}-{part}.png" for part in ("image", "truth", "zero", "chosen")}
        shades = np.asarray([(60 + 30 * k, 90 + 20 * k, 160 - 20 * k) for k in range(len(PALETTE))])
        image = shades[np.minimum(truth, 5)] + random.normal(0, 8, (*SIZE, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / files["image"])
        for part, noise in (("truth", 0.0), ("zero", 0.12), ("chosen", 0.03)):
            mask = np.where(random.random(SIZE) < noise, random.integers(0, 4, SIZE), truth).astype(np.uint8)
            mask[mask == 255] = 255 if part == "truth" else 0
            picture = Image.fromarray(mask).convert("L")
            indexed = Image.frombytes("P", picture.size, picture.tobytes())
            indexed.putpalette([*(part for colour in PALETTE for part in colour), *[0] * (768 - 3 * len(PALETTE))])
            indexed.save(folder / files[part])
        scores = {"miou_chosen": 0.6 - 0.1 * case, "miou_zero": 0.5 - 0.1 * case}
        cases.append({"kind": kind, "name": f"scene_{case:03d}", "fold": case % FOLDS, **scores, **files})
    write_json(folder / "examples.json", {"shown": strength(shown), "cases": cases})


def _scene(random: np.random.Generator) -> Any:
    """Discs of three classes on background, with an ignored corner."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, np.uint8)
    for index in (1, 2, 3):
        centre = random.integers(8, 34, 2)
        mask[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < random.integers(20, 70)] = index
    mask[:5, :5] = 255
    return mask

"""Prediction of labels: labels.csv and predictions.json; a broken image does not stop the others."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdecay.errors import ConfigError, DataError, DiskFullError, ModelError, RunError, describe_os_error
from segdecay.inference.image_io import open_image
from segdecay.inference.predict import CARD, CARD_EVERY_S, KIND, Failed, PredictionWatcher, check_out, find_images
from segdecay.inference.predictor import Predictor
from segdecay.utils.files import write_bytes, write_json

TABLE = "labels.csv"


MOST_PIXELS = 1 << 26  # largest image, since it is predicted as a whole


@dataclass(frozen=True)
class LabelledImage:
    """One image: its label, the probability of every class, the time."""

    image: Path
    label: str
    probabilities: Mapping[str, float]  # by class, sums to 1
    height: int
    width: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The image's row in predictions.json."""
        return {
            "image": str(self.image),
            "label": self.label,
            "probabilities": {name: round(value, 6) for name, value in self.probabilities.items()},
            "height": self.height,
            "width": self.width,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class LabelResult:
    """The result of `label_files`."""

    done: tuple[LabelledImage, ...]
    failed: tuple[Failed, ...]


def refuse_mask_options(save: str, default: str, tile: int | None) -> list[str]:
    """Faults of options that are only for masks."""
    faults = []
    if save != default:
        faults.append(f"--save {save}: this model gives one label per image, in {TABLE}; there is no mask to save.")
    if tile is not None:
        faults.append(f"--tile {tile}: this model labels whole images; leave it out.")
    return faults


def label_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    made_by: Mapping[str, Any] | None = None,
    watcher: PredictionWatcher | None = None,
) -> LabelResult:
    """Label every image; write labels.csv (image, label, probability of every class) and predictions.json under `out`.

    Raises:
        ConfigError: the predictor gives masks.
        DataError: paths that are no images; nothing is written.
        RunError: `out` holds something else, or cannot be written.
    """
    if predictor.task != "classification":
        raise ConfigError("This model gives masks, not labels of images; use predict_files.")
    request = dict(made_by or {})
    before = check_out(out, request)
    images = find_images(paths, out)
    watcher = watcher or PredictionWatcher()
    watcher.on_plan(len(images))
    done: list[LabelledImage] = []
    failed: list[Failed] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = time.monotonic()
        for path, _ in images:
            try:
                done.append(_label(predictor, path))
                watcher.on_done(done[-1])
            except (DataError, ModelError) as error:
                failed.append(Failed(path, str(error)))
                watcher.on_failed(failed[-1])
            if time.monotonic() - written > CARD_EVERY_S:
                _write(out, predictor, request, before, done, failed)
                written = time.monotonic()
        _write(out, predictor, request, before, done, failed)
    except KeyboardInterrupt:
        _write(out, predictor, request, before, done, failed)
        raise
    except OSError as error:
        if DiskFullError.is_told_by(error):
            raise DiskFullError(str(error.filename or out)) from error
        raise RunError(f"{describe_os_error(error)}. Choose another --out.") from error
    return LabelResult(tuple(done), tuple(failed))


def _label(predictor: Predictor, path: Path) -> LabelledImage:
    start = time.monotonic()
    with open_image(path, predictor.bands, predictor.depth, predictor.chosen_bands) as source:
        height, width, _ = source.shape
        if height * width > MOST_PIXELS:
            raise DataError(f"{path} has {height} x {width} pixels; at most {MOST_PIXELS} are allowed. Shrink it.")
        image = np.array(source.rows(0, height))
    found = predictor.probabilities(torch.from_numpy(image).permute(2, 0, 1)[None])[0, :, 0, 0].cpu().tolist()
    probabilities = dict(zip(predictor.classes, found, strict=True))
    label = max(probabilities, key=lambda name: probabilities[name])
    return LabelledImage(path, label, probabilities, height, width, time.monotonic() - start)


def _write(
    out: Path,
    predictor: Predictor,
    made_by: Mapping[str, Any],
    before: Mapping[str, Any],
    done: Sequence[LabelledImage],
    failed: Sequence[Failed],
) -> None:
    """Write both files: images of this call, and of earlier calls if not labelled again; the card is last."""
    now = {str(row.image) for row in done} | {str(row.image) for row in failed}
    rows = [row for row in before.get("images", []) if row.get("image") not in now]
    rows += [row.to_json() for row in done]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "label", *(f"p({name})" for name in predictor.classes)])
    for row in rows:
        shares = [f"{row['probabilities'][name]:.6f}" for name in predictor.classes]
        writer.writerow([_harmless(row["image"]), _harmless(row["label"]), *shares])
    write_bytes(out / TABLE, table.getvalue().encode("utf-8", errors="replace"))
    faults = [{"image": str(row.image), "reason": row.reason} for row in failed]
    write_json(out / CARD, {"kind": KIND, "made_by": made_by, "images": rows, "failed": faults})


def _harmless(text: str) -> str:
    """A text that spreadsheets do not interpret as a formula.

    >>> _harmless("=1+1"), _harmless("a.png")
    ("'=1+1", 'a.png')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text

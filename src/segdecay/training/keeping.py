"""What a finished cell leaves beside its record: its curve, its weights, its predictions until the examples are drawn.

Knows files of one cell; nothing of training.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save
from torch import nn

from segdecay.errors import RunError
from segdecay.records import write_bytes
from segdecay.scores import Scores

U8 = npt.NDArray[np.uint8]


def validation_line(scores: Scores | None) -> dict[str, Any]:
    """What a line of the curve holds of a validation score: null where it was not taken, or a class is absent."""
    return {
        "validation_loss": None if scores is None else scores.loss,
        "validation_miou": None if scores is None else scores.miou,
        "validation_iou": None if scores is None else [value if math.isfinite(value) else None for value in scores.iou],
    }


def write_curve(folder: Path, curve: Sequence[dict[str, Any]]) -> None:
    """One JSON line an epoch; numbers that are not finite are null."""
    lines = "".join(json.dumps(_plain(line), sort_keys=True) + "\n" for line in curve)
    write_bytes(folder / "curve.jsonl", lines.encode())


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
    }


def write_weights(folder: Path, model: nn.Module) -> None:
    """The model's weights and buffers, as model.safetensors."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(tensors))


def write_predictions(folder: Path, indices: Sequence[int], predictions: Sequence[U8]) -> None:
    """Predicted masks by their index in the data set, compressed, without pickle."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {str(index): mask for index, mask in zip(indices, predictions, strict=True)}
    np.savez_compressed(content, **arrays)
    write_bytes(folder / "predictions.npz", content.getvalue())


def read_predictions(folder: Path, index: int) -> U8:
    """One predicted mask (H, W) that a cell kept, by its index in the data set.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return np.asarray(kept[str(index)], dtype=np.uint8)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} is missing or damaged: {error}. Remove its folder and run the command again."
        ) from error

"""What the caller's training may return: confusion matrices of the images that it was given, of the same truth always.

Pure but for the file that remembers the truth of a fold. Knows nothing of who counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.errors import RunError
from segdecay.records import read_json, write_json

I64 = npt.NDArray[np.int64]
TRUTH = "truth"  # folder of a run
SHOWN = 3  # images that are named
MOST_PIXELS = 2**48  # of one image; sums of far more images than there are stay in int64


def check_matrices(found: Any, names: Sequence[str], classes: int) -> tuple[I64 | None, list[str]]:
    """The matrices as (N, C, C) int64, or None and what is wrong with them.

    >>> check_matrices([[[3, 1], [0, 4]]], ["a"], 2)[0].tolist()
    [[[3, 1], [0, 4]]]
    >>> check_matrices([[3, 1], [0, 4]], ["a"], 2)[1][0][:50]
    'shape (2, 2): one matrix of the whole fold; a matr'
    """
    needed = f"({len(names)}, {classes}, {classes})"
    try:
        values = np.asarray(found)
    except (TypeError, ValueError, RuntimeError) as error:
        return None, [f"{type(found).__name__}, which is no array ({error}); an integer array {needed} is needed."]
    if values.dtype == object:
        return None, [f"{type(found).__name__}, which is no array; an integer array {needed} is needed."]
    faults = []
    if values.shape != (len(names), classes, classes):
        hint = f"one matrix an image of fold.validation, in its order, is needed: {needed}."
        if values.shape == (classes, classes):
            hint = f"one matrix of the whole fold; a matrix of every image of fold.validation is needed: {needed}."
        elif values.ndim == 3 and values.shape[1:] == (classes, classes):
            hint = f"{len(values)} images; fold.validation holds {len(names)}, so {needed} is needed."
        faults.append(f"shape {values.shape}: {hint}")
    if values.dtype.kind not in "iu":
        faults.append(f"type {values.dtype}: counts of pixels are needed, as int64.")
    elif values.size and int(values.min()) < 0:
        faults.append(f"negative counts, {int(values.min())} the smallest; counts of pixels are 0 or more.")
    elif values.size and int(values.max()) > MOST_PIXELS:
        faults.append(f"a count of {int(values.max())}; no image has so many pixels. Count them in int64.")
    if faults:
        return None, faults
    return values.astype(np.int64), []


def check_truth(
    path: Path,
    matrices: I64,  # (N, C, C)
    names: Sequence[str],
    classes: Sequence[str],
    setting: str,
) -> list[str]:
    """What differs from the truth that the first training of this fold was scored by; the first leaves it at `path`.

    Raises:
        RunError: the file is damaged.
    """
    rows = matrices.sum(axis=2)
    if not path.exists() and _leave(path, {"setting": setting, "pixels": rows.tolist()}):
        return []
    try:
        kept = read_json(path)
        before, first = np.asarray(kept["pixels"], dtype=np.int64), str(kept["setting"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it; the next training writes it again.") from error
    if before.shape != rows.shape:
        return [f"{len(rows)} images, where {first} was scored on {len(before)}."]
    image, klass = np.nonzero(before != rows)
    if not len(image):
        return []
    seen = [
        f"{names[i]}, {classes[c]}: {rows[i, c]} true pixels, {before[i, c]} at {first}"
        for i, c in zip(image[:SHOWN], klass[:SHOWN], strict=True)
    ]
    more = f", and {len(image) - SHOWN} more" if len(image) > SHOWN else ""
    message = (
        f"another truth than before ({'; '.join(seen)}{more}). Rows are the truth: count the same pixels of the same "
        "images for every setting, without augmentation or cropping."
    )
    return [message]


def _leave(path: Path, values: dict[str, Any]) -> bool:
    """Write a file unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    write_json(beside, values)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        beside.replace(path)
        return True
    finally:
        beside.unlink(missing_ok=True)
    return True


def truth_pixels(path: Path) -> list[list[int]]:
    """The true pixels of every image of a fold, a row an image; empty where no training has left them.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [[int(count) for count in row] for row in read_json(path)["pixels"]]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it; the next training writes it again.") from error

"""A finished grid of trials as arrays of one .npz, without pickle: matrices as index and count, images by fold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import FoldPlan

I64 = npt.NDArray[np.int64]
MATRIX_KEYS = ("confusion_index", "confusion_count", "confusion_length")


def pack_matrices(
    matrices: Iterable[I64],  # each (C, C) or flat
) -> dict[str, npt.NDArray[Any]]:
    """The counts above 0 of all matrices, one after the other.

    >>> {key: array.tolist() for key, array in pack_matrices([np.array([[5, 0], [0, 7]])]).items()}
    {'confusion_index': [0, 3], 'confusion_count': [5, 7], 'confusion_length': [2]}
    """
    indices, counts, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for matrix in matrices:
        flat = np.asarray(matrix).ravel()
        (where,) = np.nonzero(flat)
        indices.append(where)
        counts.append(flat[where])
        lengths.append(len(where))
    return {
        "confusion_index": np.concatenate(indices).astype(np.uint16),
        "confusion_count": np.concatenate(counts).astype(np.uint32),
        "confusion_length": np.array(lengths, dtype=np.uint16),
    }


def unpack_matrices(parts: dict[str, npt.NDArray[Any]], classes: int) -> I64:
    """(all matrices, C, C) from the arrays of `pack_matrices`.

    >>> one = np.array([[5, 0], [0, 7]])
    >>> unpack_matrices(pack_matrices([one, 2 * one]), 2).tolist()
    [[[5, 0], [0, 7]], [[10, 0], [0, 14]]]
    """
    lengths = parts["confusion_length"].astype(np.int64)
    flat = np.zeros((len(lengths), classes * classes), dtype=np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    flat[rows, parts["confusion_index"].astype(np.int64)] = parts["confusion_count"].astype(np.int64)
    return flat.reshape(-1, classes, classes)


def image_places(dataset: Dataset, folds: FoldPlan) -> dict[str, npt.NDArray[np.int32]]:
    """Fold and group number of every validation image, in the order of a trial's matrices, fold by fold."""
    order = [(index, number) for number, fold in enumerate(folds.folds) for index in fold.validation]
    names = [str(dataset.items[index].group) for index, _ in order]
    _, groups = np.unique(names, return_inverse=True)
    return {
        "fold_of": np.array([number for _, number in order], dtype=np.int32),
        "group_of": groups.astype(np.int32),
    }


def scored_curve(lines: Sequence[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """(epoch, score) of the lines of a trial's curve that hold this score.

    >>> scored_curve([{"epoch": 1, "miou": None}, {"epoch": 2, "miou": 0.5}], "miou")
    [(2, 0.5)]
    """
    return [(int(line["epoch"]), float(line[key])) for line in lines if line.get(key) is not None]


def write_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write the arrays compressed; the file appears whole or not at all."""
    beside = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)

"""One trial trained by the user's function: its call, the validation of its counts, and the record."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.errors import DiskFullError, RunError, gather
from segdecay.metrics.confusion import scores_of, write_confusions
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.training.artifacts import write_curve
from segdecay.training.optim import learning_rates
from segdecay.training.setup import TrialTask, axis_for, count_steps, strength_of
from segdecay.training.user_api import Setting, UserFold, UserFunction, name_of
from segdecay.utils.files import read_json, write_bytes, write_json

I64 = npt.NDArray[np.int64]
TRUTH = "truth"  # folder of a run
SHOWN = 3  # images named in an error
MOST_PIXELS = 2**48  # of one image, so that sums over images fit into int64


def check_matrices(found: Any, names: Sequence[str], classes: int) -> tuple[I64 | None, list[str]]:
    """The matrices as (N, C, C) int64, or None and their faults.

    >>> check_matrices([[[3, 1], [0, 4]]], ["a"], 2)[0].tolist()
    [[[3, 1], [0, 4]]]
    >>> check_matrices([[3, 1], [0, 4]], ["a"], 2)[1][0][:50]
    'shape (2, 2): one matrix of the whole fold; a matr'
    """
    needed = f"({len(names)}, {classes}, {classes})"
    try:
        values = np.asarray(found)
    except (TypeError, ValueError, RuntimeError) as error:
        return None, [f"{type(found).__name__}, which is not an array ({error}); an integer array {needed} is needed."]
    if values.dtype == object:
        return None, [f"{type(found).__name__}, which is not an array; an integer array {needed} is needed."]
    faults = []
    if values.shape != (len(names), classes, classes):
        hint = f"one matrix per image of fold.validation, in its order, is needed: {needed}."
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
        faults.append(f"a count of {int(values.max())}; no image has so many pixels. Use int64 for the counts.")
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
    """Differences from the true pixels of the fold's first training, which are written to `path`.

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
        return [f"{len(rows)} images; {first} has {len(before)}."]
    image, klass = np.nonzero(before != rows)
    if not len(image):
        return []
    seen = [
        f"{names[i]}, {classes[c]}: {rows[i, c]} true pixels, {before[i, c]} at {first}"
        for i, c in zip(image[:SHOWN], klass[:SHOWN], strict=True)
    ]
    more = f", and {len(image) - SHOWN} more" if len(image) > SHOWN else ""
    message = (
        f"true pixels differ from those of an earlier training ({'; '.join(seen)}{more}). Rows are the truth: count "
        "the same pixels of the same images for every setting, without augmentation or cropping."
    )
    return [message]


def _leave(path: Path, values: dict[str, Any]) -> bool:
    """Write a file unless another process has written it; returns whether it was written here."""
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
    """The true pixels of every image of a fold, one row per image; empty if no training has written them.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [[int(count) for count in row] for row in read_json(path)["pixels"]]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it; the next training writes it again.") from error


TRACEBACK = "failed.txt"
POLL_S = 0.1


def run_user_trial(task: TrialTask, user: UserFunction, *, stop: Callable[[], bool] = lambda: False) -> TrialRecord:
    """Train one trial with the user's function; a finished trial is only read.

    An unfinished training has no checkpoint, so a worker that is asked to stop ends at once.

    Raises:
        RunError: the function raised (its traceback is kept in the trial's folder), or its counts cannot be scored.
    """
    if (task.folder / "trial.json").exists():
        return trial_from_json(read_json(task.folder / "trial.json"))
    task.folder.mkdir(parents=True, exist_ok=True)
    _end_when_asked(stop)
    start = time.monotonic()
    fold = fold_of(task, user)
    found = _call(user, setting_of(task), fold, task)
    seconds = time.monotonic() - start
    matrices = _checked(found, user, fold, task)
    total = matrices.sum(axis=0)
    predicted, present = int((total.sum(axis=0) > 0).sum()), int((total.sum(axis=1) > 0).sum())
    write_confusions(task.folder / "confusion.npz", matrices)
    write_curve(task.folder, [])
    record = TrialRecord(
        setting=task.setting,
        strength=strength_of(task.config, task.value, len(task.train)),
        fold=task.fold,
        seed=task.seed,
        status="finished",
        reason=None,
        train=None,
        validation=scores_of(matrices),
        epochs=0,
        steps=0,
        seconds=seconds,
        parts=(len(task.train), len(task.scored)),
        extra={
            "collapsed": predicted <= 1 < present,
            "classes_predicted": predicted,
            "trained_by": name_of(user.function),
        },
    )
    write_json(task.folder / "trial.json", record)
    (task.folder / TRACEBACK).unlink(missing_ok=True)
    return record


def setting_of(task: TrialTask) -> Setting:
    """The argument `setting` of the user's function."""
    config = task.config
    strength = strength_of(config, task.value, len(task.train))
    of_regularizer = config.decay.axis is None
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, len(task.train)))
    return Setting(
        name=strength.axis,
        value=task.value,
        is_none=task.value == axis_for(config.decay, config.optimizer).none,
        regularizer=config.decay.regularizer if of_regularizer else None,
        lambda_=strength.lambda_,
        total_decay=strength.total_decay,
        timescale_epochs=strength.timescale_epochs,
        learning_rates=tuple(rates) if of_regularizer else (),
        config=config,
    )


def fold_of(task: TrialTask, user: UserFunction) -> UserFold:
    """The argument `fold` of the user's function."""
    return UserFold(
        number=task.fold,
        train=task.train,
        validation=task.scored,
        train_names=tuple(user.names[index] for index in task.train),
        validation_names=tuple(user.names[index] for index in task.scored),
        classes=user.classes,
        device=task.device,
        folder=task.folder,
        root=None if user.is_described else task.dataset,
    )


def truth_path(task: TrialTask) -> Path:
    """The file with the true pixels of a trial's images, one per fold."""
    run = task.folder.parents[1 if task.is_refit else 2]
    return run / TRUTH / f"{'test' if task.is_refit else task.fold}.json"


def _call(user: UserFunction, setting: Setting, fold: UserFold, task: TrialTask) -> Any:
    try:
        return user.function(setting, fold, task.drawn_from)
    except (Exception, SystemExit) as error:
        if DiskFullError.is_told_by(error):
            raise
        write_bytes(task.folder / TRACEBACK, traceback.format_exc().encode("utf-8", errors="replace"))
        said = str(error).strip().splitlines()
        raise RunError(
            f"{name_of(user.function)} raised {type(error).__name__}: {said[0] if said else 'no message'} "
            f"(the traceback is in {task.folder / TRACEBACK})"
        ) from error


def _checked(found: Any, user: UserFunction, fold: UserFold, task: TrialTask) -> npt.NDArray[np.int64]:
    """The counts, validated against the number of images and the true pixels of the fold."""
    headline = f"{name_of(user.function)} returned counts that cannot be scored:"
    matrices, faults = check_matrices(found, fold.validation_names, len(user.classes))
    if matrices is None:
        gather(RunError, faults, headline=headline)
        raise AssertionError("what is no array of counts has faults")
    if not matrices.any():
        gather(RunError, ["every count is 0: no pixel was scored."], headline=headline)
    differs = check_truth(truth_path(task), matrices, fold.validation_names, user.classes, task.setting)
    gather(RunError, differs, headline=headline if differs else "")
    return matrices


def _end_when_asked(stop: Callable[[], bool]) -> None:
    """End this worker as soon as it is asked to stop, since the user's code cannot be interrupted otherwise."""
    if multiprocessing.parent_process() is None:
        return

    def watch() -> None:
        while not stop():
            time.sleep(POLL_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

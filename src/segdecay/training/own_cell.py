"""One cell by the caller's function: told what to train, asked for counts, recorded as any other cell.

Knows one training; nothing of other cells but the truth of their fold.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.errors import DiskFullError, RunError, gather
from segdecay.records import CellRecord, cell_from_json, read_json, write_bytes, write_json
from segdecay.training.keeping import write_curve
from segdecay.training.metrics import scores_of, write_confusions
from segdecay.training.optim import learning_rates
from segdecay.training.own import Own, OwnFold, Setting, name_of
from segdecay.training.own_counts import TRUTH, check_matrices, check_truth
from segdecay.training.setup import CellTask, axis_for, count_steps, strength_of

TRACEBACK = "failed.txt"
POLL_S = 0.1


def run_own_cell(task: CellTask, own: Own, *, stop: Callable[[], bool] = lambda: False) -> CellRecord:
    """Have the caller's function train one cell; a finished cell is only read.

    Nothing of an unfinished training is kept, so a worker that is asked to stop ends at once.

    Raises:
        RunError: the function raised (its traceback is kept in the cell's folder), or returned what cannot be scored.
    """
    if (task.folder / "cell.json").exists():
        return cell_from_json(read_json(task.folder / "cell.json"))
    task.folder.mkdir(parents=True, exist_ok=True)
    _end_when_asked(stop)
    start = time.monotonic()
    fold = fold_of(task, own)
    found = _call(own, setting_of(task), fold, task)
    seconds = time.monotonic() - start
    matrices = _checked(found, own, fold, task)
    total = matrices.sum(axis=0)
    predicted, present = int((total.sum(axis=0) > 0).sum()), int((total.sum(axis=1) > 0).sum())
    write_confusions(task.folder / "confusion.npz", matrices)
    write_curve(task.folder, [])
    record = CellRecord(
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
            "trained_by": name_of(own.function),
        },
    )
    write_json(task.folder / "cell.json", record)
    (task.folder / TRACEBACK).unlink(missing_ok=True)
    return record


def setting_of(task: CellTask) -> Setting:
    """What the caller's function is told of the setting of a cell."""
    config = task.config
    strength = strength_of(config, task.value, len(task.train))
    of_policy = config.decay.axis is None
    rates = learning_rates(config.schedule, config.optimizer.lr, count_steps(config, len(task.train)))
    return Setting(
        name=strength.axis,
        value=task.value,
        is_none=task.value == axis_for(config.decay, config.optimizer).none,
        policy=config.decay.policy if of_policy else None,
        lambda_=strength.lambda_,
        total_decay=strength.total_decay,
        timescale_epochs=strength.timescale_epochs,
        learning_rates=tuple(rates) if of_policy else (),
        config=config,
    )


def fold_of(task: CellTask, own: Own) -> OwnFold:
    """What the caller's function is told of the images of a cell."""
    return OwnFold(
        number=task.fold,
        train=task.train,
        validation=task.scored,
        train_names=tuple(own.names[index] for index in task.train),
        validation_names=tuple(own.names[index] for index in task.scored),
        classes=own.classes,
        device=task.device,
        folder=task.folder,
        root=None if own.is_described else task.dataset,
    )


def truth_path(task: CellTask) -> Path:
    """Where the truth of a cell's images is remembered: once a fold."""
    run = task.folder.parents[1 if task.is_refit else 2]
    return run / TRUTH / f"{'test' if task.is_refit else task.fold}.json"


def _call(own: Own, setting: Setting, fold: OwnFold, task: CellTask) -> Any:
    try:
        return own.function(setting, fold, task.drawn_from)
    except (Exception, SystemExit) as error:
        if DiskFullError.is_told_by(error):
            raise
        write_bytes(task.folder / TRACEBACK, traceback.format_exc().encode("utf-8", errors="replace"))
        said = str(error).strip().splitlines()
        raise RunError(
            f"{name_of(own.function)} raised {type(error).__name__}: {said[0] if said else 'no message'} "
            f"(the traceback is in {task.folder / TRACEBACK})"
        ) from error


def _checked(found: Any, own: Own, fold: OwnFold, task: CellTask) -> npt.NDArray[np.int64]:
    """The counts, where they can be scored and are of the truth that other settings were scored by."""
    told = f"{name_of(own.function)} returned what cannot be scored:"
    matrices, faults = check_matrices(found, fold.validation_names, len(own.classes))
    if matrices is None:
        gather(RunError, faults, headline=told)
        raise AssertionError("what is no array of counts has faults")
    if not matrices.any():
        gather(RunError, ["every count is 0: no pixel was scored."], headline=told)
    differs = check_truth(truth_path(task), matrices, fold.validation_names, own.classes, task.setting)
    gather(RunError, differs, headline=told if differs else "")
    return matrices


def _end_when_asked(stop: Callable[[], bool]) -> None:
    """End this worker as soon as it is asked to stop: the caller's code cannot be asked."""
    if multiprocessing.parent_process() is None:
        return

    def watch() -> None:
        while not stop():
            time.sleep(POLL_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

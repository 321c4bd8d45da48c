"""`segdecay.tune`, `train`, `compare` and `load`: the commands as Python functions, on the same code path."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segdecay.data.user_data import UserData
from segdecay.errors import ConfigError, RunError
from segdecay.execution import find_devices
from segdecay.execution.options import Execution
from segdecay.inference.model import Model, load_predictor
from segdecay.training.user_api import Axis, Function
from segdecay.utils.yaml import read_yaml
from segdecay.workflows.compare import Compared
from segdecay.workflows.compare import compare as run_compare
from segdecay.workflows.lr_range import LrRange, plan_of
from segdecay.workflows.lr_range import lr_range as run_lr_range
from segdecay.workflows.progress import ConsoleWatcher, build_watcher
from segdecay.workflows.request import (
    Config,
    compare_config_from_keywords,
    config_from_keywords,
    default_lr_out,
    default_out,
    parse_budget,
)
from segdecay.workflows.train import Trained
from segdecay.workflows.train import train as run_train
from segdecay.workflows.tune import Tuned
from segdecay.workflows.tune import tune as run_tune
from segdecay.workflows.user_training import UserSearch


def tune(
    data: str | Path | UserData | None = None,
    *,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    train: Function | None = None,
    axis: Axis | tuple[str, str] | None = None,
    decay: str | None = None,
    grid: Sequence[float] | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    budget: str | None = None,
    keep_fold_models: bool = False,
    refit: str = "auto",
    workers: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Tuned:
    """Choose a strength by cross-validation, as `segdecay tune`; the same call on the same `out` goes on.

    Args:
        data: what the command takes (a folder, a dataset.yaml, "digits", "cifar10:FOLDER"), or with `train` also an
            `UserData`; None takes `data.path` of the configuration.
        out: the run's folder; default runs/NAME.
        config: a RunConfig, its values as a mapping, or a YAML file of them.
        set: any key to its value, as in {"search.race": False, "optimizer.lr": 0.01}.
        train: a function of your own, `train(setting, fold, seed)`, which trains `setting` (a `Setting`) on
            `fold.train` (an `UserFold`) and returns a confusion matrix of every image of `fold.validation`, in that
            order: (N, C, C) integers, rows the truth, columns the prediction, ignored pixels in no cell
            (docs/python.md).
        axis: of `train`: an `Axis`, or the names of a regularizer and an optimizer of ours; default: of the
            configuration.
        decay, grid, folds, epochs, seed: as decay.regularizer, search.grid (values on the axis), search.folds,
            training.epochs and seed in `set`.
        budget: a time or a number of trainings, as in "30m" or "20trials".
        keep_fold_models: keep the folds' weights.
        refit: "anyway" trains a model also where no network is trained enough to tell.
        workers: trainings at a time; None: a core or GPU each; 0: in this process.
        device: "auto", "cpu", "cuda" or "cuda:N".
        cache: folder of decoded data; None takes $SEGDECAY_CACHE, else the user's.
        quiet: print nothing.

    Returns:
        `Tuned`, with `.verdict`, `.run`, `.report` (paths) and `.load()`.

    Raises:
        SegdecayError: anything you can act on, listing all faults of a kind; nothing that was finished is lost.

    Example:
        >>> import tempfile
        >>> def pretend(setting, fold, seed):  # trains nothing: 60 % right, and 5 % more at smoothing 0.1
        ...     right = 60 + (5 if setting.value == 0.1 else 0) + fold.number
        ...     return [[[right, 100 - right], [100 - right, right]] for _ in fold.validation]
        >>> images = UserData([f"image {i}" for i in range(12)], ["cell", "rest"])
        >>> axis = Axis("smoothing", [0.1, 0.5])
        >>> done = tune(images, train=pretend, axis=axis, folds=3, out=tempfile.mkdtemp(), workers=0, quiet=True)
        >>> done.verdict.kind, done.verdict.strength.value
        ('chosen', 0.1)
    """
    options = {
        "decay.regularizer": decay,
        "search.grid": None if grid is None else [float(value) for value in grid],
        "search.folds": folds,
        "training.epochs": epochs,
        "seed": seed,
    }
    if train is None and isinstance(data, UserData):
        raise ConfigError("UserData only describes images, so segdecay cannot train on them: give train=, or a folder.")
    built = config_from_keywords(data, config, set, options, function=train, axis=axis)
    run = _run_of(out, data, built.data.path)
    seconds, trials = parse_budget(budget)
    with watching(workers, quiet=quiet) as (possible, watcher):
        execution = Execution(
            workers=possible,
            device=device,
            command=f"segdecay.tune({_named(data, built.data.path)!r}, out={str(run)!r}, ...)",
            cache=None if cache is None else Path(cache),
            budget_s=seconds,
            budget_trials=trials,
            keep_fold_models=keep_fold_models,
            refit=refit,
        )
        described = data if isinstance(data, UserData) else None
        search = None if train is None else UserSearch(train, described)
        done = run_tune(built, run, execution, watcher, search)
        if not quiet:
            watcher.conclude(done)
        return done


def train(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    decay: str | None = None,
    lambda_: float | None = None,
    strength: float | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train one setting on the training part, as `segdecay train`; the val part, where there is one, is scored.

    Args:
        lambda_: strength as the optimizer takes it: weights shrink by 1 − lr·λ a step.
        strength: instead: the value on the axis, as in a verdict.
        devices: GPUs that share every batch of the training.
        data, out, config, set, decay, epochs, seed, workers, device, cache, quiet: as `tune`.

    Returns:
        `Trained`, with `.record` (scores of train and val), `.run`, `.report`, `.model` (paths) and `.load()`.

    Raises:
        SegdecayError: anything you can act on.
    """
    options = {
        "decay.regularizer": decay,
        "decay.lambda": lambda_,
        "decay.value": strength,
        "training.epochs": epochs,
        "seed": seed,
    }
    built = config_from_keywords(data, config, set, options)
    run = _run_of(out, data, built.data.path)
    with watching(workers, quiet=quiet) as (possible, watcher):
        refuse_devices(devices)
        execution = Execution(
            workers=possible,
            device=device,
            devices=devices,
            command=f"segdecay.train({built.data.path!r}, out={str(run)!r}, ...)",
            cache=None if cache is None else Path(cache),
        )
        done = run_train(built, run, execution, watcher)
        if not quiet:
            watcher.conclude_training(done)
        return done


def compare(
    data: str | Path | None = None,
    *,
    arms: Sequence[str] | None = None,
    strengths: int | None = None,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    folds: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Compared:
    """Compare regularizers at equal budget, as `segdecay compare`; the same call on the same `out` goes on.

    Args:
        arms: names, such as "none", "decoupled", "l1", "dropout" (docs/compare.md has all).
        strengths: tried of every arm beside none.
        data, out, config, set, folds, epochs, seed, workers, device, cache, quiet: as `tune`.

    Returns:
        `Compared`, with `.comparison` (arms ranked, pairs with intervals), `.run` and `.report` (paths).

    Raises:
        SegdecayError: anything you can act on; an arm that makes no sense is told before any training.
    """
    if isinstance(arms, str):
        raise ConfigError(f"arms= takes a sequence of names, as in ['none', 'l1']; saw {arms!r}.")
    options = {
        "search.folds": folds,
        "training.epochs": epochs,
        "seed": seed,
    }
    section = {"arms": None if arms is None else list(arms), "strengths": strengths}
    built = compare_config_from_keywords(data, config, set, options, section)
    run = _run_of(out, data, built.data.path)
    with watching(workers, quiet=quiet) as (possible, watcher):
        execution = Execution(
            workers=possible,
            device=device,
            command=f"segdecay.compare({built.data.path!r}, out={str(run)!r}, ...)",
            cache=None if cache is None else Path(cache),
        )
        done = run_compare(built, run, execution, watcher)
        if not quiet:
            watcher.conclude_comparison(done)
        return done


def lr(
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    steps: int | None = None,
    lowest: float | None = None,
    highest: float | None = None,
    decay: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    quiet: bool = False,
) -> LrRange:
    """Find a learning rate by a range test, as `segdecay lr`; nothing is changed.

    Args:
        steps: of each of the two short trainings, without decay and at a middle strength; default 300.
        lowest, highest: the first and last rate; default: the configured rate / 300 and × 300, 10 at most.
        data, out, config, set, decay, epochs, seed, device, cache, quiet: as `tune`; `out` is runs/NAME-lr by default.

    Returns:
        `LrRange`, with `.suggestion` (`.rate` is None where no rate lowers the loss), `.judged` (of the configured
        rate), `.curves` and `.picture` (a path).

    Raises:
        SegdecayError: anything you can act on.
    """
    options = {"decay.regularizer": decay, "training.epochs": epochs, "seed": seed}
    built = config_from_keywords(data, config, set, options)
    run = Path(out) if out is not None else default_lr_out(built.data.path)
    with build_watcher(quiet=quiet, as_json=False) as watcher:
        command = f"segdecay.lr({built.data.path!r}, out={str(run)!r}, ...)"
        execution = Execution(device=device, command=command, cache=None if cache is None else Path(cache))
        done = run_lr_range(built, run, execution, watcher, plan_of(built, steps, lowest, highest))
        for line in done.lines:
            watcher.say(line)
        return done


def load(run: str | Path, *, model: str | None = None, device: str = "auto", tta: str = "none") -> Model:
    """The model of a run, or of a bundle's folder, ready to predict.

    Args:
        run: the folder of a run of `tune` or `train`, or of its model.
        model: for a model of your own code, the same package.module:build again: a bundle brings no code.
        device: where to predict.
        tta: "none", "flips" (mean over 4 mirrorings) or "d4" (8 mirrorings and turns).

    Returns:
        `Model`, with `.predict(image)` (H, W) and `.probabilities(image)` (C, H, W).

    Raises:
        RunError: no finished model there.
        ModelError: damaged, hostile or of a newer schema.
    """
    folder = Path(run)
    _refuse_user_function(folder)
    return Model(load_predictor([folder], tta=tta, model=model, device=find_devices(device)[0]))


def _refuse_user_function(folder: Path) -> None:
    card = folder / "run.yaml"
    user = read_yaml(card).get("user") if card.is_file() else None
    if isinstance(user, dict) and user.get("function"):
        raise RunError(
            f"{folder} was trained by {user['function']}, a function of your own, which keeps its own models: segdecay "
            "has none to load."
        )


def _named(data: Any, path: str) -> str:
    return data.name if isinstance(data, UserData) else path


def _run_of(out: str | Path | None, data: Any, path: str) -> Path:
    return Path(out) if out is not None else default_out(_named(data, path))


def main_reason() -> str | None:
    """Why workers cannot start from the script that is run; None where they can."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or not Path(file).is_file():
        return None
    if "__name__" in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return f'{Path(file).name} has no `if __name__ == "__main__":`, so every worker would run it anew'


def refuse_devices(devices: int) -> None:
    """Refuse several devices to a script of which no process can be started.

    Raises:
        ConfigError: each of them would be a process that runs the script anew.
    """
    reason = main_reason() if devices > 1 else None
    if reason is not None:
        raise ConfigError(f"devices={devices}: {reason}. Put the call below that line, or use one device.")


def refuse_worker() -> None:
    """Refuse to begin a run while a worker imports the script that began it.

    Raises:
        ConfigError: it does.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "A worker imports this script and would start the same run again. Put the call below "
            '`if __name__ == "__main__":`, or take workers=0.'
        )


@contextmanager
def watching(workers: int | None, *, quiet: bool) -> Iterator[tuple[int | None, ConsoleWatcher]]:
    """How many workers can be had from here, and who is told how it goes."""
    refuse_worker()
    if workers is not None and (not isinstance(workers, int) or workers < 0):
        raise ConfigError(f"workers= takes 0 (this process) or more; saw {workers!r}.")
    with build_watcher(quiet=quiet, as_json=False) as watcher:
        reason = None if workers == 0 else main_reason()
        if reason is not None:
            watcher.say(f"Trainings run in this process, one after the other: {reason}.")
        yield 0 if reason is not None else workers, watcher

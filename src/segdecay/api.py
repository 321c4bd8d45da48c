"""The commands as Python functions, on the same code path: options are keywords of the same names."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from segdecay.config.schema import RunConfig
from segdecay.data.cache import default_cache
from segdecay.data.map_dataset import MapDataset, folder_of, is_map_dataset
from segdecay.data.transforms.user import UserTransform, transform_name
from segdecay.data.user_data import UserData
from segdecay.decay import Audit, Numbers
from segdecay.errors import ConfigError, RunError
from segdecay.execution import find_devices
from segdecay.execution.options import Execution
from segdecay.inference.model import Model, load_predictor
from segdecay.inference.onnx_file import OPSET, Exported
from segdecay.inference.onnx_file import export as run_export
from segdecay.inference.outputs import DEFAULT
from segdecay.metrics.confusion import user_confusions
from segdecay.metrics.counts import I64
from segdecay.report import build_report
from segdecay.search.costs import Estimate
from segdecay.training.strength_units import StrengthReport, StrengthRequest
from segdecay.training.user_api import Axis, Function
from segdecay.utils.yaml import read_yaml
from segdecay.workflows.audit import Built
from segdecay.workflows.audit import audit as run_audit
from segdecay.workflows.bars import counting_bar, prediction_bars, reading_bar
from segdecay.workflows.callbacks import Callback, CallbackWatcher
from segdecay.workflows.calling import refuse_devices, watching
from segdecay.workflows.check import Checked, check_config
from segdecay.workflows.check import check as run_check
from segdecay.workflows.compare import Compared
from segdecay.workflows.compare import compare as run_compare
from segdecay.workflows.evaluate import Evaluated
from segdecay.workflows.evaluate import evaluate as run_evaluate
from segdecay.workflows.lr_range import LrRange, plan_of
from segdecay.workflows.lr_range import lr_range as run_lr_range
from segdecay.workflows.predict import Predictions
from segdecay.workflows.predict import predict as run_predict
from segdecay.workflows.progress import ConsoleWatcher, build_watcher
from segdecay.workflows.request import (
    Config,
    compare_config_from_keywords,
    config_from_keywords,
    default_lr_out,
    default_out,
    keys_of,
    parse_budget,
    parse_limit,
    parse_size,
    parse_trackers,
)
from segdecay.workflows.strength import strength as run_strength
from segdecay.workflows.trackers.tracking import followed
from segdecay.workflows.train import Trained
from segdecay.workflows.train import train as run_train
from segdecay.workflows.tune import Tuned
from segdecay.workflows.tune import estimate as run_estimate
from segdecay.workflows.tune import tune as run_tune
from segdecay.workflows.user_training import UserSearch

SEARCH_KEYWORDS = (  # of `tune`, which set a key
    "decay", "grid", "rule", "search", "points", "race", "honest", "model", "folds", "epochs", "size", "seed", "strict",
    "allow_missing",
)  # fmt: skip
TRAIN_KEYWORDS = ("decay", "lambda_", "strength", "model", "epochs", "size", "seed", "allow_missing")
COMPARE_KEYWORDS = ("model", "folds", "epochs", "size", "seed", "strict", "allow_missing")


def tune(
    data: str | Path | UserData | MapDataset | None = None,
    *,
    groups: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    train: Function | None = None,
    axis: Axis | tuple[str, str] | None = None,
    decay: str | None = None,
    grid: Sequence[float] | None = None,
    rule: str | None = None,
    search: str | Sequence[str] | None = None,
    points: int | None = None,
    race: bool | str | None = None,
    budget: str | None = None,
    honest: str | None = None,
    keep_fold_models: bool = False,
    refit: str = "auto",
    model: str | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    size: str | Sequence[int] | None = None,
    seed: int | None = None,
    transform: str | Callable[..., Any] | None = None,
    strict: bool = False,
    allow_missing: bool = False,
    workers: int | None = None,
    executor: str = "local",
    address: str | None = None,
    gpus_per_trial: float = 0.0,
    trials_per_gpu: int = 1,
    device: str = "auto",
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    wait: bool = False,
    callbacks: Sequence[Callback] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
) -> Tuned:
    """Choose a strength by cross-validation, as `segdecay tune`; the same call on the same `out` goes on.

    Args:
        data: what the command takes (a folder, a dataset.yaml, "digits", "cifar10:FOLDER"), a map-style Dataset of
            (image, mask) pairs without random transforms, or with `train` also an `UserData`; None takes `data.path`
            of the configuration.
        groups, classes: of a Dataset: the group of every image, which folds never split, and the names of the classes.
        out: the run's folder; default runs/NAME.
        config: a RunConfig, its values as a mapping, or a YAML file of them.
        set: any key to its value, as in {"search.race": False, "optimizer.lr": 0.01}.
        train: a function of your own, `train(setting, fold, seed)`, which trains `setting` (a `Setting`) on
            `fold.train` (an `UserFold`) and returns a confusion matrix of every image of `fold.validation`, in that
            order: (N, C, C) integers, rows the truth, columns the prediction, ignored pixels in no cell
            (docs/python.md).
        axis: of `train`: an `Axis`, or the names of a regularizer and an optimizer of ours; default: of the
            configuration.
        decay, grid, folds, epochs, model, seed: as decay.regularizer, search.grid (values on the axis), search.folds,
            training.epochs, model.name and seed in `set`.
        rule: of the verdict, "best" or "one-se".
        search, points: searched together with λ, such as ["lr", "head"], and how many points (docs/joint.md).
        race: False trains the whole grid.
        budget: a time or a number of trainings, as in "30m" or "20trials".
        honest: bias correction of the score: "bbc-cv", "nested" or "holdout".
        keep_fold_models: keep the folds' weights.
        refit: "anyway" trains a model also where no network is trained enough to tell.
        size: (H, W) px, or "HxW", to which images and masks are resized.
        transform: a callable of your own, called as transform(image=..., mask=...) on every training image, such as an
            albumentations Compose, or its "package.module:name" (docs/python.md).
        strict: warnings about the data are errors.
        allow_missing: go on where a class cannot be scored or learned in every fold.
        workers: trainings at a time; None: a core or GPU each; 0: in this process.
        executor, address, gpus_per_trial: "ray" for a cluster (docs/machines.md).
        trials_per_gpu: trainings at a time on every GPU of this machine.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        cache, cache_limit: folder of decoded data, None takes $SEGDECAY_CACHE, else the user's; and its largest size,
            as in "20GB".
        wait: wait for another process that works on the same `out`.
        callbacks: objects of `segdecay.Callback`, told of trials, epochs and the verdict.
        track: "tensorboard", "mlflow" or both, each with a place after a colon, as in "mlflow:http://127.0.0.1:5000".
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
    asked = dict(locals())  # the keywords by name: `estimate` takes the same
    with _searching(asked) as (built, run, execution, watcher, own):
        with _followed(watcher, run, asked) as told:
            done = run_tune(built, run, execution, told, *own)
            told.verdict(done)
        if not quiet:
            watcher.conclude(done)
        return done


def estimate(data: str | Path | None = None, **options: Any) -> Estimate:
    """Trials, time and disk of a search beforehand, as `segdecay tune --estimate`; nothing is trained or written.

    Args:
        data: as `tune`.
        options: the keywords of `tune`.

    Returns:
        `Estimate`: `.trials`, `.seconds_least`, `.seconds_most`, `.disk_bytes` and more.

    Raises:
        TypeError: a keyword that `tune` does not have.
        SegdecayError: whatever would stop the search before its first trial.
    """
    given = inspect.signature(tune).bind(data, **options)
    given.apply_defaults()
    if given.arguments["train"] is not None:
        raise ConfigError("estimate: how long train= takes is not known beforehand. Try one fold of it by hand.")
    with _searching(given.arguments) as (built, run, execution, watcher, (_, transform)):
        return run_estimate(built, run, execution, watcher, transform)


@contextmanager
def _searching(
    asked: Mapping[str, Any],  # the keywords of `tune`
) -> Iterator[tuple[RunConfig, Path, Execution, ConsoleWatcher, tuple[UserSearch | None, UserTransform | None]]]:
    """What a search needs: configuration, folder, execution, watcher, and the caller's functions."""
    function, name = asked["train"], dataset_name(asked["data"])
    data = _readable(asked["data"], asked["groups"], asked["classes"], asked["cache"])
    if function is None and isinstance(data, UserData):
        raise ConfigError("UserData only describes images, so segdecay cannot train on them: give train=, or a folder.")
    if function is not None and asked["transform"] is not None:
        raise ConfigError("transform= is for trainings of segdecay; with train= apply it in your function.")
    options, transform = _options(asked, SEARCH_KEYWORDS)
    built = config_from_keywords(data, asked["config"], asked["set"], options, function=function, axis=asked["axis"])
    run = _run_of(asked["out"], name or data, built.data.path)
    described = data if isinstance(data, UserData) else None
    with watching(asked["workers"], quiet=asked["quiet"]) as (possible, watcher):
        command = f"segdecay.tune({_named(data, built.data.path)!r}, out={str(run)!r}, ...)"
        execution = _execution(asked, possible, command)
        yield built, run, execution, watcher, (None if function is None else UserSearch(function, described), transform)


def _options(asked: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], UserTransform | None]:
    """The keys that keywords set, and the caller's transform where it was given as a callable."""
    given = asked["transform"]
    if given is not None and not isinstance(given, str) and not callable(given):
        raise ConfigError(f"transform= takes a callable of (image, mask), or its 'package.module:name'; saw {given!r}.")
    is_object = given is not None and not isinstance(given, str)
    name = transform_name(given) if is_object else given
    options = keys_of(**{name: asked[name] for name in names}, transform=name)
    return options, UserTransform(given, name) if is_object else None


def _execution(
    asked: Mapping[str, Any],  # keywords of a function; what it does not have is as by default
    workers: int | None,
    command: str,
) -> Execution:
    cache, plain = asked["cache"], Execution()
    seconds, trials = parse_budget(asked.get("budget"))
    return Execution(
        workers=workers,
        device=asked["device"],
        devices=asked.get("devices", plain.devices),
        command=command,
        executor=asked.get("executor", plain.executor),
        address=asked.get("address"),
        gpus_per_trial=asked.get("gpus_per_trial", plain.gpus_per_trial),
        trials_per_gpu=asked.get("trials_per_gpu", plain.trials_per_gpu),
        cache=None if cache is None else Path(cache),
        cache_limit=parse_limit(asked["cache_limit"]),
        wait=asked["wait"],
        budget_s=seconds,
        budget_trials=trials,
        keep_fold_models=asked.get("keep_fold_models", False),
        refit=asked.get("refit", plain.refit),
    )


def _followed(watcher: ConsoleWatcher, run: Path, asked: Mapping[str, Any]) -> AbstractContextManager[CallbackWatcher]:
    """The watcher, with the callbacks and trackers of a call."""

    def warn(text: str) -> None:
        warnings.warn(text, UserWarning, stacklevel=2)

    return followed(watcher, run, parse_trackers(asked["track"]), warn, asked["callbacks"])


def train(
    data: str | Path | MapDataset | None = None,
    *,
    groups: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    decay: str | None = None,
    lambda_: float | None = None,
    strength: float | None = None,
    model: str | None = None,
    epochs: int | None = None,
    size: str | Sequence[int] | None = None,
    seed: int | None = None,
    transform: str | Callable[..., Any] | None = None,
    allow_missing: bool = False,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    wait: bool = False,
    callbacks: Sequence[Callback] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
) -> Trained:
    """Train one setting on the training part, as `segdecay train`; the val part, where there is one, is scored.

    Args:
        lambda_: strength as the optimizer takes it: weights shrink by 1 − lr·λ a step.
        strength: instead: the value on the axis, as in a verdict.
        devices: GPUs that share every batch of the training.
        data, groups, classes, out, config, set, decay, model, epochs, size, seed, transform, allow_missing, workers,
            device, cache, cache_limit, wait, callbacks, track, quiet: as `tune`.

    Returns:
        `Trained`, with `.record` (scores of train and val), `.run`, `.report`, `.model` (paths) and `.load()`.

    Raises:
        SegdecayError: anything you can act on.
    """
    asked = dict(locals())
    options, transform_given = _options(asked, TRAIN_KEYWORDS)
    name, data = dataset_name(data), _readable(data, groups, classes, cache)
    built = config_from_keywords(data, config, set, options)
    run = _run_of(out, name or data, built.data.path)
    with watching(workers, quiet=quiet) as (possible, watcher):
        refuse_devices(devices)
        execution = _execution(asked, possible, f"segdecay.train({built.data.path!r}, out={str(run)!r}, ...)")
        with _followed(watcher, run, asked) as told:
            done = run_train(built, run, execution, told, transform_given)
        if not quiet:
            watcher.conclude_training(done)
        return done


def compare(
    data: str | Path | MapDataset | None = None,
    *,
    groups: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
    arms: Sequence[str] | None = None,
    strengths: int | None = None,
    out: str | Path | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    model: str | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    size: str | Sequence[int] | None = None,
    seed: int | None = None,
    transform: str | Callable[..., Any] | None = None,
    strict: bool = False,
    allow_missing: bool = False,
    workers: int | None = None,
    executor: str = "local",
    address: str | None = None,
    gpus_per_trial: float = 0.0,
    trials_per_gpu: int = 1,
    device: str = "auto",
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    wait: bool = False,
    callbacks: Sequence[Callback] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
) -> Compared:
    """Compare regularizers at equal budget, as `segdecay compare`; the same call on the same `out` goes on.

    Args:
        arms: names, such as "none", "decoupled", "l1", "dropout" (docs/compare.md has all).
        strengths: tried of every arm beside none.
        data, groups, classes, out, config, set, model, folds, epochs, size, seed, transform, strict, allow_missing,
            workers, executor, address, gpus_per_trial, trials_per_gpu, device, cache, cache_limit, wait, callbacks,
            track, quiet: as `tune`.

    Returns:
        `Compared`, with `.comparison` (arms ranked, pairs with intervals), `.run` and `.report` (paths).

    Raises:
        SegdecayError: anything you can act on; an arm that makes no sense is told before any training.
    """
    if isinstance(arms, str):
        raise ConfigError(f"arms= takes a sequence of names, as in ['none', 'l1']; saw {arms!r}.")
    asked = dict(locals())
    options, transform_given = _options(asked, COMPARE_KEYWORDS)
    section = {"arms": None if arms is None else list(arms), "strengths": strengths}
    name, data = dataset_name(data), _readable(data, groups, classes, cache)
    built = compare_config_from_keywords(data, config, set, options, section)
    run = _run_of(out, name or data, built.data.path)
    with watching(workers, quiet=quiet) as (possible, watcher):
        execution = _execution(asked, possible, f"segdecay.compare({built.data.path!r}, out={str(run)!r}, ...)")
        with _followed(watcher, run, asked) as told:
            done = run_compare(built, run, execution, told, transform_given)
            told.verdict(done)
        if not quiet:
            watcher.conclude_comparison(done)
        return done


def check(
    data: str | Path | None = None,
    *,
    folds: int | None = None,
    size: str | Sequence[int] | None = None,
    seed: int | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
    strict: bool = False,
    allow_missing: bool = False,
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    quiet: bool = False,
) -> Checked:
    """Read every image and mask, as `segdecay check`; faults are findings, not errors.

    Args:
        data, folds, size, seed, config, set, strict, allow_missing, cache, cache_limit, quiet: as `tune`.

    Returns:
        `Checked`, with `.findings`, `.report` (classes and parts), `.folds`, `.is_wrong` and `.dataset`.

    Raises:
        SegdecayError: the data do not exist, or a key is wrong.

    Example:
        >>> found = check("digits", quiet=True)
        >>> found.is_wrong, len(found.report.classes)
        (False, 11)
    """
    options = keys_of(folds=folds, size=size, seed=seed, strict=strict, allow_missing=allow_missing)
    built = check_config(None if data is None else str(data), config, set, options)
    with reading_bar(shown=not quiet) as watch:
        place = None if cache is None else Path(cache)
        return run_check(built, cache=place, cache_limit=parse_limit(cache_limit), watch=watch)


def predict(
    run: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    save: str | Sequence[str] = DEFAULT,
    tta: str = "none",
    ensemble: bool = False,
    with_: Sequence[str | Path] = (),
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    model: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Predictions:
    """Predict image files into a folder, as `segdecay predict`; for arrays take `load(run).predict(image)`.

    Args:
        run: the folder of a run, or of its model.
        images: files, folders or patterns.
        out: the folder of results; default predicted/NAME OF RUN.
        save: any of "mask", "overlay", "probabilities", "confidence", "entropy", "coco".
        tta: "none", "flips" or "d4".
        ensemble: average the models of the folds.
        with_: other runs, whose models are averaged with this one.
        tile, overlap, batch: px of a window, px that windows share, windows at a time.
        model: for a model of your own code, the same package.module:build again.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        quiet: show no bar.

    Returns:
        `Predictions`, with `.out`, `.images` (a record each), `.failed` and `.to_dict()`.

    Raises:
        SegdecayError: anything you can act on; an image that cannot be predicted is in `.failed`.
    """
    given = [images] if isinstance(images, str | Path) else list(images)
    return run_predict(
        Path(run),
        [Path(one) for one in given],
        out=None if out is None else Path(out),
        save=save,
        tta=tta,
        ensemble=ensemble,
        others=[Path(one) for one in with_],
        tile=tile,
        overlap=overlap,
        batch=batch,
        model=model,
        device=device,
        bars=prediction_bars(quiet=quiet),
    )


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    part: str | None = None,
    out: str | Path | None = None,
    tta: str = "none",
    ensemble: bool = False,
    size: str | Sequence[int] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    model: str | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Evaluated:
    """Score a model against masks or labels, as `segdecay evaluate`.

    Args:
        run: the folder of a run, or of its model.
        data: as `tune`, with the model's classes.
        part: "test", "val", "train" or "all"; None: test if there is one, else all.
        out: folder of evaluation.json, counts of every image and report.html; None writes nothing.
        size: (H, W) px at which masks are scored.
        tta, ensemble, tile, overlap, batch, model, device, quiet: as `predict`.
        cache: as `tune`.

    Returns:
        `Evaluated`, with `.evaluation` (the record of docs/evaluation.md), `.out` and `.report`.

    Raises:
        SegdecayError: anything you can act on.
    """
    return run_evaluate(
        Path(run),
        str(data),
        part=part,
        out=None if out is None else Path(out),
        tta=tta,
        ensemble=ensemble,
        size=None if size is None else parse_size(size),
        tile=tile,
        overlap=overlap,
        batch=batch,
        model=model,
        device=device,
        cache=None if cache is None else Path(cache),
        command=f"segdecay.evaluate({str(run)!r}, {str(data)!r}, ...)",
        counter=lambda unit, total: counting_bar(unit, total, quiet=quiet),
    )


def audit(
    build: Built,
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    schedule: str = "constant",
    clip_norm: float | None = None,
    lambda_: float | None = None,
) -> Audit:
    """Which parameters decay, by how much and by what, and common mistakes; as `segdecay audit`.

    Args:
        build: (model, optimizer), optionally followed by the loss and the shapes of output and target; or a function
            without arguments that returns these, or its "module:name".
        epochs, steps_per_epoch: planned; add D and τ.
        schedule: "constant", "cosine" or "poly", from the optimizer's learning rate.
        clip_norm: the norm gradients are clipped to.
        lambda_: the intended λ of a penalty in the loss.

    Returns:
        `Audit`; `print` shows its table. More, such as a whole training step: `segdecay.decay.audit`.

    Raises:
        SegdecayError: anything you can act on.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(3, 2)
        >>> found = audit((net, torch.optim.AdamW(net.parameters(), lr=1e-3)))
        >>> found.is_wrong, len(found.rows)
        (False, 2)
    """
    return run_audit(
        build, epochs=epochs, steps_per_epoch=steps_per_epoch, schedule=schedule, clip_norm=clip_norm, lambda_=lambda_
    )


def strength(
    *,
    images: int | None = None,
    optimizer: str | None = None,
    momentum: float | None = None,
    regularizer: str | None = None,
    lr: float | None = None,
    schedule: str | None = None,
    warmup: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    lambda_: float | None = None,
    timescale: float | None = None,
    total_decay: float | None = None,
    from_: str | None = None,
    to: Sequence[str] = (),
    n_samples: int | None = None,
    reduction: str | None = None,
    weight_sum: float | None = None,
    config: Config = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as --set
) -> StrengthReport:
    """λ, τ and D of a strength and its value in other tools, as `segdecay strength`.

    Args:
        images: training images.
        optimizer, momentum, regularizer, lr, schedule, warmup, epochs, batch_size, accumulate: the training; defaults
            are those of `train`.
        lambda_, timescale, total_decay, from_: the strength, by exactly one of λ, τ in epochs, D, or "NAME=VALUE" of
            another tool.
        to: names of tools; all by default.
        n_samples, reduction, weight_sum: of the loss, which some tools need (docs/strength.md).
        config, set: as `tune`.

    Raises:
        SegdecayError: incomplete or out of range; all faults together.

    Example:
        >>> found = strength(images=367, epochs=100, lr=0.001, lambda_=0.05)
        >>> round(found.total_decay, 3)
        0.115
    """
    plan = {"optimizer": optimizer, "momentum": momentum, "regularizer": regularizer, "lr": lr, "schedule": schedule,
            "warmup": warmup, "epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}  # fmt: skip
    return run_strength(
        images,
        plan,
        StrengthRequest(lambda_, timescale, total_decay, from_),
        numbers=Numbers(n_samples=n_samples, reduction=reduction, weight_sum=weight_sum),
        names=tuple(to),
        config=config,
        changes=set,
    )


def export(
    run: str | Path,
    *,
    to: str = "onnx",
    out: str | Path | None = None,
    normalise: bool = False,
    argmax: bool = False,
    opset: int = OPSET,
    model: str | None = None,
) -> Exported:
    """Write a model for another program, as `segdecay export`; it is compared with the model on three sizes first.

    Args:
        run: the folder of a run, or of its model.
        to: "onnx".
        out: the file; default model.onnx beside the model.
        normalise: the file takes bands of 0 … 255; otherwise the caller normalises (docs/prediction.md).
        argmax: the file returns labels in place of logits.
        opset: of ONNX, 13 to 20.
        model: for a model of your own code, the same package.module:build again.

    Returns:
        `Exported`, with `.path` and `.checks` (largest difference and agreement of labels at each size).

    Raises:
        SegdecayError: anything you can act on; where the file would compute something else, none is written.
    """
    place = None if out is None else Path(out)
    return run_export(Path(run), to=to, out=place, normalise=normalise, argmax=argmax, opset=opset, model=model)


def report(run: str | Path) -> Path:
    """Write RUN/report.html again from the records of the run, as `segdecay report`.

    Returns:
        The path of the page.

    Raises:
        RunError: RUN is not finished, or one of its files is missing or damaged.
    """
    return build_report(Path(run))


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
    model: str | None = None,
    epochs: int | None = None,
    size: str | Sequence[int] | None = None,
    seed: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    wait: bool = False,
    quiet: bool = False,
) -> LrRange:
    """Find a learning rate by a range test, as `segdecay lr`; nothing is changed.

    Args:
        steps: of each of the two short trainings, without decay and at a middle strength; default 300.
        lowest, highest: the first and last rate; default: the configured rate / 300 and × 300, 10 at most.
        out: the folder of the test; default runs/NAME-lr.
        data, config, set, decay, model, epochs, size, seed, device, cache, cache_limit, wait, quiet: as `tune`.

    Returns:
        `LrRange`, with `.suggestion` (`.rate` is None where no rate lowers the loss), `.judged` (of the configured
        rate), `.curves` and `.picture` (a path).

    Raises:
        SegdecayError: anything you can act on.
    """
    asked = dict(locals())
    options = keys_of(decay=decay, model=model, epochs=epochs, size=size, seed=seed)
    built = config_from_keywords(data, config, set, options)
    run = Path(out) if out is not None else default_lr_out(built.data.path)
    with build_watcher(quiet=quiet, as_json=False) as watcher:
        execution = _execution(asked, None, f"segdecay.lr({built.data.path!r}, out={str(run)!r}, ...)")
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


def dataset_name(data: Any) -> str | None:
    """The name of a run on a Dataset: that of its class; None for other data.

    >>> dataset_name([("image", "mask")]), dataset_name("digits")
    ('list', None)
    """
    return type(data).__name__.lower() if is_map_dataset(data) else None


def _readable(data: Any, groups: Any, classes: Any, cache: str | Path | None) -> Any:
    """A Dataset as the folder that it was written to; anything else as it is."""
    if is_map_dataset(data):
        return folder_of(data, default_cache() if cache is None else Path(cache), groups=groups, classes=classes)
    if groups is not None or classes is not None:
        raise ConfigError(
            "groups= and classes= describe a Dataset. For a folder write groups.csv and classes.txt into it "
            "(docs/data.md); UserData has both itself."
        )
    return data


def _named(data: Any, path: str) -> str:
    return data.name if isinstance(data, UserData) else path


def _run_of(out: str | Path | None, data: Any, path: str) -> Path:
    return Path(out) if out is not None else default_out(data if isinstance(data, str) else _named(data, path))


def confusion(
    logits_or_labels: Any,  # (N, C, H, W) scores, or (N, H, W) class indices; a tensor or an array
    masks: Any,  # (N, H, W) class indices, or 255 and other values from C on where ignored
    classes: int | Sequence[str],
) -> I64:  # (N, C, C): rows the truth, columns the prediction
    """The confusion matrices that a function of `tune(train=function)` returns.

    Args:
        logits_or_labels: one image after the other; scores become the class with the largest.
        masks: of the same images, in the same order.
        classes: how many, or their names.

    Raises:
        DataError: shapes or types that do not fit, or predictions that are no class; all faults are listed.

    Example:
        >>> confusion([[[0, 1, 1]]], [[[0, 0, 255]]], 2).tolist()
        [[[1, 1], [0, 0]]]
    """
    return user_confusions(logits_or_labels, masks, classes if isinstance(classes, int) else len(classes))

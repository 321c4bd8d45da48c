"""The commands `tune`, `train` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdecay.cli import options as opt
from segdecay.cli.signals import interruptible
from segdecay.workflows.request import build_config, default_out, keys_of, parse_budget, parse_limit, parse_trackers

_TUNE_EXAMPLE = "Example: segdecay tune DATA --out runs/mine --folds 5 --set search.grid=[0,1,4,16]"
_TRAIN_EXAMPLE = "Example: segdecay train DATA --decay decoupled --lambda 0.01 --out runs/one"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("tune", epilog=_TUNE_EXAMPLE)(tune)
    app.command("train", epilog=_TRAIN_EXAMPLE)(train)
    app.command("report", epilog="Example: segdecay report runs/mine")(report)


def tune(
    data: opt.Data,
    out: opt.Out = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    decay: Annotated[str | None, typer.Option("--decay", help="The regularizer. Default: decoupled.")] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="best, or one-se.")] = None,
    search: opt.Search = None,
    points: opt.Points = None,
    race: opt.Race = None,
    budget: opt.Budget = None,
    honest: opt.Honest = None,
    keep_fold_models: Annotated[
        bool, typer.Option("--keep-fold-models", help="Keep the weights of the folds, for predict --ensemble.")
    ] = False,
    refit: opt.Refit = "auto",
    model: opt.Model = None,
    folds: opt.Folds = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    transform: opt.Transform = None,
    strict: opt.Strict = False,
    allow_missing: opt.AllowMissing = False,
    workers: opt.Workers = None,
    executor: opt.Executor = "local",
    address: opt.Address = None,
    gpus_per_trial: opt.GpusPerTrial = 0.0,
    trials_per_gpu: opt.TrialsPerGpu = 1,
    device: opt.Device = "auto",
    cache_limit: opt.CacheLimit = None,
    wait: opt.Wait = False,
    track: opt.Track = None,
    estimate: opt.Estimate = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Choose λ by cross-validation: folds, trials, verdict, refit, model, report.

    The same command with the same --out resumes an interrupted run. Exit code 1: no network is trained enough to tell.
    """
    options = keys_of(
        decay=decay,
        rule=rule,
        search=search,
        points=points,
        race=race,
        honest=honest,
        model=model,
        folds=folds,
        epochs=epochs,
        size=size,
        seed=seed,
        transform=transform,
        strict=strict,
        allow_missing=allow_missing,
    )
    built = build_config(data, config, assignments, options)
    seconds, trials = parse_budget(budget)
    limit, trackers, run = parse_limit(cache_limit), parse_trackers(track), out or default_out(data)
    # late, so that errors in the options are reported before torch is imported
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.progress import build_watcher, show_estimate
    from segdecay.workflows.trackers.tracking import followed
    from segdecay.workflows.tune import estimate as run_estimate
    from segdecay.workflows.tune import tune as run_tune

    execution = Execution(
        workers=workers,
        device=device,
        command=opt.repeat_command(),
        executor=executor,
        address=address,
        gpus_per_trial=gpus_per_trial,
        trials_per_gpu=trials_per_gpu,
        cache_limit=limit,
        wait=wait,
        budget_s=seconds,
        budget_trials=trials,
        keep_fold_models=keep_fold_models,
        refit=refit,
    )
    with interruptible(), build_watcher(quiet=quiet, as_json=as_json) as watcher:
        if estimate:
            found = run_estimate(built, run, execution, watcher)
            if as_json:
                opt.echo_json(to_json(found))
            else:
                opt.echo(show_estimate(found))
            return
        with followed(watcher, run, trackers, opt.warn) as told:
            done = run_tune(built, run, execution, told)
    if as_json:
        opt.echo_json(to_json(done.verdict))
    else:
        watcher.conclude(done)
    if done.verdict.kind == "undertrained":
        raise typer.Exit(1)


def train(
    data: opt.Data,
    out: opt.Out = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    decay: Annotated[str | None, typer.Option("--decay", help="The regularizer. Default: decoupled.")] = None,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", help="λ as the optimizer takes it: a step multiplies w by 1 - lr·λ.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", help="In place of --lambda: the value on the regularizer's axis.")
    ] = None,
    model: opt.Model = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    transform: opt.Transform = None,
    allow_missing: opt.AllowMissing = False,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    devices: opt.Devices = 1,
    cache_limit: opt.CacheLimit = None,
    wait: opt.Wait = False,
    track: opt.Track = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Train one setting on the training part; score it on the validation part if there is one."""
    options = keys_of(
        decay=decay,
        lambda_=lambda_,
        strength=strength,
        model=model,
        epochs=epochs,
        size=size,
        seed=seed,
        transform=transform,
        allow_missing=allow_missing,
    )
    built = build_config(data, config, assignments, options)
    limit, trackers, run = parse_limit(cache_limit), parse_trackers(track), out or default_out(data)
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.progress import build_watcher  # late, as in `tune`
    from segdecay.workflows.trackers.tracking import followed
    from segdecay.workflows.train import train as run_train

    execution = Execution(
        workers=workers,
        device=device,
        devices=devices,
        command=opt.repeat_command(),
        cache_limit=limit,
        wait=wait,
    )
    with (
        interruptible(),
        build_watcher(quiet=quiet, as_json=as_json) as watcher,
        followed(watcher, run, trackers, opt.warn) as told,
    ):
        done = run_train(built, run, execution, told)
    if as_json:
        opt.echo_json(to_json(done.record))
    else:
        watcher.conclude_training(done)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    as_json: opt.Json = False,
) -> None:
    """Write RUN/report.html again from the records of the run."""
    import json

    from segdecay.report import build_report

    path = build_report(run)
    if as_json:
        opt.echo_json(json.dumps({"report": str(path)}, ensure_ascii=False))
    else:
        opt.echo(f"report: {path}")

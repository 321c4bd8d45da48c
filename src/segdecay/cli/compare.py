"""The command `compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from segdecay.cli import options as opt
from segdecay.workflows.request import (
    build_compare_config,
    default_out,
    keys_of,
    parse_limit,
    parse_names,
    parse_trackers,
)

_EXAMPLE = "Example: segdecay compare DATA --arms none,decoupled,l1,dropout --strengths 3 --out runs/arms"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("compare", epilog=_EXAMPLE)(compare)


def compare(
    data: opt.Data,
    arms: Annotated[
        str | None,
        typer.Option(
            "--arms",
            help="Names, separated by commas: none, l2, decoupled, l1, elastic_net, group_lasso, dropout, max_norm, "
            "cpr, cautious, corrected, l2_sp, weight_balancing, logit_adjustment, class_weights, early_stopping.",
        ),
    ] = None,
    strengths: Annotated[
        int | None, typer.Option("--strengths", help="Strengths per arm, in addition to no decay. Default: 3.")
    ] = None,
    out: opt.Out = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    model: opt.Model = None,
    folds: opt.Folds = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    transform: opt.Transform = None,
    strict: opt.Strict = False,
    allow_missing: opt.AllowMissing = False,
    workers: opt.Workers = None,
    cache_limit: opt.CacheLimit = None,
    executor: opt.Executor = "local",
    address: opt.Address = None,
    gpus_per_trial: opt.GpusPerTrial = 0.0,
    trials_per_gpu: opt.TrialsPerGpu = 1,
    device: opt.Device = "auto",
    wait: opt.Wait = False,
    track: opt.Track = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Compare regularizers at equal budget: the same folds, seeds and number of trials for every arm.

    The same command with the same --out resumes an interrupted comparison.
    """
    options = keys_of(
        model=model,
        folds=folds,
        epochs=epochs,
        size=size,
        seed=seed,
        transform=transform,
        strict=strict,
        allow_missing=allow_missing,
    )
    section = {"arms": parse_names(arms), "strengths": strengths}
    built = build_compare_config(data, config, assignments, options, section)
    limit, trackers, run = parse_limit(cache_limit), parse_trackers(track), out or default_out(data)
    # late, so that errors in the options are reported before torch is imported
    from segdecay.cli.signals import interruptible
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.compare import compare as run_compare
    from segdecay.workflows.progress import build_watcher
    from segdecay.workflows.trackers.tracking import followed

    execution = Execution(
        workers=workers,
        device=device,
        command=opt.repeat_command(),
        cache_limit=limit,
        executor=executor,
        wait=wait,
        address=address,
        gpus_per_trial=gpus_per_trial,
        trials_per_gpu=trials_per_gpu,
    )
    with (
        interruptible(),
        build_watcher(quiet=quiet, as_json=as_json) as watcher,
        followed(watcher, run, trackers, opt.warn) as told,
    ):
        done = run_compare(built, run, execution, told)
    if as_json:
        opt.echo_json(to_json(done.comparison))
    else:
        watcher.conclude_comparison(done)
    if done.comparison.training is not None and not done.comparison.training.is_enough:
        raise typer.Exit(1)

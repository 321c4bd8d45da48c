"""The command `lr`."""

from __future__ import annotations

from typing import Annotated

import typer

from segdecay.cli import options as opt
from segdecay.cli.signals import interruptible
from segdecay.workflows.request import build_config, default_lr_out, keys_of, parse_limit

_EXAMPLE = "Example: segdecay lr DATA --model smp:Unet"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("lr", epilog=_EXAMPLE)(lr)


def lr(
    data: opt.Data,
    out: opt.Out = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of each range test. Default: 300.")] = None,
    lowest: Annotated[
        float | None, typer.Option("--lowest", help="The first rate. Default: a 300th of the configured one.")
    ] = None,
    highest: Annotated[
        float | None,
        typer.Option("--highest", help="The last rate. Default: 300 times the configured one, 10 at most."),
    ] = None,
    decay: Annotated[str | None, typer.Option("--decay", help="The regularizer. Default: decoupled.")] = None,
    model: opt.Model = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    device: opt.Device = "auto",
    cache_limit: opt.CacheLimit = None,
    wait: opt.Wait = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Find a learning rate: short trainings whose rate rises until the loss diverges, with and without decay.

    Nothing is changed. The same command with the same --out resumes. Exit code 1: no rate lowers the loss.
    """
    options = keys_of(decay=decay, model=model, epochs=epochs, size=size, seed=seed)
    built = build_config(data, config, assignments, options)
    limit = parse_limit(cache_limit)
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.lr_range import lr_range, plan_of
    from segdecay.workflows.progress import build_watcher

    plan = plan_of(built, steps, lowest, highest)
    execution = Execution(device=device, command=opt.repeat_command(), cache_limit=limit, wait=wait)
    with interruptible(), build_watcher(quiet=quiet, as_json=as_json) as watcher:
        done = lr_range(built, out or default_lr_out(data), execution, watcher, plan)
    typer.echo(to_json(done.to_dict()) if as_json else "\n".join(done.lines), nl=not as_json)
    if done.suggestion.rate is None:
        raise typer.Exit(1)

"""The command `audit`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segdecay.cli import options as opt

if TYPE_CHECKING:
    from segdecay.decay import Audit

PARTS = ("model", "optimizer", "loss", "output shape", "target shape")
COLOURS = {"wrong": "bold red", "doubtful": "yellow", "note": "cyan"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("audit", epilog="Example: segdecay audit train:build --epochs 100 --steps-per-epoch 250")(audit)


def audit(
    build: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:BUILD", help="A function without arguments: (model, optimizer) or (model, optimizer, loss)."
        ),
    ],
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Planned epochs; adds D.")] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option("--steps-per-epoch", min=1, help="Optimizer steps per epoch; adds τ.")
    ] = None,
    schedule: Annotated[
        str, typer.Option("--schedule", help="constant, cosine or poly, from the optimizer's learning rate.")
    ] = "constant",
    clip_norm: Annotated[float | None, typer.Option("--clip-norm", help="The norm gradients are clipped to.")] = None,
    lambda_: Annotated[float | None, typer.Option("--lambda", help="The intended λ of a penalty in the loss.")] = None,
    by_parameter: Annotated[
        bool,
        typer.Option("--by-parameter", help="A line for each parameter, in place of one for all that decay alike."),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Find which parameters of your model and optimizer decay, how strongly, by which mechanism, and common mistakes.

    BUILD returns (model, optimizer) or (model, optimizer, loss), optionally followed by the shapes of output and
    target. Nothing is trained or changed. Exit code 1 when something is wrong.
    """
    from segdecay import decay

    model, optimizer, *rest = _parts(build)
    loss, output, target = [*rest, None, None, None][:3]
    rates = _rates(optimizer, schedule, epochs, steps_per_epoch)
    found = decay.audit(
        model,
        optimizer,
        loss,
        output=output,
        target=target,
        learning_rates=rates,
        steps_per_epoch=steps_per_epoch,
        clip_norm=clip_norm,
        lambda_meant=lambda_,
    )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _show(found, by_parameter=by_parameter)
    if found.is_wrong:
        raise typer.Exit(1)


def _parts(name: str) -> tuple[Any, ...]:
    """The result of the user's function: two to five parts, a model and an optimizer first."""
    from torch import nn
    from torch.optim import Optimizer

    from segdecay.errors import ModelError, gather
    from segdecay.models.zoo import import_build

    build = import_build(name, "audit")
    _validate_arguments(build, name)
    try:
        returned = build()
    except Exception as error:
        raise ModelError(f"audit {name}: it raised {type(error).__name__}: {error}") from error
    if not isinstance(returned, tuple | list) or not 2 <= len(returned) <= len(PARTS):
        length = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise ModelError(
            f"audit {name} returned a {type(returned).__name__}{length}; (model, optimizer) or (model, optimizer, "
            f"loss) is needed, with the shapes of output and target after them if the loss is unusual."
        )
    kinds: tuple[tuple[str, type], ...] = (("model", nn.Module), ("optimizer", Optimizer))
    faults = [
        f"audit {name}: the {part} is a {type(value).__name__}; a {kind.__module__}.{kind.__name__} is needed."
        for (part, kind), value in zip(kinds, returned, strict=False)
        if not isinstance(value, kind)
    ]
    gather(ModelError, faults)
    return tuple(returned)


def _validate_arguments(build: Callable[..., Any], name: str) -> None:
    """Refuse a function that needs arguments; the error names them."""
    from segdecay.errors import ModelError

    try:
        parameters = inspect.signature(build).parameters.values()
    except ValueError:  # some functions of C have no signature
        return
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ModelError(
            f"audit {name}: it needs {', '.join(needed)}, but is called without arguments. Give defaults, or write a "
            f"function without arguments that calls it."
        )


def _rates(optimizer: Any, schedule: str, epochs: int | None, steps_per_epoch: int | None) -> tuple[float, ...] | None:
    """Learning rates of all steps, as far as the options determine them."""
    from segdecay.config.schema import ScheduleConfig
    from segdecay.errors import ConfigError, gather
    from segdecay.training.optim import check_schedule_name, learning_rates

    faults = check_schedule_name(schedule)
    if epochs is not None and steps_per_epoch is None:
        faults.append("--epochs needs --steps-per-epoch: D is a sum over steps.")
    gather(ConfigError, faults)
    if epochs is None or steps_per_epoch is None:
        return None
    first = optimizer.param_groups[0]
    shape = ScheduleConfig(name=schedule, warmup=0.0)
    return learning_rates(shape, float(first.get("initial_lr", first["lr"])), epochs * steps_per_epoch)


def _show(found: Audit, *, by_parameter: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(escape(found.headline()), highlight=False, soft_wrap=True)
    for finding in found.findings:
        colour = COLOURS[finding.level]
        console.print(f"\n[{colour}]{finding.level}[/]: {finding.code}", highlight=False)
        console.print(f"  {escape(finding.message)}\n  {escape(finding.advice)}", highlight=False, soft_wrap=True)
    if not found.findings:
        console.print("\nno findings.", highlight=False)
    console.print(f"\n{escape(found.table(by_parameter=by_parameter))}", highlight=False, soft_wrap=True)

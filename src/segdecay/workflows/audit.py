"""An audit of somebody else's training code: their function is called, and what it returns is examined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from segdecay.config.schema import ScheduleConfig
from segdecay.decay import Audit
from segdecay.decay import audit as examine
from segdecay.errors import ConfigError, ModelError, gather
from segdecay.models.zoo import import_build
from segdecay.training.optim import check_schedule_name, learning_rates

PARTS = ("model", "optimizer", "loss", "output shape", "target shape")
Built: TypeAlias = str | Callable[[], Sequence[Any]] | Sequence[Any]


def audit(
    build: Built,
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    schedule: str = "constant",
    clip_norm: float | None = None,
    lambda_: float | None = None,
) -> Audit:
    """Examine what decays; arguments are the command's options.

    Args:
        build: "module:function", a function without arguments, or what such a function returns: (model, optimizer),
            optionally followed by loss, shape of the output and shape of the target.

    Raises:
        ModelError: the function cannot be found or called, or returns something else.
        ConfigError: options that do not exist.
        DecayError: as `segdecay.decay.audit`.
    """
    model, optimizer, *rest = _parts(build)
    loss, output, target = [*rest, None, None, None][:3]
    rates = _rates(optimizer, schedule, epochs, steps_per_epoch)
    return examine(
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


def _parts(given: Built) -> tuple[Any, ...]:
    """What the user's function returns, or what was given: two to five parts, a model and an optimizer first."""
    if not isinstance(given, str) and not callable(given):
        return _checked(given, "the given tuple")
    name = given if isinstance(given, str) else getattr(given, "__qualname__", repr(given))
    build = import_build(given, "audit") if isinstance(given, str) else given
    _validate_arguments(build, name)
    try:
        returned = build()
    except Exception as error:
        raise ModelError(f"audit {name}: it raised {type(error).__name__}: {error}") from error
    return _checked(returned, name)


def _checked(returned: Any, name: str) -> tuple[Any, ...]:
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
    faults = check_schedule_name(schedule)
    if epochs is not None and steps_per_epoch is None:
        faults.append("--epochs needs --steps-per-epoch: D is a sum over steps.")
    gather(ConfigError, faults)
    if epochs is None or steps_per_epoch is None:
        return None
    first = optimizer.param_groups[0]
    shape = ScheduleConfig(name=schedule, warmup=0.0)
    return learning_rates(shape, float(first.get("initial_lr", first["lr"])), epochs * steps_per_epoch)

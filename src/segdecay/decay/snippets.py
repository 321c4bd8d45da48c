"""Lines of plain torch that apply a chosen strength in a user's training, with the conditions of their validity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from segdecay.decay.axes import StrengthAxis, validate_strength
from segdecay.decay.groups import DEFAULT_MULTIPLIERS, Partition, group_multipliers
from segdecay.decay.regularizers.base import OptimizerTraits, traits_of
from segdecay.decay.regularizers.registry import build_regularizer
from segdecay.decay.strength import total_decay
from segdecay.errors import DecayError

CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
# The optimizer of torch whose decay equals that of a regularizer: Adam's is coupled, AdamW's decoupled.
NATIVE = {
    ("l2", "sgd"): "SGD",
    ("l2", "adam"): "Adam",
    ("l2", "adamw"): "Adam",
    ("decoupled", "adam"): "AdamW",
    ("decoupled", "adamw"): "AdamW",
    ("none", "sgd"): "SGD",
    ("none", "adam"): "Adam",
    ("none", "adamw"): "AdamW",
}
MEAN_LOSS = "a mean over the valid pixels"


def paste_lines(
    regularizer: str,
    optimizer: str | Optimizer,
    lambda_: float,
    lr: float,
    *,
    options: Mapping[str, Any] | None = None,
    construct: Callable[[str], str] | None = None,
    imports: str = "torch",
    partition: Partition | None = None,
    multipliers: Mapping[str, float] | None = None,
    learning_rates: Sequence[float] | None = None,
    regularizer_options: Mapping[str, Any] | None = None,
    loss: str = MEAN_LOSS,
) -> str:
    """Parameter groups and optimizer for a `model`, with explicit weight_decay, as Python to paste.

    Args:
        regularizer: a name in REGULARIZERS.
        optimizer: sgd, adam or adamw; or one of the kind that `construct` makes.
        lambda_: the optimizer's λ; c of max_norm, p of dropout.
        lr: the peak learning rate.
        options: further arguments of the optimizer, such as momentum or betas.
        construct: for another optimizer: the call that makes it, as text, from the text of its arguments.
        imports: the module that the call needs.
        partition: of the model; parameters whose decay does not follow from their dimension are listed by name. Without
            it, parameters of two and more dimensions decay.
        multipliers: of the strength by group; needs the partition.
        learning_rates: of all steps, to state D.
        regularizer_options: of the regularizer, as `attach` takes them.
        loss: the original loss whose scale the strength belongs to, for "a loss that is …".

    Raises:
        DecayError: a name is unknown, the strength is out of range, or multipliers are given without a partition.

    Example:
        >>> print(paste_lines("decoupled", "adamw", 0.5, 0.01).splitlines()[3])
            if parameter.requires_grad:
    """
    options = dict(options or {})
    traits = traits_of(optimizer, momentum=float(options.get("momentum", 0.0)))
    rule = build_regularizer(regularizer, regularizer_options)
    axis = rule.axis(traits)
    if axis.has_lambda:
        validate_strength(lambda_, "λ")
    rule.validate(lambda_, 0.0)
    if construct is None and traits.name not in CLASSES:
        raise DecayError(
            f"Lines to paste exist for {', '.join(CLASSES)}; saw '{traits.name}', for which attach() is needed."
        )
    if multipliers is not None and partition is None:
        raise DecayError("Multipliers act on groups: give the partition too, from group_parameters(model).")
    arguments = "".join(f", {key}={value!r}" for key, value in {"lr": lr, **options}.items())
    if construct is not None:
        made = [f"import {imports}", f"optimizer = {construct(arguments)}"]
    else:
        made = _undecayed_lines(NATIVE["none", traits.name], arguments)
    if rule.in_model:
        lines = made
        return "\n".join(
            [*lines, f"# The model is built with dropout p = {lambda_:g} (Dropout2d after the two deepest blocks)."]
        )
    native = NATIVE.get((regularizer if lambda_ != rule.none else "none", traits.name))
    if construct is not None and lambda_ == rule.none:
        lines = made
    elif construct is not None or native is None:
        attach_options = dict(regularizer_options or {})
        if regularizer == "corrected":
            attach_options.setdefault("peak_lr", lr)
        given = "" if not attach_options else f", options={attach_options!r}"
        if construct is None:
            title = CLASSES[traits.name]
            call = f"torch.optim.{title}(model.parameters(){arguments}, weight_decay=0.0)"
            made = ["import torch", f"optimizer = {call}", f"# torch has no {title} with decay of this kind"]
        lines = _attach_lines(regularizer, made, lambda_, multipliers, given)
    elif lambda_ == rule.none:
        lines = _undecayed_lines(native, arguments)
    else:
        lines = _native_lines(native, lambda_, arguments, _exceptions(lambda_, partition, multipliers))
    return "\n".join([*lines, *_validity(regularizer, axis, traits, lambda_, learning_rates, loss)])


def _exceptions(
    lambda_: float, partition: Partition | None, multipliers: Mapping[str, float] | None
) -> dict[str, float]:
    """Parameters whose strength does not follow from their dimension (λ for two and more, 0 for less), by name."""
    if partition is None:
        return {}
    values = group_multipliers(partition, multipliers)
    strengths = {row: lambda_ * values[row.group] for row in partition.rows if row.trainable}
    return {row.name: value for row, value in strengths.items() if value != (lambda_ if len(row.shape) > 1 else 0.0)}


def _undecayed_lines(native: str, arguments: str) -> list[str]:
    return [
        "import torch",
        "trained = [parameter for parameter in model.parameters() if parameter.requires_grad]",
        f"optimizer = torch.optim.{native}(trained{arguments}, weight_decay=0.0)",
    ]


def _native_lines(native: str, lambda_: float, arguments: str, exceptions: Mapping[str, float]) -> list[str]:
    by_dimension = f"{lambda_!r} if parameter.ndim > 1 else 0.0"
    lines = []
    if exceptions:
        lines = ["not_by_dimension = {", *(f"    {name!r}: {value!r}," for name, value in exceptions.items()), "}"]
        by_dimension = f"not_by_dimension.get(name, {by_dimension})"
    return [
        "import torch",
        *lines,
        "groups = {}",
        "for name, parameter in model.named_parameters():",
        "    if parameter.requires_grad:",
        f"        groups.setdefault({by_dimension}, []).append(parameter)",
        f"optimizer = torch.optim.{native}(",
        f'    [{{"params": group, "weight_decay": decay}} for decay, group in groups.items()]{arguments}',
        ")",
    ]


def _attach_lines(
    regularizer: str, made: Sequence[str], lambda_: float, multipliers: Mapping[str, float] | None, options: str
) -> list[str]:
    given = options + (
        ""
        if multipliers is None or dict(multipliers) == dict(DEFAULT_MULTIPLIERS)
        else f", multipliers={dict(multipliers)!r}"
    )
    return [
        made[0],
        "from segdecay.decay import attach",
        *made[1:],
        f"handle = attach(optimizer, model, {regularizer!r}, strength={lambda_!r}{given})",
    ]


def _validity(
    regularizer: str,
    axis: StrengthAxis,
    traits: OptimizerTraits,
    lambda_: float,
    learning_rates: Sequence[float] | None,
    loss: str,
) -> list[str]:
    """Comments on when the lines are valid, and what to keep if something changes."""
    if regularizer == "none" or lambda_ in (0, axis.none):
        return ["# Nothing decays. Keep weight_decay=0.0 explicit: AdamW's default is 0.01."]
    if not axis.has_lambda:
        return [f"# {axis.name} = {lambda_:.6g} does not depend on schedule, epochs or batch size."]
    lines = [
        f"# λ = {lambda_:.6g} is valid for this optimizer, these learning rates and this number of steps, and for a",
        f"# loss that is {loss}.",
    ]
    if axis.name == "lambda":
        return [*lines, f"# If one of them changes, choose λ again: through {traits.name} no formula carries it over."]
    if axis.name == "relative_shrinkage":
        total = "" if learning_rates is None else f" = {lambda_ * sum(learning_rates):.6g}"
        return [*lines, f"# If schedule, epochs or batch size change, keep Σ η·λ{total} over all steps."]
    total = "Σ η²/η_max" if axis.square else "Σ η"
    divisor = total if axis.gain == 1.0 else f"({total} · {axis.gain:.6g})"
    value = "D" if learning_rates is None else f"D = {total_decay(axis, lambda_, learning_rates):.3g}"
    about = "" if axis.exact else ", to first order"
    return [
        *lines,
        f"# If schedule, epochs or batch size change, keep {value}: λ = D / {divisor} over all steps{about}.",
    ]

"""Convert strengths between the conventions of other tools and our λ.

Ours is the optimizer's λ: `l2` adds λ·w to the gradient of the loss, `decoupled` multiplies w by 1 − η·λ, `l1` and
`elastic_net` add λ·Σ|w| and λ·(ratio·Σ|w| + (1−ratio)·½Σw²) to the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from segdecay.decay.axes import validate_strength
from segdecay.decay.regularizers.base import OptimizerTraits, traits_of
from segdecay.errors import DecayError, gather, unknown

NOMINAL_BATCH = 64  # ultralytics' nbs: weight_decay is meant for a step on 64 images
MEANINGS = {
    "base_lr": "the learning rate that the schedule multiplies",
    "batch_size": "images of one micro-batch, all devices together",
    "accumulate": "micro-batches summed before a step",
    "n_samples": "terms of the loss: samples, or valid pixels",
    "weight_sum": "sum of the class weights of all samples, Σ w_y",
    "reduction": "how the loss is reduced",
    "momentum": "μ of SGD",
}


@dataclass(frozen=True)
class Numbers:
    """Numbers that conversions need beside the value; set only those of your convention. All above 0, μ in [0, 1).

    `reduction` is one of mean, half_mean, sum, half_sum (with ½ before the squared error), weighted_mean (torch's
    `weight=` in cross-entropy: divided by the sum of the weights).
    """

    base_lr: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    n_samples: int | None = None
    weight_sum: float | None = None
    reduction: str | None = None
    momentum: float | None = None


@dataclass(frozen=True)
class Formula:
    """One formula: λ is `factor` times the value, or `factor` divided by it."""

    formula: str
    factor: Callable[[Mapping[str, float]], float]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Convention:
    """The strength of one tool.

    `rules` names the regularizers that act as the tool does, each with the optimizers under which it does; no
    optimizers: under all. `forms` has one formula per reduction of the loss, or a single one under "".
    """

    name: str
    symbol: str  # the tool's name of the number
    meaning: str
    rules: Mapping[str, tuple[str, ...]]
    source: str
    forms: Mapping[str, Formula] = field(default_factory=lambda: {"": Formula("λ = value", lambda _: 1.0)})
    reciprocal: bool = False  # λ = factor / value

    @property
    def needs(self) -> tuple[str, ...]:
        """All numbers that the formulas of this convention use."""
        own = ("reduction",) if "" not in self.forms else ()
        return (*own, *dict.fromkeys(key for form in self.forms.values() for key in form.needs))

    def check_numbers(self, numbers: Numbers) -> list[str]:
        """Faults of the numbers that the formula needs: missing ones, and those out of range."""
        form = self.forms.get("" if "" in self.forms else numbers.reduction or "")
        if form is not None:
            return [fault for key in form.needs if (fault := self._check_number(key, getattr(numbers, key)))]
        if numbers.reduction is not None:
            return [f"{self.name}: {unknown('reduction', numbers.reduction, self.forms)}"]
        each = (key + "".join(f" with {need}" for need in form.needs) for key, form in self.forms.items())
        return [f"{self.name} needs reduction ({MEANINGS['reduction']}): {', '.join(each)}."]

    def to_ours(self, value: float, numbers: Numbers | None = None) -> float:
        """Our λ, under a regularizer in `rules`.

        Raises:
            DecayError: the value is negative, NaN or infinite (or 0 as a divisor), or numbers are missing or out of
                range; all are listed.

        Example:
            >>> CONVENTIONS["keras-l2"].to_ours(0.25)
            0.5
            >>> CONVENTIONS["sklearn-ridge"].to_ours(2.0, Numbers(reduction="mean", n_samples=40))
            0.1
        """
        return self._apply(value, self.symbol, numbers, forward=True)

    def from_ours(self, lambda_: float, numbers: Numbers | None = None) -> float:
        """The tool's value for our λ; the inverse of `to_ours`, with the same errors.

        >>> CONVENTIONS["keras-l2"].from_ours(0.5)
        0.25
        """
        return self._apply(lambda_, "λ", numbers, forward=False)

    def _apply(self, value: float, called: str, numbers: Numbers | None, *, forward: bool) -> float:
        numbers = numbers or Numbers()
        faults = self.check_numbers(numbers)
        if not math.isfinite(value) or value < 0:
            faults.insert(0, f"{called} of {self.name} must be a finite number, 0 or more; saw {value}.")
        elif value == 0 and self.reciprocal:
            faults.insert(
                0, f"{called} = 0 has no finite counterpart: {self.formula(numbers)}. Use no penalty instead."
            )
        gather(DecayError, faults)
        form = self.forms["" if "" in self.forms else str(numbers.reduction)]
        factor = form.factor({key: float(getattr(numbers, key)) for key in form.needs})
        forward_factor = factor if forward else 1.0 / factor
        result = factor / value if self.reciprocal else value * forward_factor
        validate_strength(result, f"the translation of {called} = {value:g}")
        return result

    def formula(self, numbers: Numbers | None = None) -> str:
        """The formula for this reduction; all formulas if no reduction is named."""
        reduction = (numbers.reduction if numbers else None) or ""
        if reduction in self.forms:
            return self.forms[reduction].formula
        return "; ".join(f"{key}: {form.formula}" if key else form.formula for key, form in self.forms.items())

    def _check_number(self, key: str, number: float | None) -> str:
        if number is None:
            return f"{self.name} needs {key} ({MEANINGS[key]})."
        if not (math.isfinite(number) and number > 0):
            return f"{key} must be a finite number above 0; saw {number}."
        return ""


def convention_names() -> tuple[str, ...]:
    """All conventions, in the order in which they are listed.

    >>> convention_names()[:3]
    ('torch-sgd', 'torch-adam', 'torch-adamw')
    """
    return tuple(CONVENTIONS)


def convention_of(name: str) -> Convention:
    """A convention by name.

    Raises:
        DecayError: the name is unknown.
    """
    if name not in CONVENTIONS:
        raise DecayError(unknown("convention", name, CONVENTIONS))
    return CONVENTIONS[name]


def _given(key: str, formula: str) -> Formula:
    """λ = the number under `key`, times the value."""
    return Formula(formula, lambda numbers: numbers[key], (key,))


def _constant(factor: float, formula: str) -> Formula:
    return Formula(formula, lambda _: factor)


def _ultralytics_factor(numbers: Mapping[str, float]) -> float:
    """batch·accumulate/64; accumulate must be the number that ultralytics uses for this batch size."""
    batch, accumulate = numbers["batch_size"], numbers["accumulate"]
    own = max(round(NOMINAL_BATCH / batch), 1)
    if accumulate != own:
        raise DecayError(
            f"ultralytics accumulates {own} x {batch:g} images per step (nbs = {NOMINAL_BATCH}); saw {accumulate:g} x "
            f"{batch:g}, which gives other steps. Accumulate {own}, or set nbs={batch * accumulate:g} in ultralytics: "
            f"then its weight_decay is λ."
        )
    return batch * accumulate / NOMINAL_BATCH


_ADAPTIVE = ("adam", "nadam", "radam", "adamax", "rmsprop", "adagrad", "adadelta")
_ABSOLUTE = {  # scikit-learn: 1/(2n)·Σe² + alpha·(…)
    "mean": _constant(2.0, "λ = 2·alpha"),
    "half_mean": _constant(1.0, "λ = alpha"),
    "sum": Formula("λ = 2·n·alpha", lambda numbers: 2.0 * numbers["n_samples"], ("n_samples",)),
    "half_sum": _given("n_samples", "λ = n·alpha"),
}
_LISTED = (
    Convention(
        "torch-sgd",
        "weight_decay",
        "torch.optim.SGD adds λ·w to the gradient, before momentum.",
        {"l2": ("sgd",)},
        "torch.optim.SGD",
    ),
    Convention(
        "torch-adam",
        "weight_decay",
        "torch.optim.Adam and similar optimizers add λ·w to the gradient and then divide by its size.",
        {"l2": _ADAPTIVE},
        "torch.optim.Adam",
    ),
    Convention(
        "torch-adamw",
        "weight_decay",
        "torch.optim.AdamW multiplies w by 1 − η·λ.",
        {"decoupled": ("adam",)},
        "torch.optim.AdamW",
    ),
    Convention(
        "timm-sgdw",
        "weight_decay",
        "timm.optim.SGDW multiplies w by 1 − η·λ, bypassing the momentum (corrected_weight_decay=False).",
        {"decoupled": ("sgd",)},
        "timm.optim.SGDW, 1.0.31",
    ),
    Convention(
        "adamw-paper",
        "λ",
        "The paper, and Composer's DecoupledAdamW, multiply w by 1 − m·λ, with m the schedule's multiplier alone.",
        {"decoupled": ()},
        "Loshchilov and Hutter, ICLR 2019, Algorithms 1 and 2",
        {"": Formula("λ = value / base_lr", lambda numbers: 1.0 / numbers["base_lr"], ("base_lr",))},
    ),
    Convention(
        "ultralytics",
        "weight_decay",
        "ultralytics gives weight_decay·batch·accumulate/64 to torch's optimizer, and sets accumulate itself. Its "
        "detection and segmentation losses are times the batch size, and add up over accumulation.",
        {"l2": (), "decoupled": ("adam",)},
        "ultralytics 8, BaseTrainer",
        {"": Formula("λ = value·batch·accumulate/64", _ultralytics_factor, ("batch_size", "accumulate"))},
    ),
    Convention(
        "keras-l2",
        "l2",
        "kernel_regularizer=l2(x) adds x·Σw², without a ½, to the loss.",
        {"l2": ()},
        "keras.regularizers.L2",
        {"": _constant(2.0, "λ = 2·x")},
    ),
    Convention(
        "keras-weight-decay",
        "weight_decay",
        "Every optimizer of Keras, Adam and SGD too, multiplies w by 1 − η·weight_decay.",
        {"decoupled": ()},
        "keras.optimizers.Optimizer, Keras 3",
    ),
    Convention(
        "sklearn-ridge",
        "alpha",
        "Ridge minimises Σe² + alpha·Σw², the intercept apart.",
        {"l2": ()},
        "sklearn.linear_model.Ridge",
        {
            "mean": Formula("λ = 2·alpha/n", lambda numbers: 2.0 / numbers["n_samples"], ("n_samples",)),
            "half_mean": Formula("λ = alpha/n", lambda numbers: 1.0 / numbers["n_samples"], ("n_samples",)),
            "sum": _constant(2.0, "λ = 2·alpha"),
            "half_sum": _constant(1.0, "λ = alpha"),
        },
    ),
    Convention(
        "sklearn-logistic",
        "C",
        "LogisticRegression minimises C·Σ(cross-entropy) + ½Σw², the intercept apart; weighted_mean: class_weight=w.",
        {"l2": ()},
        "sklearn.linear_model.LogisticRegression",
        {
            "mean": Formula("λ = 1/(n·C)", lambda numbers: 1.0 / numbers["n_samples"], ("n_samples",)),
            "sum": _constant(1.0, "λ = 1/C"),
            "weighted_mean": Formula("λ = 1/(C·Σw_y)", lambda numbers: 1.0 / numbers["weight_sum"], ("weight_sum",)),
        },
        reciprocal=True,
    ),
    Convention(
        "sklearn-lasso",
        "alpha",
        "Lasso minimises Σe²/(2n) + alpha·Σ|w|.",
        {"l1": ()},
        "sklearn.linear_model.Lasso",
        _ABSOLUTE,
    ),
    Convention(
        "sklearn-elasticnet",
        "alpha",
        "ElasticNet minimises Σe²/(2n) + alpha·(ratio·Σ|w| + (1−ratio)·½Σw²); λ = l1 + l2, and the ratio stays.",
        {"elastic_net": ()},
        "sklearn.linear_model.ElasticNet",
        _ABSOLUTE,
    ),
)
CONVENTIONS: Mapping[str, Convention] = {convention.name: convention for convention in _LISTED}


SIBLING = {"l2": "decoupled", "decoupled": "l2"}
FAMILY = {"adamw": "adam", "sgdw": "sgd"}  # the same update if the regularizer decays


def check_translation(name: str, *, regularizer: str, optimizer: torch.optim.Optimizer | str) -> tuple[str, ...]:
    """The reason why a convention does not fit a regularizer under an optimizer; empty if it fits.

    Raises:
        DecayError: the convention or the optimizer is unknown.

    Example:
        >>> check_translation("torch-adamw", regularizer="decoupled", optimizer="adamw")
        ()
        >>> check_translation("sklearn-lasso", regularizer="l2", optimizer="sgd")[0]
        "sklearn-lasso is a strength of 'l1', which no formula turns into 'l2'."
    """
    reason = _reason(convention_of(name), regularizer, traits_of(optimizer))
    return (reason,) if reason else ()


def from_convention(
    name: str,
    value: float,
    *,
    regularizer: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """Our λ of a regularizer under an optimizer, for a value in a convention.

    Args:
        name: of the convention, see `convention_names`.
        value: in the unit of the other tool.
        regularizer: the one of our λ; `l2` and `decoupled` convert into each other under SGD, which needs the momentum.
        optimizer: the optimizer, or the name of its class in any case.
        numbers: those that the convention needs, and the momentum if only the optimizer's name is given.

    Raises:
        DecayError: names are unknown, the convention does not fit, the value is out of range, or numbers are missing;
            all faults are listed.

    Example:
        >>> at = Numbers(base_lr=0.001, momentum=0.5)
        >>> from_convention("adamw-paper", 0.0005, regularizer="decoupled", optimizer="adamw", numbers=at)
        0.5
        >>> from_convention("torch-sgd", 0.25, regularizer="decoupled", optimizer="sgd", numbers=at)
        0.5
    """
    convention, gain = _convention_and_gain(name, regularizer, optimizer, numbers)
    return convention.to_ours(value, numbers) * gain


def to_convention(
    name: str,
    lambda_: float,
    *,
    regularizer: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """The value in a convention of our λ; the inverse of `from_convention`, with the same arguments and errors.

    >>> to_convention("torch-sgd", 0.5, regularizer="decoupled", optimizer="sgd", numbers=Numbers(momentum=0.5))
    0.25
    """
    convention, gain = _convention_and_gain(name, regularizer, optimizer, numbers)
    return convention.from_ours(lambda_ / gain, numbers)


def translate(
    value: float,
    source: str,
    target: str,
    *,
    regularizer: str,
    optimizer: torch.optim.Optimizer | str,
    numbers: Numbers | None = None,
) -> float:
    """Convert a value from one convention to another, both for the same regularizer under the same optimizer.

    Raises:
        DecayError: as `from_convention`, for either of the two.

    Example:
        >>> translate(0.25, "keras-l2", "torch-sgd", regularizer="l2", optimizer="sgd")
        0.5
    """
    faults = [
        reason
        for name in (source, target)
        for reason in check_translation(name, regularizer=regularizer, optimizer=optimizer)
    ]
    gather(DecayError, faults)
    lambda_ = from_convention(source, value, regularizer=regularizer, optimizer=optimizer, numbers=numbers)
    return to_convention(target, lambda_, regularizer=regularizer, optimizer=optimizer, numbers=numbers)


def _convention_and_gain(
    name: str, regularizer: str, optimizer: torch.optim.Optimizer | str, numbers: Numbers | None
) -> tuple[Convention, float]:
    """The convention, and our λ divided by the λ of the convention's regularizer."""
    convention, numbers = convention_of(name), numbers or Numbers()
    momentum = numbers.momentum
    traits = traits_of(optimizer, momentum=momentum or 0.0)
    reason = _reason(convention, regularizer, traits)
    if reason:
        raise DecayError(reason)
    if _acts_as(convention, regularizer, traits):
        return convention, 1.0
    if isinstance(optimizer, str) and momentum is None:
        missing = (
            f"From {name} to '{regularizer}' needs momentum ({MEANINGS['momentum']}): "
            "λ of 'decoupled' = λ of 'l2' / (1−μ)."
        )
        gather(DecayError, [missing, *convention.check_numbers(numbers)])
    gain = traits.coupling.gain
    return convention, gain if regularizer == "decoupled" else 1.0 / gain


def _acts_as(convention: Convention, regularizer: str, traits: OptimizerTraits) -> bool:
    """Whether the tool does to the weights what the regularizer does on this optimizer."""
    optimizers = convention.rules.get(regularizer)
    return optimizers is not None and (not optimizers or FAMILY.get(traits.name, traits.name) in optimizers)


def _reason(convention: Convention, regularizer: str, traits: OptimizerTraits) -> str:
    """The reason why there is no formula; empty if there is one."""
    sibling = SIBLING.get(regularizer, "")
    if _acts_as(convention, regularizer, traits) or (traits.is_sgd and _acts_as(convention, sibling, traits)):
        return ""
    rules = " or ".join(f"'{rule}'" for rule in convention.rules)
    if regularizer not in convention.rules and sibling not in convention.rules:
        return f"{convention.name} is a strength of {rules}, which no formula turns into '{regularizer}'."
    if _acts_as(convention, sibling, traits):
        return (
            f"{convention.name} is a strength of '{sibling}', which no formula turns into '{regularizer}' on "
            f"{traits.name}: it divides the gradient and the penalty in it by its size, but not a factor on the "
            f"weights. Choose a new λ."
        )
    of = ", ".join(dict.fromkeys(name for names in convention.rules.values() for name in names))
    has_total_decay = (regularizer == "decoupled" or traits.is_sgd) and ("decoupled" in convention.rules or of == "sgd")
    remedy = "Keep D instead" if has_total_decay else "Choose a new λ"
    return f"{convention.name} is for {of}, whose learning rates do not compare with those of {traits.name}. {remedy}."

"""Converts a strength on a given training plan to all units, and to the conventions of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segdecay import decay
from segdecay.config.schema import RunConfig
from segdecay.decay.axes import Coupling, StrengthAxis, sgd_axis
from segdecay.decay.conventions import CONVENTIONS, check_translation, convention_of, from_convention, to_convention
from segdecay.decay.strength import check_first_order, lambda_of_timescale, total_decay
from segdecay.errors import ConfigError, DecayError, gather, unknown
from segdecay.training.optim import FUSED, learning_rates, momentum_of
from segdecay.training.setup import axis_for, count_steps

ASKED = ("--lambda", "--timescale", "--total-decay", "--from")


@dataclass(frozen=True)
class StrengthRequest:
    """The strength as given by the user: exactly one of the four."""

    lambda_: float | None = None
    timescale_epochs: float | None = None
    total_decay: float | None = None
    convention: str | None = None  # NAME=VALUE

    def check(self) -> list[str]:
        """Faults: no strength, more than one, or an unreadable convention."""
        values = (self.lambda_, self.timescale_epochs, self.total_decay, self.convention)
        given = [option for option, value in zip(ASKED, values, strict=True) if value is not None]
        faults = []
        if len(given) != 1:
            faults.append(f"One strength is needed, by {', '.join(ASKED)}; saw {', '.join(given) or 'none'}.")
        if self.convention is not None:
            name, _, value = self.convention.partition("=")
            faults += check_conventions([name])
            if not _is_number(value):
                faults.append(f"--from takes NAME=VALUE, such as torch-sgd=1e-4; saw '{self.convention}'.")
        return faults


@dataclass(frozen=True)
class Translated:
    """The strength in one convention; if `value` is None, `reason` says why."""

    name: str
    symbol: str
    value: float | None
    formula: str
    reason: str


@dataclass(frozen=True)
class StrengthReport:
    """A strength in every unit; None if the unit has no meaning (see `reason`) or τ is infinite."""

    regularizer: str
    optimizer: str
    momentum: float  # μ of SGD, else 0
    schedule: str
    epochs: int
    steps: int
    peak_lr: float
    lambda_: float
    formula: str  # of the regularizer
    timescale_epochs: float | None
    total_decay: float | None
    remaining: float | None  # share left of a weight that gets no gradient; l2_sp: of its distance to the start
    path: float | None  # l1 and similar: total reduction of a weight that gets no gradient, Σ η·λ, for SGD over 1−μ
    peak_shrinkage: float  # η·λ at the peak learning rate
    largest_lambda: float | None  # upper bound of λ; None if a step cannot go past zero
    largest_total_decay: float | None
    exact: bool  # whether D gives the remaining share for small η·λ, not only to first order
    reason: str
    findings: tuple[str, ...]
    conventions: tuple[Translated, ...]


def check_request(n_images: int | None, asked: StrengthRequest, names: Sequence[str] = ()) -> list[str]:
    """Faults of the request apart from the configuration: images, strength, names of conventions."""
    faults = []
    if n_images is None or n_images < 1:
        seen = "none" if n_images is None else n_images
        faults.append(f"The number of training images is needed, 1 or more: --images; saw {seen}.")
    return [*faults, *asked.check(), *check_conventions(names)]


def check_conventions(names: Sequence[str]) -> list[str]:
    """Faults of the names of conventions."""
    return [unknown("convention", name, CONVENTIONS) for name in names if name not in CONVENTIONS]


def check_regularizer(name: str) -> list[str]:
    """Faults of a regularizer without λ, such as bounds and dropout."""
    axes = {known: decay.axis_of(known, "adamw") for known in decay.REGULARIZERS}
    with_lambda = [known for known, axis in axes.items() if axis.has_lambda and not axis.only_none]
    if name in with_lambda:
        return []
    reason = f"'{name}' has no λ, as {axes[name].reason} " if name in axes and axes[name].reason else ""
    known_ones = ", ".join(with_lambda)
    return [f"λ, τ and D exist for {known_ones}; saw regularizer '{name}'. {reason}See: segdecay regularizers {name}"]


def report_strength(
    config: RunConfig,
    n_images: int,
    asked: StrengthRequest,
    *,
    numbers: decay.Numbers | None = None,
    names: Sequence[str] = (),
) -> StrengthReport:
    """A strength on the training of a configuration, also in the named conventions (default: all).

    Args:
        config: optimizer, schedule, epochs, batch size, accumulation and regularizer are read; `n_images` is of
            training.
        numbers: quantities of conventions that are not in the configuration: n_samples, weight_sum, reduction.

    Raises:
        ConfigError, DecayError: incomplete (all faults at once), out of range (with the limit), or without meaning.

    Example:
        >>> from segdecay.config.schema import parse_config
        >>> config = parse_config({"data": {"path": "x"}, "optimizer": {"lr": 0.01}, "training": {"epochs": 20}})
        >>> report_strength(config, 80, StrengthRequest(lambda_=0.5)).timescale_epochs
        20.0
    """
    gather(ConfigError, [*check_request(n_images, asked, names), *check_regularizer(config.decay.regularizer)])
    axis, steps = axis_for(config.decay, config.optimizer).with_size(1.0), count_steps(config, n_images)
    regularizer, is_path = (
        decay.build_regularizer(config.decay.regularizer, config.decay.options),
        axis.name == "relative_shrinkage",
    )
    rates, per_epoch = learning_rates(config.schedule, config.optimizer.lr, steps), steps / config.training.epochs
    numbers = _fill(numbers, config)
    lambda_ = _lambda_of(asked, axis, rates, per_epoch, config, numbers)
    regularizer.validate(lambda_, max(rates))
    described = decay.describe_strength(axis, axis.from_lambda(lambda_, rates), rates, per_epoch)
    return StrengthReport(
        regularizer=config.decay.regularizer,
        optimizer=config.optimizer.name,
        momentum=momentum_of(config.optimizer),
        schedule=config.schedule.name,
        epochs=config.training.epochs,
        steps=steps,
        peak_lr=max(rates),
        lambda_=lambda_,
        formula=regularizer.formula,
        timescale_epochs=described.timescale_epochs,
        total_decay=described.total_decay,
        remaining=described.remaining,
        path=axis.from_lambda(lambda_, rates) * getattr(regularizer, "l1_ratio", 1.0) if is_path else None,
        peak_shrinkage=max(rates) * lambda_,
        largest_lambda=_largest_lambda(regularizer, max(rates)),
        largest_total_decay=axis.largest(rates) if axis.name == "total_decay" else None,
        exact=axis.exact,
        reason=axis.reason,
        findings=_check_first_order(axis, lambda_, rates, config),
        conventions=tuple(_translate(name, lambda_, config, numbers) for name in names or decay.convention_names()),
    )


def _largest_lambda(regularizer: decay.Regularizer, peak_lr: float) -> float | None:
    """1/η if the regularizer refuses η·λ = 1; None if every λ is allowed."""
    try:
        regularizer.validate(1.0 / peak_lr, peak_lr)
    except DecayError:
        return 1.0 / peak_lr
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_first_order(
    axis: StrengthAxis, lambda_: float, rates: Sequence[float], config: RunConfig
) -> tuple[str, ...]:
    """Notes where D is not exact: for this strength, or for its coupled counterparts with SGD."""
    if axis.name == "total_decay" and axis.coupling is not None:
        return check_first_order(axis, lambda_, rates)
    if config.decay.regularizer != "decoupled" or config.optimizer.name != "sgd":
        return ()
    coupled = sgd_axis(Coupling(momentum_of(config.optimizer)))
    findings = check_first_order(coupled, lambda_ / coupled.gain, rates)
    return tuple(f"As coupled decay (torch-sgd and similar): {finding}" for finding in findings)


def _fill(numbers: decay.Numbers | None, config: RunConfig) -> decay.Numbers:
    """The numbers, completed from the configuration."""
    numbers = numbers or decay.Numbers()
    return decay.Numbers(
        base_lr=config.optimizer.lr,
        batch_size=config.training.batch_size,
        accumulate=config.training.accumulate,
        momentum=momentum_of(config.optimizer),
        n_samples=numbers.n_samples,
        weight_sum=numbers.weight_sum,
        reduction=numbers.reduction,
    )


def _lambda_of(
    asked: StrengthRequest,
    axis: StrengthAxis,
    rates: Sequence[float],
    steps_per_epoch: float,
    config: RunConfig,
    numbers: decay.Numbers,
) -> float:
    """The optimizer's λ of the requested strength."""
    if asked.convention is not None:
        name, _, value = asked.convention.partition("=")
        return from_convention(
            name, float(value), regularizer=config.decay.regularizer, optimizer=config.optimizer.name, numbers=numbers
        )
    if axis.name == "relative_shrinkage" and asked.lambda_ is None:
        raise DecayError(
            f"'{config.decay.regularizer}' reduces every weight by the same amount, whatever its size, so it has no τ "
            "and no D. Give --lambda; the axis value of a search depends on the model's initial weights."
        )
    if asked.timescale_epochs is not None:
        return lambda_of_timescale(axis, asked.timescale_epochs, max(rates), steps_per_epoch)
    if asked.total_decay is not None:
        total_decay(axis, 0.0, rates)  # raises an error if D has no meaning
        return axis.to_lambda(asked.total_decay, rates)
    return asked.lambda_ or 0.0


def _translate(name: str, lambda_: float, config: RunConfig, numbers: decay.Numbers) -> Translated:
    convention = convention_of(name)
    regularizer, optimizer = config.decay.regularizer, config.optimizer.name
    value = None
    if optimizer in FUSED:
        reason = " ".join(check_translation(name, regularizer=regularizer, optimizer=optimizer))
    else:
        reason = f"No translation is known for {optimizer}."
    if not reason:
        try:
            value = to_convention(name, lambda_, regularizer=regularizer, optimizer=optimizer, numbers=numbers)
        except DecayError as error:
            reason = " ".join(line.removeprefix("- ") for line in str(error).splitlines())
    return Translated(name, convention.symbol, value, convention.formula(numbers), reason)

"""Findings about penalties in the loss, as its probe or the probe of a step read them."""

from __future__ import annotations

from collections.abc import Sequence

from segdecay.decay.audit.forms import FORMULAS
from segdecay.decay.audit.subject import AuditFinding, Level, Subject, some

CLOSE = 0.02  # relative distance at which two strengths are the same
CLIPPED_SHARE = 0.1  # of the clipping norm, from which on the penalty takes a visible part of it
NO_ZEROS = "Gradient steps give no exact zeros; a proximal step does."
FORM_FINDINGS: dict[str, tuple[str, Level, str]] = {  # by form: code, level, advice
    "norm": (
        "norm_not_squared",
        "wrong",
        "Square it: λ·½·Σθ². It is a group lasso over whole tensors now: the pull does not fade as weights shrink.",
    ),
    "joint_norm": (
        "norm_not_squared",
        "wrong",
        "Square it: λ·½·Σθ². As it is, the pull is c/‖θ‖, which grows as the weights shrink.",
    ),
    "nan": (
        "penalty_not_finite",
        "wrong",
        "A square root of 0, as of a bias that starts at zero, has no gradient. Use squares.",
    ),
    "row_norm": ("group_lasso_in_loss", "note", NO_ZEROS),
    "l1": ("l1_in_loss", "note", NO_ZEROS),
    "elastic": ("l1_in_loss", "note", NO_ZEROS),
    "toward": ("pull_to_fixed", "note", "L2-SP, where w are pretrained weights. A layer that was replaced needs no w."),
    "unknown": (
        "penalty_unknown",
        "doubtful",
        "Read the loss: it depends on these weights other than through the model's output.",
    ),
    "zero": (
        "unknown_at_zero",
        "note",
        "Being zero does not exempt them: as soon as they change, the penalty acts on them, too.",
    ),
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
COEFFICIENT_IS_LAMBDA = ("squared", "elastic", "toward")


def check_examined(subject: Subject) -> list[AuditFinding]:
    """A loss or a step that could not be examined."""
    if subject.step.status == "not examined":
        message = f"The step was not examined, so what it does to the weights would not be seen: {subject.step.reason}."
        advice = "Give a function without arguments that takes one whole training step, on the device where it trains."
        step = [AuditFinding("step_not_examined", "doubtful", (), message, advice)]
    else:
        step = []
    if subject.loss.status != "not examined" or subject.step.status == "examined":
        return step
    message = f"The loss was not examined, so a penalty in it would not be seen: {subject.loss.reason}."
    advice = (
        "Give shapes of output and target, or example tensors; probe the penalty alone where the loss runs the model."
    )
    return [*step, AuditFinding("loss_not_examined", "doubtful", (), message, advice)]


def check_forms(subject: Subject) -> list[AuditFinding]:
    """One finding for every form of penalty in the loss; λ·½Σθ² has its own."""
    by_kind: dict[str, list[str]] = {}
    for name, form in subject.loss.forms.items():
        by_kind.setdefault(form.kind, []).append(name)
    findings = []
    for kind, names in by_kind.items():
        if kind in FORM_FINDINGS:
            code, level, advice = FORM_FINDINGS[kind]
            findings.append(AuditFinding(code, level, tuple(names), _pull(subject, kind, names), advice))
    return findings


def _pull(subject: Subject, kind: str, names: Sequence[str]) -> str:
    if kind == "zero":
        return f"The penalty holds {some(names)}, all zeros now: how it will act on them is unknown."
    values = _coefficients(subject, names)
    amount = f", {values}" if values else ""
    return f"The loss adds {FORMULAS[kind]}{amount}, on {len(names)} parameters: {some(names)}."


def _coefficients(subject: Subject, names: Sequence[str]) -> str:
    forms = [subject.loss.forms[name] for name in names]
    known = sorted(form.coefficient for form in forms if form.coefficient is not None)
    if not known:
        return ""
    letter = "λ" if forms[0].kind in COEFFICIENT_IS_LAMBDA else "c"
    if _is_close(known[0], known[-1]):
        return f"{letter} = {known[len(known) // 2]:.3g}"
    return f"{letter} from {known[0]:.3g} to {known[-1]:.3g}"


def check_strength(subject: Subject) -> list[AuditFinding]:
    """The λ that acts, against the one that is meant: a missing ½ and other factors.

    From the gradient alone λ·Σθ² and (2λ)·½Σθ² are the same; so without `lambda_meant` both readings are told.
    """
    values = {
        name: form.coefficient
        for name, form in subject.loss.forms.items()
        if form.kind == "squared" and form.coefficient is not None
    }
    if not values:
        return []
    grown = tuple(name for name, value in values.items() if value < 0)
    if grown:
        message = f"The loss rewards large weights: its λ is negative for {some(grown)}."
        return [AuditFinding("penalty_grows_weights", "wrong", grown, message, "Reverse the sign of the penalty.")]
    names, value = tuple(values), sorted(values.values())[len(values) // 2]
    if subject.lambda_meant is not None:
        return _against_meant(subject, names, value, subject.lambda_meant)
    message = (
        f"The loss adds λ·½Σθ² with {_coefficients(subject, names)}, on {len(names)} parameters: {some(names)}. If it "
        f"is written without the ½, its coefficient is {value / 2:.3g} and λ is twice that."
    )
    advice = "Compare λ, not the coefficient, with a weight_decay. Give the λ that is meant, to have it checked."
    return [AuditFinding("penalty_in_loss", "note", names, message, advice)]


def _against_meant(subject: Subject, names: tuple[str, ...], value: float, meant: float) -> list[AuditFinding]:
    if _is_close(value, meant):
        return []
    if _is_close(value, 2 * meant) and subject.step.passes != 2:
        message = f"λ in the loss is {value:.3g}, twice the {meant:g} that is meant: the ½ is missing."
        return [AuditFinding("half_missing", "wrong", names, message, "Write λ·½·Σθ², or halve the coefficient.")]
    ratio = value / meant
    message = f"λ in the loss is {value:.3g}, {ratio:.3g} times the {meant:g} that is meant."
    advice = "Look for a factor: the batch size, the number of layers, a mean in place of a sum."
    total = sum(subject.parameters[name].numel() for name in names)
    suspects = {
        f"A step makes {subject.step.passes} backward passes, and the penalty joins each.": subject.step.passes,
        f"The batch has {subject.step.batch} images: is λ multiplied by them?": subject.step.batch,
        f"These are {total} numbers: is the penalty a mean in place of a sum?": 1 / total,
    }
    for said, factor in suspects.items():
        if factor and factor != 1 and any(_is_close(ratio, half * factor) for half in (1, 2)):
            return [AuditFinding("other_strength", "doubtful", names, f"{message} {said}", advice)]
    return [AuditFinding("other_strength", "doubtful", names, message, advice)]


def check_mean(subject: Subject) -> list[AuditFinding]:
    """A mean of squares in place of a sum: each tensor's λ is divided by its size."""
    found: dict[str, dict[str, float]] = {}
    for name, form in subject.loss.forms.items():
        size = subject.parameters[name].numel()
        if form.kind in ("squared", "l1") and form.coefficient is not None and form.coefficient > 0:
            found.setdefault(form.kind, {})[name] = form.coefficient * size
    findings = []
    for kind, scaled in found.items():
        sizes = {subject.parameters[name].numel() for name in scaled}
        if len(sizes) < 2 or not _is_close(min(scaled.values()), max(scaled.values())):
            continue
        least, most = (bound(subject.loss.forms[name].coefficient or 0.0 for name in scaled) for bound in (min, max))
        message = (
            f"The penalty takes the mean over each tensor ({FORMULAS[kind]} with a coefficient from {least:.3g} to "
            f"{most:.3g}, in proportion of 1/size): the larger a layer, the weaker its decay. {len(scaled)} "
            f"parameters: {some(list(scaled))}."
        )
        advice = "Sum the squares over all weights, or divide by one number for all."
        findings.append(AuditFinding("mean_for_sum", "doubtful", tuple(scaled), message, advice))
    return findings


def check_copies(subject: Subject) -> list[AuditFinding]:
    """A penalty on a copy of the model, which no optimizer trains, or on buffers, which none can."""
    findings = []
    names = tuple(dict.fromkeys((*subject.loss.copies, *subject.step.copies)))
    if names:
        message = f"The loss depends on copies of {some(names)} ({len(names)} parameters), which no optimizer trains."
        message += " It does not act on the weights of the model."
        advice = "Sum over the parameters of the model that trains, taken after the last time it was copied or moved."
        findings.append(AuditFinding("penalty_on_copy", "wrong", names, message, advice))
    statistics = [name for name in subject.loss.read_buffers if name.split(".")[-1] in STATISTICS]
    if statistics:
        message = (
            f"The loss depends on running statistics of norm layers, which no step can shrink: {some(statistics)}."
        )
        advice = "Sum over model.parameters(), not over state_dict() or buffers()."
        findings.append(AuditFinding("penalty_on_buffers", "doubtful", (), message, advice))
    return findings


def check_batch(subject: Subject) -> list[AuditFinding]:
    """A penalty that depends on the batch or on the output."""
    factor, names = subject.loss.batch_factor, tuple(subject.loss.forms)
    if not names or _is_close(factor, 1.0):
        return []
    advice = "Add the penalty once, after the mean over the batch."
    if _is_close(factor, 2.0):
        message = "The penalty's gradient doubles when the batch does: λ is multiplied by the batch size."
        return [AuditFinding("penalty_grows_with_batch", "wrong", names, message, advice)]
    message = f"The penalty's gradient is {factor:.3g} times as large when the same images come twice in the batch."
    return [AuditFinding("penalty_depends_on_batch", "doubtful", names, message, advice)]


def check_without_gradient(subject: Subject) -> list[AuditFinding]:
    """A penalty from state_dict() or .data: it is in the value and changes nothing."""
    report = subject.loss
    hidden = report.read_without_gradient
    names = hidden or report.read_as_numbers
    if not names:
        return []
    where = f"{some(names)} ({len(names)} parameters)"
    message = (
        f"The loss's value depends on {where}, but no gradient reaches them: the penalty has no effect."
        if hidden
        else f"The loss reads {where} as plain numbers: if they are in its value, no gradient reaches them."
    )
    if report.read_buffers:
        message += f" It also counts buffers: {some(report.read_buffers)}."
    advice = (
        "Sum over model.parameters(). state_dict() and .data carry no gradient; state_dict() has running statistics."
    )
    return [AuditFinding("penalty_without_gradient", "wrong" if hidden else "doubtful", names, message, advice)]


def check_clipping(subject: Subject) -> list[AuditFinding]:
    """Clipping acts on a penalty in the loss, and not on decay in the optimizer."""
    size, limit = subject.loss.gradient_norm, subject.clip_norm
    names = tuple(name for name, form in subject.loss.forms.items() if form.kind not in ("zero", "none", "nan"))
    if not names or not size > 0:
        return []
    advice = "Decay in the optimizer or by a regularizer: they act after clipping."
    message = f"The penalty's gradient has norm {size:.3g}. Where gradients are clipped, it is clipped with them."
    if limit is None:
        return [AuditFinding("clipping_would_act", "note", names, message, advice)]
    share = size / limit
    level: Level = "wrong" if share >= 1 else "doubtful" if share > CLIPPED_SHARE else "note"
    what = (
        "every step clips it, and the data's gradient with it"
        if share >= 1
        else "a step that is clipped shrinks it too"
    )
    message = f"The penalty's gradient has norm {size:.3g}, {share:.3g} times the {limit:g} that is clipped to: {what}."
    return [AuditFinding("clipping_swallows", level, names, message, advice)]


def _is_close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= CLOSE * abs(wanted)

"""What limits the figures of a verdict: each caution has a code, a sentence, and the figure that it stands beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segdecay.data.checks.findings import Finding
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import FoldPlan
from segdecay.runs.records import StrengthRecord, TrialRecord, axis_names, kind_of
from segdecay.runs.verdict import Caution, Verdict

OF_SCORES = ("fold_shares_groups", "duplicate_groups", "near_duplicate_groups", "no_groups_known")  # findings by figure
OF_TEST = ("duplicate_parts", "near_duplicate_parts", "shared_groups")
FEW_UNITS = 8  # validation images (or groups) of a fold; with fewer, resampling cannot tell how scores spread
FEW_TRIALS = 2  # trials a setting
RISE = 0.02  # of a validation score over the last third of the epochs
NAMED = 3


@dataclass(frozen=True)
class Evidence:
    """What the cautions of a search are drawn from.

    Attributes:
        findings: of the checks of data and folds.
        records: of the trials that the verdict rests on.
        curves: of the trials without decay: (epoch, validation score) where it was scored.
        tested_by: other runs that scored the same test part.
    """

    dataset: Dataset
    folds: FoldPlan
    findings: Sequence[Finding]
    records: Sequence[TrialRecord]
    curves: Sequence[Sequence[tuple[int, float]]] = ()
    tested_by: Sequence[str] = ()


def cautions_of(verdict: Verdict, evidence: Evidence) -> tuple[Caution, ...]:
    """All cautions, what spoils a figure before what widens its interval."""
    is_tested = bool(evidence.dataset.part("test")) and verdict.kind != "undertrained"
    found = [
        *_of_findings(evidence.findings, has_test=is_tested),
        *_of_trials(verdict, evidence.records),
        *_of_classes(verdict, evidence),
        *_of_strength(verdict),
        *_of_curves(verdict, evidence.curves),
        *_of_amount(verdict, evidence),
    ]
    return tuple(found)


def _of_findings(findings: Iterable[Finding], *, has_test: bool) -> list[Caution]:
    """Leaks: the same or nearly the same images on both sides of a split."""
    found = []
    for finding in findings:
        if finding.level == "warning" and finding.code in OF_SCORES:
            found.append(Caution(finding.code, finding.message, "score"))
        elif finding.level == "warning" and finding.code in OF_TEST and has_test:
            found.append(Caution(finding.code, finding.message, "test"))
    return found


def _named_trials(records: Sequence[TrialRecord]) -> str:
    seeds = len({record.seed for record in records}) > 1
    names = [
        f"{_at(record.strength)} fold {record.fold + 1}{f' seed {record.seed}' if seeds else ''}" for record in records
    ]
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _at(strength: StrengthRecord) -> str:
    return (
        f"no {kind_of(strength.axis)}" if strength.is_none else f"{axis_names(strength.axis)[1]} = {strength.value:g}"
    )


def _of_trials(verdict: Verdict, records: Sequence[TrialRecord]) -> list[Caution]:
    found = []
    collapsed = [record for record in records if record.extra.get("collapsed")]
    if collapsed:
        count = f"{len(collapsed)} trial{'s' if len(collapsed) > 1 else ''}"
        sentence = (
            f"{count} collapsed to a single class: {_named_trials(collapsed)}. Such a score says "
            "little about its strength; another seed or a lower learning rate may not collapse."
        )
        found.append(Caution("collapsed", sentence, "score"))
    scores = [item.folds for item in verdict.settings if item.mean is not None]
    if len(scores) > 1 and _are_equal(scores):
        sentence = (
            "All strengths have exactly the same scores: the strength had no effect on training. Check that the "
            "training uses it."
        )
        found.append(Caution("no_effect", sentence, "difference"))
    return found


def _are_equal(scores: Sequence[Sequence[float | None]]) -> bool:
    """Whether settings agree to the last digit on every fold that two of them share."""
    pairs = 0
    for column in zip(*scores, strict=True):
        known = [value for value in column if value is not None]
        if len(set(known)) > 1:
            return False
        pairs += len(known) > 1
    return pairs > 0


def _of_classes(verdict: Verdict, evidence: Evidence) -> list[Caution]:
    found = []
    names = evidence.dataset.classes
    absent = {
        names[row]: [fold + 1 for fold, pixels in enumerate(line) if pixels == 0]
        for row, line in enumerate(evidence.folds.table)
        if any(line) and 0 in line
    }
    if absent:
        listed = "; ".join(f"{name}: fold {', '.join(map(str, folds))}" for name, folds in list(absent.items())[:NAMED])
        rest = len(absent) - NAMED
        sentence = (
            f"Some folds hold no validation pixel of a class ({listed}{f'; and {rest} more' if rest > 0 else ''}),"
            " so its score rests on fewer folds."
        )
        found.append(Caution("class_missing", sentence, "classes"))
    training = verdict.training
    if training is not None and training.is_enough and training.never_predicted:
        classes = training.never_predicted
        rest = len(classes) - NAMED
        sentence = (
            f"Never predicted, not even in training images: {', '.join(classes[:NAMED])}"
            f"{f' and {rest} more' if rest > 0 else ''}. The verdict does not show what decay would do to "
            f"{'them' if len(classes) > 1 else 'it'}."
        )
        found.append(Caution("never_predicted", sentence, "classes"))
    return found


def _of_strength(verdict: Verdict) -> list[Caution]:
    found = []
    if verdict.kind == "edge":
        sentence = "The best strength is the last of those tried; a stronger one may be better. Widen search.grid."
        found.append(Caution("strongest", sentence, "strength"))
    joint = verdict.evidence.get("joint")
    ends: Sequence[str] = joint.get("at_ends") or () if isinstance(joint, Mapping) else ()
    if ends:
        sentence = f"At the end of its range: {', '.join(ends)}. Widen it under search.ranges."
        found.append(Caution("end_of_range", sentence, "strength"))
    return found


def _of_curves(verdict: Verdict, curves: Sequence[Sequence[tuple[int, float]]]) -> list[Caution]:
    """Whether validation scores without decay still rise at the end."""
    rises = [rise for curve in curves if (rise := late_rise(curve)) is not None]
    if verdict.kind == "undertrained" or not rises or float(np.mean(rises)) < RISE:
        return []
    sentence = (
        f"Without decay the validation score still rose by {np.mean(rises):.3f} over the last third of the epochs: "
        "longer training may change this verdict."
    )
    return [Caution("still_rising", sentence, "score")]


def late_rise(curve: Sequence[tuple[int, float]]) -> float | None:
    """The rise of a score over the last third of the epochs; None where it was scored too seldom.

    >>> round(late_rise([(5, 0.2), (10, 0.4), (15, 0.5)]), 3)
    0.1
    """
    if len(curve) < 2:
        return None
    last, score = curve[-1]
    before = [value for epoch, value in curve[:-1] if epoch <= 2 * last / 3]
    return score - before[-1] if before else None


def _of_amount(verdict: Verdict, evidence: Evidence) -> list[Caution]:
    found = []
    if evidence.tested_by and verdict.kind != "undertrained":
        sentence = (
            f"The same test part was scored by {', '.join(evidence.tested_by[:NAMED])} before. Every further look "
            "makes its score less trustworthy, if settings were chosen by it."
        )
        found.append(Caution("tested_before", sentence, "test"))
    groups = [{evidence.dataset.items[i].group for i in fold.validation} for fold in evidence.folds.folds]
    images = [len(fold.validation) for fold in evidence.folds.folds]
    unit = "images" if [len(one) for one in groups] == images else "groups"
    least = min((len(one) for one in groups), default=0)
    if least < FEW_UNITS:
        sentence = (
            f"A fold is validated on only {least} {unit if least > 1 else unit.rstrip('s')}: with so few, intervals "
            "are wide, and other images may give another verdict."
        )
        found.append(Caution("few_images" if unit == "images" else "few_groups", sentence, "difference"))
    trials = len(evidence.folds.folds) * len(verdict.seeds)
    if trials <= FEW_TRIALS:
        sentence = (
            f"Each setting was trained {'once' if trials == 1 else 'twice'}: the luck of a training is hardly known. "
            "Use more folds, or a second seed (--set search.seeds=[0,1])."
        )
        found.append(Caution("few_trials", sentence, "difference"))
    return found


def scored_epochs(curve: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The epochs of a curve with a validation score, and the score: balanced accuracy for labels, mIoU for masks."""
    found = []
    for line in curve:
        score = line.get("validation_balanced_accuracy", line.get("validation_miou"))
        if isinstance(score, float):
            found.append((int(line["epoch"]), score))
    return found

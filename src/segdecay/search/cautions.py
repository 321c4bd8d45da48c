"""What limits the figures of a verdict: each caution has a code, a sentence, and the figure that it stands beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.data.checks.findings import Finding
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import FoldPlan
from segdecay.runs.records import StrengthRecord, TrialRecord, axis_names, kind_of
from segdecay.runs.verdict import Caution, Verdict
from segdecay.search.recipe import Seen, judge_recipe, train_score

OF_SCORES = ("fold_shares_groups", "duplicate_groups", "near_duplicate_groups", "no_groups_known")  # findings by figure
OF_TEST = ("duplicate_parts", "near_duplicate_parts", "shared_groups")
FEW_UNITS = 8  # validation images (or groups) of a fold; with fewer, resampling cannot tell how scores spread
FEW_TRIALS = 2  # trials a setting
RATES = {"high": "too high", "low": "low, or the training short"}  # judgements of a learning rate that are told
NAMED = 3


@dataclass(frozen=True)
class Evidence:
    """What the cautions of a search are drawn from.

    Attributes:
        findings: of the checks of data and folds.
        records: of the trials that the verdict rests on.
        without_decay: the trials without decay that have a curve.
        tested_by: other runs that scored the same test part.
        size: to which images and masks were resized; None as they are.
    """

    dataset: Dataset
    folds: FoldPlan
    findings: Sequence[Finding]
    records: Sequence[TrialRecord]
    without_decay: Sequence[Seen] = ()
    tested_by: Sequence[str] = ()
    size: tuple[int, int] | None = None


def cautions_of(verdict: Verdict, evidence: Evidence) -> tuple[Caution, ...]:
    """All cautions, what spoils a figure before what widens its interval."""
    is_tested = bool(evidence.dataset.part("test")) and verdict.kind != "undertrained"
    found = [
        *_of_findings(evidence.findings, has_test=is_tested),
        *_of_trials(verdict, evidence.records),
        *_of_classes(verdict, evidence),
        *_of_strength(verdict),
        *_of_recipe(verdict, evidence.without_decay),
        *_of_size(verdict, evidence.size),
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
            "little about its strength; another seed or learning rate may not collapse."
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


def _of_size(verdict: Verdict, size: tuple[int, int] | None) -> list[Caution]:
    """Whether scores are those of masks that were made smaller or larger."""
    if size is None or verdict.kind == "undertrained" or verdict.task != "segmentation":
        return []
    sentence = (
        f"Scores are those of masks resized to {size[0]} x {size[1]}: thin and small objects change most, and scores "
        "at the original size differ."
    )
    return [Caution("resized_masks", sentence, "score")]


def _of_recipe(verdict: Verdict, trials: Sequence[Seen]) -> list[Caution]:
    """Whether learning rate or length look wrong in the trainings without decay."""
    found = judge_recipe(trials)
    if found is None or verdict.kind == "undertrained":
        return []
    cautions = []
    if found.rate in RATES:
        looks = f"The learning rate looks {RATES[found.rate]}: without decay {found.seen}."
        sentence = f"{looks} Another rate may change this verdict."
        cautions.append(Caution(f"rate_{found.rate}", sentence, "score"))
    if found.is_short:
        fitted = [score for one in trials if (score := train_score(one)) is not None]
        on_train = f"train {trials[0].criterion} {np.mean(fitted):.2f}, and " if fitted else ""
        sentence = f"Without decay: {on_train}{found.seen}. Longer training may change this verdict."
        cautions.append(Caution("still_rising", sentence, "score"))
    return cautions


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
        what = "" if unit == "images" else " (images that belong together)"
        sentence = (
            f"A fold is validated on only {least} {unit if least > 1 else unit.rstrip('s')}{what}: with so few, "
            "intervals are wide, and other images may give another verdict."
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

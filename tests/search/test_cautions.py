"""Every caution of a verdict: present where its figure is limited, absent where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segdecay.data.checks.findings import Finding
from segdecay.data.dataset import Dataset, Item
from segdecay.data.splits.folds import Fold, FoldPlan
from segdecay.runs.read import read_record
from segdecay.runs.records import StrengthRecord, TrialRecord
from segdecay.runs.verdict import Interval, TrainingCheck, Verdict
from segdecay.search.cautions import Evidence, cautions_of
from segdecay.search.recipe import Seen

RECORD = Path(__file__).parents[2] / "docs" / "records" / "digits" / "verdict.json"
CLASSES = ("ground", "road")
SOUND = TrainingCheck(True, 0.7, 0.9, "one class", 0.4, Interval(0.3, 0.01, (0.2, 0.4)), classes=2)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return replace(read_record(RECORD, Verdict), training=SOUND, evidence={})


def _evidence(
    *,
    images: int = 30,
    groups: int | None = None,
    folds: int = 3,
    table: Sequence[Sequence[int]] = ((9, 9, 9), (9, 9, 9)),
    part: Any = "train",
    **more: Any,
) -> Evidence:
    items = tuple(
        Item(f"{i}", part if i == 0 else "train", f"g{i if groups is None else i % groups}", None, 8, 8, str(i))
        for i in range(images)
    )
    dataset = Dataset("made", CLASSES, ((0, 0, 0),) * 2, 3, "both", "groups", "f", Path("nowhere"), items)
    parts = [tuple(range(k, images, folds)) for k in range(folds)]
    made = tuple(Fold(tuple(i for i in range(images) if i not in part), part) for part in parts)
    plan = FoldPlan("groups", made, tuple(map(tuple, table)), (3, 3), "f")
    return Evidence(dataset, plan, **{"findings": (), "records": ()} | more)


def _trial(**extra: Any) -> TrialRecord:
    strength = StrengthRecord("total_decay", 2.0, 0.1)
    return TrialRecord("total_decay=2", strength, 1, 0, "finished", None, None, None, 1, 1, 1.0, (1, 1), extra)


def _codes(verdict: Verdict, evidence: Evidence) -> dict[str, str]:
    return {one.code: one.figure for one in cautions_of(verdict, evidence)}


def test_a_sound_search_has_no_cautions(verdict: Verdict) -> None:
    assert _codes(verdict, _evidence()) == {}


@pytest.mark.parametrize(
    ("code", "figure", "part"),
    [
        ("fold_shares_groups", "score", "train"),
        ("duplicate_groups", "score", "train"),
        ("near_duplicate_groups", "score", "train"),
        ("no_groups_known", "score", "train"),
        ("duplicate_parts", "test", "test"),
        ("near_duplicate_parts", "test", "test"),
        ("shared_groups", "test", "test"),
    ],
)
def test_leaks_stand_beside_the_score_that_they_spoil(verdict: Verdict, code: str, figure: str, part: str) -> None:
    finding = Finding("warning", code, None, "a ~ b look nearly the same.")
    (found,) = cautions_of(verdict, _evidence(findings=[finding], part=part))
    assert (found.code, found.figure, found.sentence) == (code, figure, finding.message)
    assert _codes(verdict, _evidence(findings=[replace(finding, level="note")], part=part)) == {}


def test_a_leak_into_a_test_part_is_silent_where_there_is_none(verdict: Verdict) -> None:
    assert _codes(verdict, _evidence(findings=[Finding("warning", "duplicate_parts", None, "a = b.")])) == {}


def test_a_collapsed_trial_is_named(verdict: Verdict) -> None:
    (found,) = cautions_of(verdict, _evidence(records=[_trial(collapsed=True), _trial(collapsed=False)]))
    assert (found.code, found.figure) == ("collapsed", "score")
    assert "1 trial collapsed to a single class: D = 2 fold 2." in found.sentence


def test_strengths_without_any_effect_are_told(verdict: Verdict) -> None:
    same = tuple(replace(one, folds=(0.5, 0.6, None), mean=0.55) for one in verdict.settings[:3])
    assert _codes(replace(verdict, settings=same), _evidence()) == {"no_effect": "difference"}
    other = (*same[:2], replace(same[2], folds=(0.5, 0.6001, None)))
    assert _codes(replace(verdict, settings=other), _evidence()) == {}


def test_classes_that_a_fold_lacks_or_that_are_never_predicted(verdict: Verdict) -> None:
    (found,) = cautions_of(verdict, _evidence(table=((9, 9, 9), (9, 0, 9))))
    assert (found.code, found.figure) == ("class_missing", "classes")
    assert "road: fold 2" in found.sentence
    missed = replace(verdict, training=replace(SOUND, never_predicted=("road",)))
    (found,) = cautions_of(missed, _evidence())
    assert (found.code, found.figure) == ("never_predicted", "classes")
    assert "Never predicted, not even in training images: road." in found.sentence


def test_the_end_of_what_was_tried(verdict: Verdict) -> None:
    assert _codes(replace(verdict, kind="edge"), _evidence()) == {"strongest": "strength"}
    joint = {"joint": {"at_ends": ["lr (0.01)"]}}
    assert _codes(replace(verdict, evidence=joint), _evidence()) == {"end_of_range": "strength"}


def _seen(losses: Sequence[float], scores: Sequence[float]) -> Seen:
    """A trial without decay at a constant rate."""
    lines = [
        {"epoch": at + 1, "lr": 0.01, "loss": loss, "validation_miou": score}
        for at, (loss, score) in enumerate(zip(losses, scores, strict=True))
    ]
    return Seen(lines, _trial())


def test_a_recipe_that_may_change_the_verdict(verdict: Verdict) -> None:
    settled, rising = (0.3, 0.49, 0.5), (0.3, 0.4, 0.5)
    assert _codes(verdict, _evidence(without_decay=[_seen((2.0, 0.5, 0.2), settled)])) == {}
    (found,) = cautions_of(verdict, _evidence(without_decay=[_seen((2.0, 0.5, 0.2), rising)]))
    assert (found.code, found.figure) == ("still_rising", "score")
    assert "validation mIoU rose by 0.100 over the last third of the epochs" in found.sentence
    assert _codes(verdict, _evidence(without_decay=[_seen((2.0, 2.5, 1.8), settled)])) == {"rate_high": "score"}
    assert _codes(verdict, _evidence(without_decay=[_seen((2.0, 1.8, 1.7), settled)])) == {"rate_low": "score"}
    untold = replace(verdict, kind="undertrained")
    assert _codes(untold, _evidence(without_decay=[_seen((2.0, 1.8, 1.7), rising)])) == {}


def test_scores_of_resized_masks(verdict: Verdict) -> None:
    (found,) = cautions_of(verdict, _evidence(size=(64, 48)))
    assert (found.code, found.figure) == ("resized_masks", "score")
    assert "resized to 64 x 48" in found.sentence
    assert _codes(replace(verdict, task="classification"), _evidence(size=(64, 48))) == {}


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        ({"images": 15}, "few_images"),
        ({"groups": 5}, "few_groups"),
        ({"folds": 2, "table": ((9, 9), (9, 9))}, "few_trials"),
    ],
)
def test_small_numbers_stand_beside_the_difference(verdict: Verdict, evidence: dict[str, Any], code: str) -> None:
    assert _codes(verdict, _evidence(**evidence)) == {code: "difference"}


def test_a_test_part_that_other_runs_scored(verdict: Verdict) -> None:
    assert _codes(verdict, _evidence(part="test", tested_by=["older"])) == {"tested_before": "test"}
    untold = replace(verdict, kind="undertrained")
    assert _codes(untold, _evidence(part="test", tested_by=["older"])) == {}

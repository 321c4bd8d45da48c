"""What a configuration asks of the loss: names, options, factors; what a training and its record make of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from shapes import small_config, small_task

from segdecay.config.schema import LossConfig, parse_config, to_plain
from segdecay.errors import ConfigError
from segdecay.runs.verdict import Verdict
from segdecay.training.class_weights import loss_in_words
from segdecay.training.loop import run_trial
from segdecay.training.losses import LOSSES, CrossEntropy, Dice, Focal, OriginalLoss, Tversky, build_loss, check_loss
from segdecay.training.preflight import run_preflight
from segdecay.training.setup import build_parts
from segdecay.training.validate import score_images
from segdecay.workflows.request import check_names
from segdecay.workflows.steps import paste_of


def _loss(**keys: Any) -> LossConfig:
    return small_config("unused", loss=keys).loss


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_default_is_cross_entropy_alone() -> None:
    assert build_loss(LossConfig()) == OriginalLoss((CrossEntropy(),), (1.0,))


def test_a_sum_gets_its_factors_and_every_option_goes_to_the_losses_that_have_it() -> None:
    config = _loss(name="dice+focal+tversky", factors=[1, 0.5, 2], options={"smooth": 1, "gamma": 3, "beta": 0.6})
    expected = (Dice(smooth=1.0), Focal(gamma=3.0), Tversky(beta=0.6, smooth=1.0))
    assert build_loss(config) == OriginalLoss(expected, (1.0, 0.5, 2.0))
    assert loss_in_words(config) == (
        "Dice + 0.5·focal loss + 2·Tversky (smooth 1, gamma 3, beta 0.6), class weights inverse_sqrt"
    )


def test_a_configuration_survives_its_own_file() -> None:
    config = small_config("unused", loss={"name": "ohem+dice", "factors": [1, 2], "class_weights": [0.5, 1, 2]})
    assert parse_config(to_plain(config)) == config


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": "focall"}, "Unknown loss 'focall'; allowed: cross_entropy, focal,"),
        ({"name": "focall"}, "Did you mean 'focal'?"),
        ({"name": "dice+"}, "Unknown loss ''"),
        ({"name": "dice+dice"}, "loss.name=dice+dice holds dice twice"),
        ({"name": "dice+ohem", "factors": [1]}, "loss.factors lists 1 numbers; loss.name=dice+ohem has 2 losses"),
        ({"options": {"gamma": 2}}, "loss.options.gamma is not an option of loss.name=cross_entropy; allowed: none."),
        ({"options": {"gamma": 2}}, "It is an option of focal."),
        ({"name": "dice", "options": {"smoth": 1}}, "allowed: smooth. Did you mean 'smooth'?"),
        ({"name": "focal", "options": {"gamma": -1}}, "loss.options.gamma must be a number, at least 0; saw -1."),
        ({"name": "focal", "options": {"gamma": float("nan")}}, "at least 0; saw nan."),
        ({"name": "dice", "options": {"smooth": float("inf")}}, "at least 0; saw inf."),
        ({"name": "tversky", "options": {"beta": 0}}, "loss.options.beta must be a number, above 0; saw 0."),
        ({"name": "ohem", "options": {"share": 1.5}}, "must be a number, at least 0 and at most 1; saw 1.5."),
        ({"name": "ohem", "options": {"min_kept": 0}}, "loss.options.min_kept must be a number, at least 1; saw 0."),
    ],
)
def test_names_options_and_factors_that_have_no_meaning_are_refused(keys: dict[str, Any], said: str) -> None:
    (fault,) = check_loss(_loss(**keys))
    assert said in fault
    assert fault in check_names(small_config("unused", loss=keys))
    with pytest.raises(ConfigError):
        build_loss(_loss(**keys))


def test_all_faults_of_a_loss_are_told_at_once() -> None:
    faults = check_loss(_loss(name="dice+ohem", factors=[1], options={"share": 2, "smooth": -1, "gamma": 1}))
    assert len(faults) == 4


@pytest.mark.parametrize("factors", [[0], [-1], [float("inf")], ["a"]])
def test_factors_that_are_not_above_zero_are_refused(factors: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.factors\.0: "):
        _loss(factors=factors)


# --- in a training ---------------------------------------------------------------------------------------------------


def test_a_training_gets_its_loss_and_weights_and_its_record_names_both(shapes: Path, tmp_path: Path) -> None:
    config = small_config(shapes, loss={"name": "cross_entropy+dice", "class_weights": [1, 2, 3]})
    task, dataset = small_task(tmp_path / "trial", config)
    parts = build_parts(task, dataset)
    assert parts.loss == OriginalLoss((CrossEntropy(), Dice()), (1.0, 1.0))
    assert parts.weight is not None
    assert parts.weight.tolist() == [1.0, 2.0, 3.0]
    (stage,) = run_trial(task).extra["stages"]
    assert (stage["loss"], stage["class_weights"]) == ("cross-entropy + Dice", [1.0, 2.0, 3.0])


def test_the_losses_of_a_record_are_those_of_the_loss_that_was_asked_for(shapes: Path, tmp_path: Path) -> None:
    config = small_config(shapes, loss={"factors": [1000]}, training={"epochs": 1})
    record = run_trial(small_task(tmp_path / "trial", config, value=0.0)[0])
    assert record.validation is not None
    assert record.train is not None
    assert min(record.train.loss, record.validation.loss) > 100


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "# loss that is a mean over the valid pixels."),
        ({"name": "cross_entropy+dice"}, "# loss that is cross-entropy + Dice over the valid pixels."),
        ({"factors": [2]}, "# loss that is 2·cross-entropy over the valid pixels."),
    ],
)
def test_lines_to_paste_name_the_loss_that_the_strength_belongs_to(
    shapes: Path, tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    config = small_config(shapes, loss=keys)
    preflight = run_preflight(small_task(tmp_path / "trial", config, value=0.5)[0])
    verdict = cast("Verdict", SimpleNamespace(strength=SimpleNamespace(value=0.5)))
    assert said in paste_of(config, verdict, preflight, 12)


def test_the_second_stage_keeps_its_own_loss(shapes: Path, tmp_path: Path) -> None:
    config = small_config(shapes, loss={"name": "dice"}, training={"epochs": 1}, balancing={"epochs": 1})
    stages = run_trial(small_task(tmp_path / "trial", config, value=0.0)[0]).extra["stages"]
    assert [stage["loss"] for stage in stages] == ["Dice", "cross-entropy"]


def test_all_losses_together_train_in_half_precision_and_from_accumulated_batches(shapes: Path, tmp_path: Path) -> None:
    training = {"epochs": 2, "precision": "bf16-mixed", "accumulate": 2}
    config = small_config(shapes, loss={"name": "+".join(LOSSES)}, training=training)
    records = [run_trial(small_task(tmp_path / name, config, value=0.0)[0]) for name in "ab"]
    assert [record.status for record in records] == ["finished"] * 2
    assert records[0].train == records[1].train


@pytest.mark.parametrize("name", ["dice", "ohem", "lovasz", "cross_entropy+tversky", "focal"])
def test_validation_losses_do_not_depend_on_the_batch_size(shapes: Path, tmp_path: Path, name: str) -> None:
    found = []
    for size in (1, 4):
        config = small_config(shapes, loss={"name": name}, training={"batch_size": size, "epochs": 1})
        task, dataset = small_task(tmp_path / str(size), config, value=0.0)
        parts = build_parts(task, dataset)
        scored = score_images(
            parts.model,
            dataset,
            task.scored,
            mean=parts.mean,
            deviation=parts.deviation,
            loss=parts.loss,
            weight=parts.weight,
            batch_size=size,
        )
        found.append(scored.loss)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] > 0

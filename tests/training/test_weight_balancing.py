"""The second stage of a trial: only the head moves, by the stated rule; it resumes to the bit and tells both stages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from shapes import small_config, small_task
from torch import Tensor, nn

from segdecay.config.schema import RunConfig
from segdecay.data import IGNORE, Dataset
from segdecay.data.transforms.augment import augment
from segdecay.data.transforms.crops import take_batch
from segdecay.metrics.confusion import read_confusions
from segdecay.models.zoo import build_model
from segdecay.training.batches import generator
from segdecay.training.checkpoint import FILE
from segdecay.training.head import row_norms
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.optim import learning_rates
from segdecay.training.setup import TrialTask, epoch_batches
from segdecay.training.validate import score_images

HEAD = {"head.weight", "head.bias"}


def _config(data: Path, **sections: Any) -> RunConfig:
    balancing = {"epochs": 2, "decay": 0.5, "lr": 0.05, **sections.pop("balancing", {})}
    return small_config(data, balancing=balancing, **sections)


def _weights(task: TrialTask) -> dict[str, Tensor]:
    return load_file(task.folder / "model.safetensors")


def _curve(task: TrialTask) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (task.folder / "curve.jsonl").read_text().splitlines()]


def _both(tmp_path: Path, config: RunConfig) -> tuple[TrialTask, TrialTask, Dataset]:
    """The trial with both stages, and the same trial with the first alone; both are run."""
    balanced, dataset = small_task(tmp_path / "balanced", config)
    first = config.model_copy(update={"balancing": config.balancing.model_copy(update={"epochs": 0})})
    alone = replace(balanced, folder=tmp_path / "alone", config=first)
    run_trial(balanced)
    run_trial(alone)
    return balanced, alone, dataset


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_second_stage_leaves_everything_but_the_head_as_the_first_left_it(
    tmp_path: Path, shapes: Path, norm: str
) -> None:
    balanced, alone, _ = _both(tmp_path, _config(shapes, model={"width": 4, "depth": 2, "norm": norm, "dropout": 0.2}))
    after, before = _weights(balanced), _weights(alone)
    assert {name for name in after if not torch.equal(after[name], before[name])} == HEAD


def _plain_second_stage(
    task: TrialTask, dataset: Dataset, start: dict[str, Tensor], extra: dict[str, Any]
) -> nn.Module:
    """The second stage written with torch alone: AdamW on the head, effective numbers, rows scaled back by hand."""
    balancing, training = task.config.balancing, task.config.training
    model = build_model(task.config.model, in_channels=3, classes=3).to(memory_format=torch.channels_last)
    model.load_state_dict(start)
    model.eval()
    weight, bias = (model.get_parameter(name) for name in ("head.weight", "head.bias"))
    lengths = weight.detach().flatten(1).norm(dim=1)
    cap = lengths.min() + 0.1 * (lengths.max() - lengths.min())
    groups = [
        {"params": [weight], "weight_decay": balancing.decay},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    holding = [sum(bool((dataset.mask(i) == c).any()) for i in task.train) for c in range(3)]
    scale = np.array([1 / sum(balancing.beta**i for i in range(n)) for n in holding])
    class_weight = torch.tensor(scale / scale.mean(), dtype=torch.float32)
    mean, deviation = (torch.tensor(extra[key]).view(1, 3, 1, 1) for key in ("mean", "deviation"))
    rates = iter(learning_rates(task.config.schedule, balancing.lr or math.nan, 3 * balancing.epochs))
    for epoch in range(training.epochs, training.epochs + balancing.epochs):
        for batch, indices in enumerate(epoch_batches(task, epoch)):
            draw = generator(task.seed, task.fold, "augment", epoch, batch)
            images, masks = take_batch(dataset, [int(i) for i in indices], crop=None, generator=draw)
            values, masks = augment(
                images.float(), masks, config=task.config.augment, flip=dataset.flip, generator=draw
            )
            rate = next(rates)
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = model(((values - mean) / deviation).contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            F.cross_entropy(logits, masks, weight=class_weight, ignore_index=IGNORE).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([weight, bias], 1.0)
            optimizer.step()
            with torch.no_grad():
                lengths = weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                weight.mul_((cap / lengths).clamp(max=1.0))
    return model


def test_the_second_stage_is_the_rule_written_plainly(tmp_path: Path, shapes: Path) -> None:
    balanced, alone, dataset = _both(tmp_path, _config(shapes))
    extra = json.loads((balanced.folder / "trial.json").read_text())["extra"]
    expected = _plain_second_stage(balanced, dataset, _weights(alone), extra).state_dict()
    found, before = _weights(balanced), _weights(alone)
    for name in HEAD:
        assert (found[name] - before[name]).abs().max() > 0.01  # it went somewhere
        assert torch.allclose(found[name], expected[name], atol=1e-5, rtol=1e-4)


def test_decay_acts_on_the_weights_of_the_head_and_not_on_its_bias(tmp_path: Path, shapes: Path) -> None:
    tasks = {}
    for decay in (0.0, 19.9):
        config = _config(shapes, balancing={"decay": decay, "max_norm_share": None, "epochs": 1})
        tasks[decay], _ = small_task(tmp_path / f"{decay}", config)
        run_trial(tasks[decay])
    free, pulled = (_weights(tasks[decay]) for decay in (0.0, 19.9))
    # λ·Σ lr = 19.9·(.05 + .0375 + .0125) = 1.99: what is left of the start is next to nothing
    assert pulled["head.weight"].norm() < 0.8 * free["head.weight"].norm()
    assert pulled["head.bias"].norm() > 0.9 * free["head.bias"].norm()


def test_the_record_tells_both_stages(tmp_path: Path, shapes: Path) -> None:
    balanced, alone, dataset = _both(tmp_path, _config(shapes))
    record = json.loads((balanced.folder / "trial.json").read_text())
    first, second = record["extra"]["stages"]
    assert (record["epochs"], record["steps"]) == (5, 15)
    assert [(stage["stage"], stage["epochs"]) for stage in (first, second)] == [(1, 3), (2, 2)]
    for stage, task in ((first, alone), (second, balanced)):
        expected = _weights(task)["head.weight"].flatten(1).double().norm(dim=1)
        assert stage["row_norms"] == {"head.weight": pytest.approx(expected.tolist())}
    norms = first["row_norms"]["head.weight"]
    cap = min(norms) + 0.1 * (max(norms) - min(norms))
    assert second["caps"] == {"head.weight": pytest.approx(cap)}
    assert max(second["row_norms"]["head.weight"]) <= cap * (1 + 1e-6)
    assert max(norms) > 1.05 * cap  # the cap had something to do
    only = json.loads((alone.folder / "trial.json").read_text())
    assert first["validation"]["miou"] == only["validation"]["miou"]
    assert first["validation"]["iou"] == only["validation"]["iou"]
    assert only["extra"]["stages"] == [
        {key: first[key] for key in ("stage", "epochs", "row_norms", "loss", "class_weights")}
    ]
    masks = np.stack([dataset.mask(index) for index in balanced.train])
    assert record["extra"]["log_frequencies"] == pytest.approx([float(np.log((masks == c).mean())) for c in range(3)])
    assert second["examples"] == [int((masks == c).any(axis=(1, 2)).sum()) for c in range(3)]
    assert (second["lambda"], second["total_decay"]) == (0.5, pytest.approx(0.5 * _summed_rates(balanced.config)))


def _summed_rates(config: RunConfig) -> float:
    return sum(learning_rates(config.schedule, config.balancing.lr or math.nan, 3 * config.balancing.epochs))


def test_the_curve_tells_both_stages(tmp_path: Path, shapes: Path) -> None:
    balanced, alone, _ = _both(tmp_path, _config(shapes, training={"epochs": 20, "batch_size": 12}))
    curve, only = _curve(balanced), _curve(alone)
    assert [line["epoch"] for line in curve] == list(range(1, 23))
    assert [line["stage"] for line in curve] == [1] * 20 + [2] * 2
    assert [line["loss"] for line in curve[:20]] == [line["loss"] for line in only]
    assert curve[19]["validation_miou"] == only[-1]["validation_miou"]
    assert curve[20]["lr"] == pytest.approx(0.05)
    weights = _weights(balanced)
    assert curve[-1]["penalty"] == pytest.approx(0.25 * float(weights["head.weight"].square().sum()), rel=1e-5)


def test_the_score_is_that_of_the_last_step_of_the_second_stage(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", _config(shapes))
    record = run_trial(task)
    model = build_model(task.config.model, in_channels=3, classes=3)
    model.load_state_dict(_weights(task))
    mean, deviation = (torch.tensor(record.extra[k]).view(1, 3, 1, 1) for k in ("mean", "deviation"))
    weight = torch.tensor(record.extra["stages"][1]["class_weights"])
    again = score_images(model, dataset, task.scored, mean=mean, deviation=deviation, weight=weight, batch_size=1)
    assert np.array_equal(again.confusions, read_confusions(task.folder / "confusion.npz"))
    assert record.validation is not None
    assert record.validation.loss == pytest.approx(again.loss, rel=1e-5)


def test_progress_is_told_over_both_stages(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", _config(shapes))
    told: list[tuple[int, int]] = []
    run_trial(task, report=lambda epoch, epochs: told.append((epoch, epochs)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_test_part_is_not_scored_between_the_stages(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", _config(shapes), scores_on_the_way=0)
    record = run_trial(task)
    assert "validation" not in record.extra["stages"][0]
    assert [line["validation_miou"] is None for line in _curve(task)] == [True] * 4 + [False]


def _stop_after(calls: int) -> Callable[[], bool]:
    left = [calls]

    def stop() -> bool:
        left[0] -= 1
        return left[0] == 0

    return stop


# an epoch asks three times: after two of its three steps, and at its end; the first stage ends at the ninth
@pytest.mark.parametrize("stops", [[9], [10], [11, 2], [8, 1, 1, 1], [12, 1], [14]])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_trial_stopped_around_or_in_its_second_stage_goes_on_to_bitwise_the_same_result(
    tmp_path: Path, shapes: Path, stops: list[int], optimizer: str
) -> None:
    config = _config(shapes, optimizer={"name": optimizer}, model={"width": 4, "depth": 2, "dropout": 0.2})
    unbroken, _ = small_task(tmp_path / "unbroken", config)
    broken = replace(unbroken, folder=tmp_path / "broken")
    expected = run_trial(unbroken)
    for stop in stops:
        with pytest.raises(Interrupted):
            run_trial(broken, stop=_stop_after(stop))
        assert (broken.folder / "checkpoint" / FILE).exists()
    record = run_trial(broken)
    one, other = _weights(unbroken), _weights(broken)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert replace(record, seconds=0) == replace(expected, seconds=0)
    without_clock = [[{**line, "seconds": 0} for line in _curve(task)] for task in (unbroken, broken)]
    assert without_clock[0] == without_clock[1]
    assert not (broken.folder / "checkpoint").exists()


def test_a_damaged_checkpoint_of_the_second_stage_costs_time_and_no_result(tmp_path: Path, shapes: Path) -> None:
    unbroken, _ = small_task(tmp_path / "unbroken", _config(shapes))
    broken = replace(unbroken, folder=tmp_path / "broken")
    run_trial(unbroken)
    with pytest.raises(Interrupted):
        run_trial(broken, stop=_stop_after(11))
    path = broken.folder / "checkpoint" / FILE
    path.write_bytes(path.read_bytes()[:-50])
    run_trial(broken)
    one, other = _weights(unbroken), _weights(broken)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_that_diverges_in_the_second_stage_says_so_and_keeps_the_first(tmp_path: Path, shapes: Path) -> None:
    config = _config(
        shapes,
        training={"clip_norm": None},
        optimizer={"name": "sgd"},
        balancing={"lr": 1e38, "decay": 0.0, "max_norm_share": None},
    )
    task, _ = small_task(tmp_path / "trial", config)
    record = run_trial(task)
    assert record.status == "diverged"
    assert record.reason is not None
    assert "epoch 4" in record.reason
    kept = json.loads((task.folder / "trial.json").read_text())["extra"]["stages"]
    assert [stage["stage"] for stage in kept] == [1, 2]
    assert kept[0]["row_norms"]["head.weight"] == [
        pytest.approx(norm) for norm in record.extra["stages"][0]["row_norms"]["head.weight"]
    ]


def test_without_a_cap_rows_grow_freely(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", _config(shapes, balancing={"max_norm_share": None, "lr": 0.5}))
    first, second = run_trial(task).extra["stages"]
    assert second["caps"] == {}
    assert max(second["row_norms"]["head.weight"]) > max(first["row_norms"]["head.weight"])
    assert second["row_norms"]["head.weight"] == pytest.approx(row_norms(_weights(task)["head.weight"]))


@pytest.mark.parametrize("regularizer", ["none", "l2", "decoupled"])
def test_every_regularizer_of_the_first_stage_can_be_followed_by_the_second(
    tmp_path: Path, shapes: Path, regularizer: str
) -> None:
    task, _ = small_task(tmp_path / "trial", _config(shapes, decay={"regularizer": regularizer}), value=0.0)
    assert run_trial(task).status == "finished"


def test_mixed_precision_balances(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", _config(shapes, training={"precision": "bf16-mixed"}))
    assert run_trial(task).status == "finished"

"""Diagnostics inside a trial: written in its curve and record, resumable, and without any effect on the training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shapes import small_config, small_task
from torch import Tensor

from segdecay.data.transforms.crops import take_batch
from segdecay.models.zoo import build_model
from segdecay.runs.records import trial_from_json
from segdecay.training import loop
from segdecay.training.artifacts import is_diagnosed
from segdecay.training.class_weights import pixel_statistics
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.setup import TrialTask
from segdecay.utils.files import read_json


def _weights(task: TrialTask) -> dict[str, Tensor]:
    return load_file(task.folder / "model.safetensors")


def _curve(task: TrialTask) -> list[dict[str, Any]]:
    lines = (task.folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_a_trial_that_is_diagnosed_often_trains_bitwise_as_one_that_is_never(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(
        shapes, model={"dropout": 0.2}, balancing={"epochs": 2}, training={"batch_size": 2, "accumulate": 2}
    )
    often, _ = small_task(tmp_path / "often", config, diagnostics_steps=1)
    never = replace(often, folder=tmp_path / "never")
    run_trial(often)
    monkeypatch.setattr(loop, "build_diagnostics", lambda *_: None)
    run_trial(never)
    assert sum(line["diagnostics"] is not None for line in _curve(often)) == 5
    assert [line["diagnostics"] for line in _curve(never)] == [None] * 5
    one, other = _weights(often), _weights(never)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [{**line, "diagnostics": None} for line in _curve(often)] == _curve(never)


@pytest.mark.parametrize("stop", [2, 3, 5, 8, 11])
def test_a_stopped_trial_reads_what_an_unbroken_one_reads(tmp_path: Path, shapes: Path, stop: int) -> None:
    config = small_config(shapes, model={"dropout": 0.2}, balancing={"epochs": 2})
    unbroken, _ = small_task(tmp_path / "unbroken", config, diagnostics_steps=1)
    broken = replace(unbroken, folder=tmp_path / "broken")
    expected = run_trial(unbroken)
    left = iter(range(stop, -1, -1))
    with pytest.raises(Interrupted):
        run_trial(broken, stop=lambda: next(left) == 0)
    record = run_trial(broken)
    assert replace(record, seconds=0) == replace(expected, seconds=0)
    assert _curve(broken) == _curve(unbroken)
    assert all(line["diagnostics"] for line in _curve(broken))


def test_the_record_keeps_the_last_reading_and_reads_back_the_same(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes))
    record = run_trial(task)
    curve = _curve(task)
    assert [line["diagnostics"] is None for line in curve] == [True, True, False]
    kept = dict(record.extra["diagnostics"])
    assert kept.pop("validation_activations")
    assert kept == curve[-1]["diagnostics"]
    assert trial_from_json(read_json(task.folder / "trial.json")) == record
    weights = _weights(task)
    for layer in kept["layers"]:
        assert layer["norm"] == pytest.approx(float(weights[layer["name"]].double().norm()), rel=1e-9)
    for layer in kept["layers"][:-1]:  # the head feeds no norm layer
        assert layer["ratio"] == pytest.approx(layer["angle"] / layer["equilibrium"])
    assert kept["penalty"] == pytest.approx(curve[-1]["penalty"])
    assert kept["penalty_share"] == pytest.approx(curve[-1]["penalty"] / curve[-1]["objective"])
    assert [line["name"] for line in kept["activations"]][:2] == ["encoder.0.2", "encoder.0.5"]
    counts = pixel_statistics(dataset, task.train).counts.tolist()
    assert len(kept["head"][0]["row_norms"]) == len(counts) == 3
    assert kept["head"][0]["spearman"] is not None


def test_dead_activations_on_validation_images_are_those_of_all_of_them(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes, training={"batch_size": 4}))
    record = run_trial(task)
    model = build_model(task.config.model, in_channels=3, classes=3)
    model.load_state_dict(_weights(task))
    outputs: list[Tensor] = []
    model.get_submodule("decoder.1.5").register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    mean, deviation = (torch.tensor(record.extra[key]).view(1, 3, 1, 1) for key in ("mean", "deviation"))
    images, _ = take_batch(dataset, list(task.scored), crop=None, generator=None)
    with torch.inference_mode():
        model.eval()((images.float() - mean) / deviation)
    line = next(line for line in record.extra["diagnostics"]["validation_activations"] if line["name"] == "decoder.1.5")
    assert line["zeros"] == pytest.approx(float((outputs[0] == 0).double().mean()), abs=2e-4)
    assert line["dead"] == int((outputs[0].amax(dim=(0, 2, 3)) == 0).sum())


def test_the_second_stage_is_read_with_its_own_optimizer_and_groups(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes, balancing={"epochs": 2}))
    record = run_trial(task)
    read = [(line["stage"], line["diagnostics"]) for line in _curve(task) if line["diagnostics"]]
    assert [stage for stage, _ in read] == [1, 2]
    first, second = (diagnostics for _, diagnostics in read)
    groups = [{group["group"] for group in diagnostics["groups"]} for diagnostics in (first, second)]
    assert "frozen" in groups[1] - groups[0]
    assert all(layer["angle"] is None for layer in second["layers"])
    assert second["head"][0]["row_norms"] == record.extra["stages"][1]["row_norms"]["head.weight"]


def test_a_diverged_trial_keeps_no_reading_that_it_does_not_have(tmp_path: Path, shapes: Path) -> None:
    config = small_config(
        shapes, optimizer={"name": "sgd", "lr": 1e30}, training={"clip_norm": None}, schedule={"warmup": 0.0}
    )
    task, _ = small_task(tmp_path / "trial", config, value=0.0, diagnostics_steps=1)
    record = run_trial(task)
    assert record.status == "diverged"
    assert record.extra["diagnostics"] is None


@pytest.mark.parametrize(
    ("epochs", "batch_size", "diagnostics_steps", "expected"),
    [
        (3, 4, 100, [3]),
        (16, 4, 1, [2, 4, 6, 8, 10, 12, 14, 16]),
        (16, 4, 12, [4, 8, 12, 16]),  # 3 steps an epoch: at least 4 epochs apart
        (7, 12, 3, [3, 6, 7]),
    ],
)
def test_readings_are_few_and_far_apart_and_the_last_epoch_has_one(
    shapes: Path, epochs: int, batch_size: int, diagnostics_steps: int, expected: list[int]
) -> None:
    config = small_config(shapes, training={"epochs": epochs, "batch_size": batch_size})
    task, _ = small_task(Path("unused"), config, diagnostics_steps=diagnostics_steps)
    assert [epoch + 1 for epoch in range(epochs) if is_diagnosed(task, epoch)] == expected

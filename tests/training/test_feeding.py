"""Batches on the device and steps that wait for no number: the same bits, wherever and whenever a batch is prepared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_data import write_table
from safetensors.torch import load_file
from shapes import small_config, small_task, write_shapes
from torch.utils._python_dispatch import TorchDispatchMode

from segdecay.data import load_dataset
from segdecay.data.on_device import SHARE, DatasetOnDevice, fits
from segdecay.data.transforms.crops import take_batch
from segdecay.metrics.confusion import _counted_on_device, image_confusions
from segdecay.training import loop
from segdecay.training.ahead import ahead
from segdecay.training.batches import build_draws, training_batch
from segdecay.training.distributed import Ranks
from segdecay.training.loop import Interrupted, open_trial, run_trial
from segdecay.training.losses import LOSSES
from segdecay.training.losses.regions import _steps_of_present, jaccard_steps
from segdecay.training.setup import ALONE, TrialTask, epoch_batches
from segdecay.training.state import Trial

EVERYTHING = {
    "crop": [12, 12],
    "class_crops": 0.5,
    "copy_paste": 0.5,
    "flip": "both",
    "degrees": 10,
    "scale": 0.1,
    "shift": 0.1,
    "brightness": 0.2,
    "contrast": 0.2,
}
CPU = torch.device("cpu")


def _never() -> bool:
    return False


def _quiet(_epoch: int, _epochs: int) -> None:
    return


def _same_results(one: TrialTask, other: TrialTask) -> None:
    ours, theirs = (load_file(task.folder / "model.safetensors") for task in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    drop = {"seconds"}
    for line, same in zip(_curve(one), _curve(other), strict=True):
        assert {k: v for k, v in line.items() if k not in drop} == {k: v for k, v in same.items() if k not in drop}


def _curve(task: TrialTask) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (task.folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("augment", [{}, EVERYTHING], ids=["flips", "everything"])
def test_batches_prepared_by_a_thread_train_the_same_bits(
    tmp_path: Path, shapes: Path, augment: dict[str, Any]
) -> None:
    config = small_config(shapes, augment=augment, training={"epochs": 3, "batch_size": 3, "accumulate": 2})
    task, _ = small_task(tmp_path / "before", config)
    threaded = replace(task, folder=tmp_path / "thread", batches_ahead=2)
    run_trial(task)
    run_trial(threaded)
    _same_results(task, threaded)


def test_a_trial_that_is_stopped_while_a_thread_prepares_goes_on_to_the_same_bits(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "whole", small_config(shapes, augment=EVERYTHING))
    run_trial(task)
    broken = replace(task, folder=tmp_path / "broken", batches_ahead=2)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_trial(broken, stop=lambda: next(asked) >= 4)
    run_trial(broken)
    _same_results(task, broken)


def test_an_error_of_a_thread_is_raised_where_its_batch_is_asked_for() -> None:
    done: list[int] = []

    def fail() -> int:
        raise ZeroDivisionError("in the second job")

    def job(number: int) -> Callable[[], int]:
        def run() -> int:
            done.append(number)
            return number

        return run

    with ahead([job(0), fail, job(2), job(3)], 1) as results:
        assert next(results) == 0
        with pytest.raises(ZeroDivisionError, match="second job"):
            next(results)
    assert 3 not in done  # what nobody asks for is not prepared


@pytest.mark.parametrize("crop", [None, (12, 12), (7, 20), (30, 20)], ids=["whole", "window", "wide", "padded"])
@pytest.mark.parametrize("is_drawn", [True, False], ids=["drawn", "middle"])
def test_a_batch_cut_on_the_device_is_that_of_the_host(
    shapes: Path, crop: tuple[int, int] | None, is_drawn: bool
) -> None:
    dataset, _ = load_dataset(small_config(shapes).data)
    stored = DatasetOnDevice.copied(dataset, CPU)
    indices, places = [3, 0, 3, 7], np.array([[0.99, 0.0], [np.nan, np.nan], [0.5, 0.25], [0.0, 0.999]])

    def drawn() -> torch.Generator | None:
        return torch.Generator().manual_seed(4) if is_drawn else None

    for chosen in (None, places):
        ours = stored.take_batch(indices, crop=crop, generator=drawn(), places=chosen)
        theirs = take_batch(dataset, indices, crop=crop, generator=drawn(), places=chosen)
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_a_batch_of_labels_cut_on_the_device_is_that_of_the_host(tmp_path: Path) -> None:
    dataset, _ = load_dataset(small_config(write_table(tmp_path / "data")).data)
    stored = DatasetOnDevice.copied(dataset, CPU)
    for crop in (None, (5, 6)):
        ours = stored.take_batch([2, 1], crop=crop, generator=torch.Generator().manual_seed(1))
        theirs = take_batch(dataset, [2, 1], crop=crop, generator=torch.Generator().manual_seed(1))
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_training_batches_from_the_device_are_those_of_the_host(tmp_path: Path, shapes: Path) -> None:
    options = {key: value for key, value in EVERYTHING.items() if key != "copy_paste"}
    task, dataset = small_task(tmp_path, small_config(shapes, augment=options))
    draws = build_draws(task.config.augment, dataset, task.train, seed=0, fold=0)
    stored = DatasetOnDevice.copied(dataset, CPU)
    for number in range(3):
        keys: dict[str, Any] = {"drawn_from": (0, 0), "at": (0, number)}
        pairs = [
            training_batch(task.config.augment, dataset, task.train, [0, 2, 5], draws, stored=where, **keys)
            for where in (None, stored)
        ]
        assert all(torch.equal(one, other) for one, other in zip(*pairs, strict=True))


def test_data_stay_on_the_host_where_they_take_more_than_their_share(shapes: Path) -> None:
    dataset, _ = load_dataset(small_config(shapes).data)
    taken = sum(one.height * one.width for one in dataset.items) * 4
    assert fits(dataset, int(taken / SHARE))
    assert not fits(dataset, int(taken / SHARE) - 4)
    assert not fits(dataset, int(taken / SHARE), trials=2)


@given(
    st.integers(1, 5).flatmap(
        lambda classes: st.tuples(
            st.just(classes),
            st.lists(
                st.tuples(st.integers(0, classes - 1), st.sampled_from([*range(classes), 255])), min_size=6, max_size=6
            ),
        )
    )
)
def test_matrices_counted_on_a_device_are_those_of_numpy(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = drawn
    predicted, truth = (torch.tensor(values).view(2, 1, 3) for values in zip(*pairs, strict=True))
    assert torch.equal(_counted_on_device(predicted, truth, classes), image_confusions(predicted, truth, classes))


def test_jaccard_steps_of_all_classes_are_those_of_the_present_ones() -> None:
    random = torch.Generator().manual_seed(0)
    errors = torch.rand(4, 50, generator=random)
    truth = torch.randint(0, 3, (50,), generator=random) == torch.arange(4)[:, None]  # class 3 is absent
    alone = jaccard_steps(errors, truth)
    everywhere = _steps_of_present(errors, truth).masked_fill(~truth.any(dim=1, keepdim=True), 0.0)
    assert torch.equal(alone, everywhere)
    assert not alone[3].any()


class _NoReading(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses operations for which the host would wait for a GPU: values, sizes that depend on them, copies."""

    REFUSED = (
        "_local_scalar_dense",
        "item",
        "nonzero",
        "masked_select",
        "is_nonzero",
        "equal",
        "_unique2",
        "unique_dim",
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_off = False
        self.read: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1] if isinstance(one, torch.Tensor)
        )
        if not self.is_off and (name in self.REFUSED or by_mask):
            self.read.append(name)
        return func(*args, **(kwargs or {}))


def _watched_step(trial: Trial) -> list[str]:
    """What the host read in one step of a trial, outside `optimizer.step()`."""
    batches = list(epoch_batches(trial.task, 0))
    with trial.feed.batches(0, batches, 0) as ready:
        window = [next(ready), next(ready)]
    mode, step = _NoReading(), trial.parts.wrapped.step

    def unwatched(*args: Any) -> Any:
        mode.is_off = True
        try:
            return step(*args)
        finally:
            mode.is_off = False

    trial.parts.wrapped.step = unwatched
    with mode:
        loop.train_step(trial, window)
    return mode.read


@pytest.mark.parametrize("loss", [*LOSSES, "cross_entropy+dice"])
def test_no_step_reads_a_number(tmp_path: Path, shapes: Path, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loss == "lovasz":  # as on a GPU: all classes, without asking which are present
        monkeypatch.setattr(
            "segdecay.training.losses.regions.jaccard_steps",
            lambda errors, truth: _steps_of_present(errors, truth).masked_fill(~truth.any(dim=1, keepdim=True), 0.0),
        )
    weighted = {} if loss == "ohem" else {"class_weights": "effective"}
    config = small_config(shapes, loss={"name": loss, **weighted}, training={"epochs": 1, "batch_size": 3})
    task, _ = small_task(tmp_path, config)
    assert _watched_step(open_trial(task, ALONE, _never, _quiet)) == []


def test_a_step_that_reads_a_number_is_noticed(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def agree(_ranks: Ranks, loss: torch.Tensor, *_rest: Any, **_options: Any) -> Any:
        return loss, torch.tensor(float(loss.detach())), None

    monkeypatch.setattr(Ranks, "agree", agree)
    task, _ = small_task(tmp_path, small_config(shapes, training={"epochs": 1, "batch_size": 3}))
    assert "_local_scalar_dense" in _watched_step(open_trial(task, ALONE, _never, _quiet))


@pytest.mark.parametrize("every", [2, 1000])
def test_a_loss_that_is_read_later_names_the_same_step(
    tmp_path: Path, shapes: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(
        shapes, training={"epochs": 6, "batch_size": 3, "clip_norm": None}, optimizer={"name": "sgd", "lr": 1e12}
    )
    task, _ = small_task(tmp_path / "each", config)
    each = run_trial(task)
    assert each.status == "diverged"
    monkeypatch.setattr(loop, "steps_between_readings", lambda _device: every)
    later = run_trial(replace(task, folder=tmp_path / "later"))
    assert (later.status, later.reason, later.steps, later.epochs) == (
        each.status,
        each.reason,
        each.steps,
        each.epochs,
    )


def test_sums_that_are_read_later_are_the_same_bits(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = small_task(tmp_path / "each", small_config(shapes))
    run_trial(task)
    later = replace(task, folder=tmp_path / "later")
    monkeypatch.setattr(loop, "steps_between_readings", lambda _device: 1000)
    run_trial(later)
    _same_results(task, later)


def test_a_checkpoint_between_two_readings_holds_the_sums(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = small_task(tmp_path / "whole", small_config(shapes))
    run_trial(task)
    monkeypatch.setattr(loop, "steps_between_readings", lambda _device: 1000)
    broken = replace(task, folder=tmp_path / "broken")
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_trial(broken, stop=lambda: next(asked) >= 2)
    run_trial(broken)
    _same_results(task, broken)


def test_scores_are_the_same_with_data_on_the_device(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path, small_config(shapes))
    trial = open_trial(task, ALONE, _never, _quiet)
    host = trial.score(task.scored, keep_predictions=True)
    trial.feed = replace(trial.feed, stored=DatasetOnDevice.copied(dataset, CPU))
    device = trial.score(task.scored, keep_predictions=True)
    assert np.array_equal(host.confusions, device.confusions)
    assert host.loss == device.loss
    assert all(np.array_equal(one, other) for one, other in zip(host.predictions, device.predictions, strict=True))


def test_images_of_several_sizes_lie_on_the_device_as_on_the_host(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_shapes(tmp_path / "data")
    for name in ("images", "masks"):
        path = sorted((folder / name).glob("*.png"))[1]
        image = Image.open(path)
        image.resize((31, 9), Image.Resampling.NEAREST).save(path)
    dataset, _ = load_dataset(small_config(folder).data)
    stored = DatasetOnDevice.copied(dataset, CPU)
    indices = list(range(len(dataset.items)))
    ours = stored.take_batch(indices, crop=(12, 14), generator=torch.Generator().manual_seed(0))
    theirs = take_batch(dataset, indices, crop=(12, 14), generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))

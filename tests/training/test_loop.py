"""One trial: exact without decay, resumable to the bit, honest when it diverges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shapes import small_config, small_task
from torch import Tensor

from segdecay.data import Dataset, open_dataset
from segdecay.data.transforms.augment import augment
from segdecay.data.transforms.crops import take_batch
from segdecay.decay import group_parameters, optimizer_groups
from segdecay.errors import ModelError
from segdecay.metrics.boundary import read_boundaries
from segdecay.metrics.confusion import image_confusions, read_confusions, scores_of
from segdecay.models.zoo import build_model
from segdecay.training import setup
from segdecay.training.artifacts import read_predictions
from segdecay.training.batches import derive_seed, generator
from segdecay.training.checkpoint import FILE
from segdecay.training.class_weights import pixel_statistics
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.losses import class_weights, logit_adjustment, pixel_cross_entropy
from segdecay.training.optim import learning_rates
from segdecay.training.setup import TrialTask, epoch_batches
from segdecay.training.validate import score_images


def _weights(task: TrialTask) -> dict[str, Tensor]:
    return load_file(task.folder / "model.safetensors")


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def _bare_loop(task: TrialTask, dataset: Dataset) -> dict[str, Tensor]:
    """The same training written plainly with torch alone: AdamW, no regularizer, no Fabric."""
    config = task.config
    torch.manual_seed(derive_seed(task.seed, task.fold, "init"))
    model = build_model(config.model, in_channels=3, classes=3).to(memory_format=torch.channels_last)
    # one flat list: the order is that in which the norm for clipping is summed
    parameters = [p for group in optimizer_groups(group_parameters(model)) for p in group["params"]]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0, fused=True)
    pixels = pixel_statistics(dataset, task.train)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (pixels.mean, pixels.deviation))
    weight = class_weights(str(config.loss.class_weights), pixels.counts, pixels.counts_where_present)
    adjustment = logit_adjustment(config.loss.logit_adjustment, pixels.counts, weight)
    rates = learning_rates(config.schedule, config.optimizer.lr, setup.count_steps(config, len(task.train)))
    step = 0
    for epoch in range(config.training.epochs):
        model.train()
        for batch, indices in enumerate(epoch_batches(task, epoch)):
            draw = generator(task.seed, task.fold, "augment", epoch, batch)
            images, masks = take_batch(dataset, [int(i) for i in indices], crop=None, generator=draw)
            values, masks = augment(images.float(), masks, config=config.augment, flip=dataset.flip, generator=draw)
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            normal = ((values - mean) / deviation).contiguous(memory_format=torch.channels_last)
            loss = pixel_cross_entropy(model(normal), masks, weight, adjustment)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
    return model.state_dict()


@pytest.mark.parametrize("regularizer", ["none", "l2", "decoupled"])
def test_strength_zero_is_bitwise_the_bare_optimizer_through_the_whole_loop(
    tmp_path: Path, shapes: Path, regularizer: str
) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes, decay={"regularizer": regularizer}), value=0.0)
    run_trial(task)
    assert _equal(_weights(task), _bare_loop(task, dataset))


@pytest.mark.parametrize("weights", ["none", "inverse_sqrt"])
def test_an_adjusted_trial_trains_on_the_adjusted_loss_and_predicts_by_bare_logits(
    tmp_path: Path, shapes: Path, weights: str
) -> None:
    config = small_config(shapes, loss={"logit_adjustment": 1.0, "class_weights": weights})
    task, dataset = small_task(tmp_path / "trial", config, value=0.0)
    record = run_trial(task)
    assert _equal(_weights(task), _bare_loop(task, dataset))
    model = build_model(task.config.model, in_channels=3, classes=3)
    model.load_state_dict(_weights(task))
    mean, deviation = (torch.tensor(record.extra[k]).view(1, 3, 1, 1) for k in ("mean", "deviation"))
    pixels = pixel_statistics(dataset, task.train)
    weight = class_weights(weights, pixels.counts, pixels.counts_where_present)
    images, masks = take_batch(dataset, list(task.scored), crop=None, generator=None)
    with torch.inference_mode():
        logits = model.eval()((images.float() - mean) / deviation)
    loss = pixel_cross_entropy(logits, masks, weight, logit_adjustment(1.0, pixels.counts, weight))
    assert record.validation is not None
    assert record.validation.loss == pytest.approx(loss.item(), rel=1e-5)
    matrices = image_confusions(logits.argmax(dim=1), masks, 3).numpy()
    assert np.array_equal(matrices, read_confusions(task.folder / "confusion.npz"))


def test_a_vanishing_strength_goes_the_decaying_path_and_agrees(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes)
    none, dataset = small_task(tmp_path / "none", config, value=0.0)
    rates = learning_rates(config.schedule, config.optimizer.lr, setup.count_steps(config, len(none.train)))
    tiny = replace(none, folder=tmp_path / "tiny", value=1e-12 * sum(rates))
    record = run_trial(tiny)
    run_trial(none)
    assert record.strength.lambda_ == pytest.approx(1e-12)
    assert dataset.bands == 3
    assert _furthest(_weights(none), _weights(tiny)) < 1e-6


def test_strength_pulls_the_weights_down(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes)
    weak, _ = small_task(tmp_path / "weak", config, value=0.0)
    strong = replace(weak, folder=tmp_path / "strong", value=4.0)
    run_trial(weak)
    run_trial(strong)
    norms = [sum(float(v.square().sum()) for n, v in _weights(t).items() if v.ndim == 4) for t in (weak, strong)]
    assert norms[1] < 0.6 * norms[0]


def _stop_after(calls: int) -> Callable[[], bool]:
    left = [calls]

    def stop() -> bool:
        left[0] -= 1
        return left[0] == 0

    return stop


@pytest.mark.parametrize("stops", [[1], [2, 3], [4, 1, 1], [7]])
def test_a_stopped_trial_goes_on_to_bitwise_the_same_result(tmp_path: Path, shapes: Path, stops: list[int]) -> None:
    config = small_config(shapes, model={"width": 4, "depth": 2, "dropout": 0.2})
    unbroken, _ = small_task(tmp_path / "unbroken", config)
    broken = replace(unbroken, folder=tmp_path / "broken")
    expected = run_trial(unbroken)
    for stop in stops:
        with pytest.raises(Interrupted):
            run_trial(broken, stop=_stop_after(stop))
        assert (broken.folder / "checkpoint" / FILE).exists()
    record = run_trial(broken)
    assert _equal(_weights(unbroken), _weights(broken))
    assert replace(record, seconds=0) == replace(expected, seconds=0)
    curves = [
        [{**json.loads(line), "seconds": 0} for line in (t.folder / "curve.jsonl").read_text().splitlines()]
        for t in (unbroken, broken)
    ]
    assert curves[0] == curves[1]
    assert not (broken.folder / "checkpoint").exists()


def test_a_damaged_checkpoint_costs_time_and_no_result(tmp_path: Path, shapes: Path) -> None:
    unbroken, _ = small_task(tmp_path / "unbroken", small_config(shapes))
    broken = replace(unbroken, folder=tmp_path / "broken")
    run_trial(unbroken)
    with pytest.raises(Interrupted):
        run_trial(broken, stop=_stop_after(4))
    path = broken.folder / "checkpoint" / FILE
    path.write_bytes(path.read_bytes()[:1000])
    run_trial(broken)
    assert _equal(_weights(unbroken), _weights(broken))


def test_a_finished_trial_is_read_and_not_trained_again(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes))
    first = run_trial(task)
    stamp = (task.folder / "trial.json").stat().st_mtime_ns
    assert run_trial(task) == first
    assert (task.folder / "trial.json").stat().st_mtime_ns == stamp


def test_another_seed_or_fold_gives_other_weights(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "a", small_config(shapes))
    other = replace(task, folder=tmp_path / "b", seed=1)
    third = replace(task, folder=tmp_path / "c", fold=1)
    fourth = replace(task, folder=tmp_path / "d", config=task.config.model_copy(update={"seed": 1}))
    for one in (task, other, third, fourth):
        run_trial(one)
    assert not _equal(_weights(task), _weights(other))
    assert not _equal(_weights(task), _weights(fourth))  # the seed of the run
    assert not _equal(_weights(task), _weights(third))


def test_a_diverging_loss_ends_the_trial_and_says_when(tmp_path: Path, shapes: Path) -> None:
    config = small_config(
        shapes, optimizer={"name": "sgd", "lr": 1e30}, training={"clip_norm": None}, schedule={"warmup": 0.0}
    )
    task, _ = small_task(tmp_path / "trial", config, value=0.0)
    record = run_trial(task)
    assert record.status == "diverged"
    assert record.validation is None
    assert record.reason is not None
    assert "epoch 1" in record.reason
    assert json.loads((task.folder / "trial.json").read_text())["validation"] is None


def test_the_score_is_that_of_the_last_step(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes))
    record = run_trial(task)
    model = build_model(task.config.model, in_channels=3, classes=3)
    model.load_state_dict(_weights(task))
    mean, deviation = (torch.tensor(record.extra[k]).view(1, 3, 1, 1) for k in ("mean", "deviation"))
    again = score_images(model, dataset, task.scored, mean=mean, deviation=deviation, weight=None, batch_size=1)
    kept = read_confusions(task.folder / "confusion.npz")
    assert np.array_equal(again.confusions, kept)
    edges = read_boundaries(task.folder / "boundary.npz")
    assert record.validation == scores_of(kept, record.validation.loss if record.validation else math.nan, edges)


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_scores_do_not_depend_on_the_validation_batch(tmp_path: Path, shapes: Path, batch_size: int) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes))
    record = run_trial(task)
    model = build_model(task.config.model, in_channels=3, classes=3)
    model.load_state_dict(_weights(task))
    mean, deviation = (torch.tensor(record.extra[k]).view(1, 3, 1, 1) for k in ("mean", "deviation"))
    found = score_images(
        model, dataset, task.scored, mean=mean, deviation=deviation, weight=None, batch_size=batch_size
    )
    assert np.array_equal(found.confusions, read_confusions(task.folder / "confusion.npz"))


def test_the_curve_holds_both_terms_of_the_objective(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes))
    record = run_trial(task)
    lines = [json.loads(line) for line in (task.folder / "curve.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["objective"] == pytest.approx(line["loss"] + line["penalty"])
    weights = _weights(task)
    decayed = sum(float(v.double().square().sum()) for n, v in weights.items() if v.ndim == 4)
    assert lines[-1]["penalty"] == pytest.approx((record.strength.lambda_ or 0) * decayed / 2, rel=1e-5)
    assert lines[-1]["validation_miou"] == pytest.approx(record.validation.miou if record.validation else math.nan)


def test_accumulated_micro_batches_make_one_step(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes, training={"batch_size": 2, "accumulate": 3})
    task, _ = small_task(tmp_path / "trial", config)
    # 12 images in 6 micro-batches of 2: two steps an epoch, three epochs
    assert run_trial(task).steps == 6


def test_predictions_are_kept_for_the_examples(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes), keep_model=False)
    run_trial(task)
    index = task.scored[0]
    mask = read_predictions(task.folder, index)
    assert mask.shape == dataset.mask(index).shape
    hits = np.diag(read_confusions(task.folder / "confusion.npz")[0]).sum()
    assert hits == (mask == dataset.mask(index)).sum()


def test_a_batch_of_one_with_batch_norm_is_explained(tmp_path: Path, shapes: Path) -> None:
    config = small_config(
        shapes, model={"name": "smp:DeepLabV3", "width": None, "depth": None}, training={"batch_size": 1}
    )
    task, _ = small_task(tmp_path / "trial", config)
    with pytest.raises(ModelError, match=r"batch of 1 image.*batch_size of 2 or more"):
        run_trial(task)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_trains(tmp_path: Path, shapes: Path, precision: str) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes, training={"precision": precision}))
    assert run_trial(task).status == "finished"


def test_statistics_are_those_of_numpy(shapes: Path) -> None:
    task, dataset = small_task(Path("unused"), small_config(shapes))
    found = pixel_statistics(open_dataset(task.dataset), task.train)
    stack = np.stack([dataset.image(i) for i in task.train]).reshape(-1, 3).astype(np.float64)
    assert found.mean == pytest.approx(tuple(stack.mean(0)))
    assert found.deviation == pytest.approx(tuple(stack.std(0)))
    masks = np.stack([dataset.mask(i) for i in task.train])
    assert found.counts.tolist() == [int((masks == c).sum()) for c in range(3)]

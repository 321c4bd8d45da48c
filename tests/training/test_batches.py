"""Training batches with class-aware crops and copy-paste: resumable, of training images only, refused where idle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shapes import small_config, small_task

from segdecay.config.schema import parse_config, to_plain
from segdecay.data import Dataset
from segdecay.data.dataset import class_pixels
from segdecay.errors import ConfigError
from segdecay.training.batches import build_draws, check_draws, pasted_classes, training_batch
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.preflight import run_preflight
from segdecay.training.setup import TrialTask

ON = {"crop": [12, 12], "class_crops": 0.5, "copy_paste": 0.5, "flip": "both"}


def task_of(folder: Path, data: Path, **augment: Any) -> tuple[TrialTask, Dataset]:
    return small_task(folder, small_config(data, augment=augment))


def batch_of(
    task: TrialTask, dataset: Dataset, indices: list[int], batch: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    augment = task.config.augment
    draws = build_draws(augment, dataset, task.train, seed=0, fold=0)
    return training_batch(augment, dataset, task.train, indices, draws, drawn_from=(0, 0), at=(0, batch))


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_stopped_trial_with_both_goes_on_to_bitwise_the_same_weights(
    tmp_path: Path, shapes: Path, stop_after: int
) -> None:
    whole, _ = task_of(tmp_path / "whole", shapes, **ON)
    expected = run_trial(whole)
    broken = replace(whole, folder=tmp_path / "broken")
    steps = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_trial(broken, stop=lambda: next(steps) >= stop_after)
    found = run_trial(broken)
    assert found.validation == expected.validation
    one, other = (load_file(folder / "model.safetensors") for folder in (whole.folder, broken.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_epoch_has_as_many_steps_as_without(tmp_path: Path, shapes: Path) -> None:
    plain, mixed = (run_trial(task_of(tmp_path / name, shapes, **on)[0]) for name, on in (("a", {}), ("b", ON)))
    assert plain.steps == mixed.steps
    assert plain.strength == mixed.strength


def test_both_look_at_training_images_only(tmp_path: Path, shapes: Path) -> None:
    task, dataset = task_of(tmp_path / "trial", shapes, **ON)
    draws = build_draws(task.config.augment, dataset, task.train, seed=0, fold=0)
    assert draws.places is not None
    assert {int(image) for one in draws.places for image in one.images} <= set(task.train)
    sources = {one.image for own in draws.instances.values() for one in own}
    assert sources
    assert sources <= set(task.train)


def test_only_rare_classes_are_pasted_unless_others_are_named(tmp_path: Path, shapes: Path) -> None:
    task, dataset = task_of(tmp_path / "trial", shapes, copy_paste=0.5)
    rare = build_draws(task.config.augment, dataset, task.train, seed=0, fold=0).instances
    assert 0 not in rare
    named = task.config.augment.model_copy(update={"copy_paste_classes": ("bright", "dark")})
    assert set(build_draws(named, dataset, task.train, seed=0, fold=0).instances) == {1, 2}


def test_the_largest_class_is_not_pasted_even_where_it_is_named(tmp_path: Path, shapes: Path) -> None:
    task, dataset = task_of(tmp_path / "trial", shapes, copy_paste=0.5, copy_paste_classes=["ground", "dark"])
    assert pasted_classes(task.config.augment, dataset, task.train) == (2,)


def test_windows_drawn_by_class_hold_their_pixel(tmp_path: Path, shapes: Path) -> None:
    """Two of three classes are rare, so two of three windows hold one; of windows drawn anywhere, 42 %."""
    task, dataset = task_of(tmp_path / "trial", shapes, crop=[2, 2], class_crops=1.0)
    masks = torch.cat([batch_of(task, dataset, list(task.train), batch)[1] for batch in range(40)])
    assert float((masks > 0).flatten(1).any(dim=1).float().mean()) > 0.62


def test_switches_that_draw_nothing_leave_every_other_draw_as_it_is(tmp_path: Path, shapes: Path) -> None:
    plain, dataset = task_of(tmp_path / "a", shapes, crop=[12, 12], flip="both")
    never, _ = task_of(tmp_path / "b", shapes, crop=[12, 12], flip="both", class_crops=1e-12, copy_paste=1e-12)
    one, other = batch_of(plain, dataset, [0, 1, 2, 3]), batch_of(never, dataset, [0, 1, 2, 3])
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_each_of_them_changes_the_batches_and_batches_differ(tmp_path: Path, shapes: Path) -> None:
    plain, dataset = task_of(tmp_path / "a", shapes, crop=[12, 12])
    bare = batch_of(plain, dataset, [0, 1, 2, 3])
    for switch in ("class_crops", "copy_paste"):
        task, _ = task_of(tmp_path / switch, shapes, crop=[12, 12], **{switch: 1.0})
        one, other = (batch_of(task, dataset, [0, 1, 2, 3], batch) for batch in (0, 1))
        assert one[0].shape == bare[0].shape
        assert not torch.equal(one[1], bare[1])
        assert not torch.equal(one[1], other[1])


def test_what_is_pasted_is_seen_in_more_pixels_of_the_class(tmp_path: Path, shapes: Path) -> None:
    plain, dataset = task_of(tmp_path / "a", shapes)
    pasting, _ = task_of(tmp_path / "b", shapes, copy_paste=1.0, copy_paste_classes=["bright"])
    before, after = (
        np.sum([(batch_of(task, dataset, list(task.train[:8]), b)[1] == 1).sum() for b in range(5)])
        for task in (plain, pasting)
    )
    assert after > 1.5 * before


@pytest.mark.parametrize(
    ("augment", "text"),
    [
        ({"class_crops": 0.5}, r"class_crops=0.5 has no effect: images are taken whole, and each of the \d+ training"),
        ({"copy_paste": 0.5, "copy_paste_classes": ["brigth"]}, r"copy_paste_classes: .*brigth.*bright"),
        ({"copy_paste": 0.5, "copy_paste_classes": ["ground"]}, r"names ground, the largest class"),
        ({"copy_paste": 0.5, "copy_paste_least_px": 200}, r"copy_paste=0.5 has no effect: no component of a class"),
    ],
)
def test_what_can_do_nothing_or_harm_is_refused_before_a_search(
    tmp_path: Path, shapes: Path, augment: dict[str, Any], text: str
) -> None:
    task, dataset = task_of(tmp_path / "trial", shapes, **augment)
    holds_all = (class_pixels(dataset, task.train) > 0).all(axis=1)
    task = replace(task, train=tuple(np.flatnonzero(holds_all).tolist()))
    with pytest.raises(ConfigError, match=text):
        run_preflight(task)


def test_what_can_work_is_not_refused(tmp_path: Path, shapes: Path) -> None:
    task, dataset = task_of(tmp_path / "trial", shapes, **ON)
    draws = build_draws(task.config.augment, dataset, task.train, seed=0, fold=0)
    assert check_draws(task.config.augment, dataset, task.train, draws) == []
    assert run_preflight(task).tensors > 0


def test_the_keys_are_part_of_the_run_and_strict() -> None:
    config = parse_config({"data": {"path": "x"}, "augment": {"class_crops": 0.5, "copy_paste_classes": ["pole"]}})
    assert parse_config(to_plain(config)) == config
    assert to_plain(config)["augment"]["class_crops"] == 0.5
    with pytest.raises(ConfigError, match=r"augment.class_crop'.*Did you mean 'class_crops'"):
        parse_config({"data": {"path": "x"}, "augment": {"class_crop": 0.5}})
    with pytest.raises(ConfigError, match=r"augment.copy_paste: "):
        parse_config({"data": {"path": "x"}, "augment": {"copy_paste": 1.5}})

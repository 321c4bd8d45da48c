"""A transform of the user's: seeded a sample, repeatable with any number of workers, and held to what it may change."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command
from shapes import small_config, small_task, write_shapes
from user_transforms import Composed, shift, with_seed

import segdecay as package
from segdecay.data.transforms.user import UserTransform, check_repeatable, transform_name
from segdecay.errors import ConfigError, DataError, ModelError
from segdecay.training.loop import run_trial
from segdecay.utils.files import read_json

IMAGES = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MASKS = torch.randint(0, 2, (6, 8, 8), generator=torch.Generator().manual_seed(1)) * 2
OPTIONS: dict[str, Any] = {
    "epochs": 2, "set": {"model.width": 4, "model.depth": 2, "training.batch_size": 4}, "device": "cpu", "quiet": True,
}  # fmt: skip


def named(function: Callable[..., Any]) -> UserTransform:
    return UserTransform(function, transform_name(function))


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [shift, with_seed, Composed(8)], ids=["globals", "seed", "composed"])
def test_a_sample_depends_on_its_own_seed_alone(function: Any) -> None:
    transform = named(function)
    whole = transform.apply(IMAGES, MASKS, range(6))
    for number in (5, 0, 3):
        alone = transform.apply(IMAGES[number : number + 1], MASKS[number : number + 1], [number])
        assert torch.equal(alone[0][0], whole[0][number])
        assert torch.equal(alone[1][0], whole[1][number])
    assert not torch.equal(whole[0], transform.apply(IMAGES, MASKS, range(6, 12))[0])
    assert check_repeatable(transform, IMAGES, MASKS) == []
    assert whole[0].is_contiguous()


def test_generators_of_the_session_go_on_as_if_nothing_had_been_drawn() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002

    found = []
    for change in (False, True):
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        if change:
            named(shift).apply(IMAGES, MASKS, range(6))
        found.append(draws())
    assert found[0] == found[1]


def test_a_generator_that_cannot_be_seeded_is_refused() -> None:
    own = np.random.default_rng(0)

    def drawn(image: Any, mask: Any) -> tuple[Any, Any]:
        return image + np.uint8(own.integers(2)), mask

    (fault,) = check_repeatable(named(drawn), IMAGES, MASKS)
    assert "drawn gives other images under the same seed" in fault
    assert "give it a parameter `seed`" in fault


# --- what may change --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda image, mask: (image, mask // 2), r"the mask held 0, 2, now it holds 1, too.*fill_mask"),
        (lambda image, mask: (image, mask[:4]), r"the mask was \(8, 8\), now it is \(4, 8\); the size must stay"),
        (lambda image, mask: (image[:4], mask), r"the image was \(8, 8, 3\), now it is \(4, 8, 3\)"),
        (lambda image, mask: (image / 255, mask), r"the image was uint8, now it is float64; leave normalisation"),
        (lambda image, mask: (image.transpose(2, 0, 1), mask), r"Bands stay last: leave ToTensorV2"),
        (lambda image, mask: (image, mask * 0.75), r"float64 with fractions: resample it by the nearest pixel"),
        (lambda image, mask: (image, mask.astype(int) - 1), r"now it holds -1, 1, too"),
        (lambda **data: data["image"], r"returned ndarray; a pair \(image, mask\) or a mapping"),
        (lambda **data: {"image": data["image"]}, r"returned a mapping of image; a pair"),
        (lambda image: (image, image), r"raised TypeError: .*unexpected keyword argument 'mask'"),
        (lambda **data: 1 / (len(data) - 2), r"raised ZeroDivisionError"),
    ],
)
def test_what_it_may_not_change_is_refused_by_name_with_what_was_seen(function: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s)lambda.*{said}"):
        named(function).apply(IMAGES, MASKS, range(6))


def test_ignored_pixels_tensors_and_whole_floats_are_taken() -> None:
    def bordered(image: Any, mask: Any) -> tuple[Any, Any]:
        mask[0] = 255
        return torch.from_numpy(image), mask.astype(np.float32)

    images, masks = named(bordered).apply(IMAGES, MASKS, range(6))
    assert torch.equal(images, IMAGES)
    assert (masks[:, 0] == 255).all()
    assert torch.equal(masks[:, 1:], MASKS[:, 1:])


def test_labels_of_images_go_by_it() -> None:
    def flipped(image: Any) -> Any:
        return image[:, ::-1]

    images, labels = named(flipped).apply(IMAGES, MASKS[:, :1, :1], range(6))
    assert torch.equal(images, IMAGES.flip(-1))
    assert torch.equal(labels, MASKS[:, :1, :1])


def test_names_tell_settings_apart() -> None:
    assert transform_name(shift).endswith("user_transforms.shift")
    assert transform_name(Composed(8)) == transform_name(Composed(8)) != transform_name(Composed(7))


# --- in trainings -----------------------------------------------------------------------------------------------------


def test_a_training_is_the_same_to_the_bit_after_an_interruption(tmp_path: Path) -> None:
    from segdecay.training.loop import Interrupted

    config = small_config(write_shapes(tmp_path / "shapes"))
    plain, _ = small_task(tmp_path / "plain", config)
    whole, _ = small_task(tmp_path / "whole", config, transform=named(shift))
    halved, _ = small_task(tmp_path / "halved", config, transform=named(shift), checkpoint_every_s=0.0)
    expected = run_trial(whole)
    steps = iter([False] * 4 + [True])
    with pytest.raises(Interrupted):
        run_trial(halved, stop=lambda: next(steps))
    assert run_trial(halved).validation == expected.validation != run_trial(plain).validation
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "halved")]
    assert weights[0] == weights[1]


def test_workers_and_this_process_train_the_same(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=8)
    found = [
        package.train(data, out=tmp_path / str(workers), strength=0, transform=Composed(8), workers=workers, **OPTIONS)
        for workers in (0, 1)
    ]
    assert found[0].record.validation == found[1].record.validation
    assert found[0].record.train == found[1].record.train
    assert (found[0].model / "model.safetensors").read_bytes() == (found[1].model / "model.safetensors").read_bytes()


def test_by_name_on_the_command_line_and_from_python(
    segdecay: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=8)
    (tmp_path / "my_changes.py").write_text(
        "import numpy as np\ndef turned(image, mask):\n    n = np.random.randint(4)\n"
        "    return np.rot90(image, n), np.rot90(mask, n)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = ("--set", "model.width=4", "--set", "model.depth=2", "--set", "training.batch_size=4", "--epochs", "2")
    name = "my_changes:turned"
    segdecay("train", data, "--strength", 0, "--out", "a", *keys, "--transform", name, "--device", "cpu", "--quiet")
    done = package.train(data, out="b", strength=0, transform=name, workers=0, **OPTIONS)
    kept = read_json(tmp_path / "a" / "refit" / "chosen" / "trial.json")
    assert kept["validation"] == read_json(done.run / "refit" / "chosen" / "trial.json")["validation"]
    assert f"transform: {name}" in (tmp_path / "a" / "run.yaml").read_text()
    said = segdecay("train", data, "--strength", 0, "--out", "c", *keys, "--transform", "my_changes:turnd", code=2).err
    assert "--transform my_changes:turnd: my_changes has no function 'turnd'. Did you mean 'turned'?" in said
    assert not (tmp_path / "c").exists()


def test_faults_are_told_before_anything_is_written(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=8)

    def tried(transform: Any) -> None:
        package.train(data, out=tmp_path / "run", strength=0, transform=transform, workers=0, **OPTIONS)

    with pytest.raises(DataError, match="the size must stay"):
        tried(lambda image, mask: (image[::2], mask[::2]))
    with pytest.raises(ConfigError, match="transform= takes a callable"):
        tried(3)
    with pytest.raises(ModelError, match="no_such_module cannot be imported"):
        tried("no_such_module:x")
    with pytest.raises(ConfigError, match="is a callable that was given in Python"):
        package.train(
            data, out=tmp_path / "run", strength=0, workers=0, **OPTIONS | {"set": {"augment.transform": "a.b"}}
        )
    assert not (tmp_path / "run").exists()


def test_another_transform_is_another_run(tmp_path: Path) -> None:
    from segdecay.errors import RunError

    data = write_shapes(tmp_path / "shapes", n_images=8)
    package.train(data, out=tmp_path / "run", strength=0, transform=Composed(8), workers=0, **OPTIONS)
    with pytest.raises(RunError, match=r"augment\.transform"):
        package.train(data, out=tmp_path / "run", strength=0, transform=Composed(7), workers=0, **OPTIONS)


def test_one_that_workers_cannot_get_trains_in_this_process_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=8)
    options = OPTIONS | {"quiet": False}
    package.train(
        data, out=tmp_path / "run", strength=0, transform=lambda image, mask: (image, mask), workers=2, **options
    )
    said = capsys.readouterr().out
    assert "Trainings run in this process, one after the other, because of" in said
    assert "<lambda>: it cannot be pickled" in said


@pytest.mark.filterwarnings("ignore:Error fetching version info")
def test_a_compose_of_albumentations_is_repeatable_and_its_fill_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    albumentations = pytest.importorskip("albumentations")
    good = albumentations.Compose(
        [
            albumentations.RandomRotate90(),
            albumentations.Affine(rotate=(-30, 30), fill_mask=255, p=1.0),
            albumentations.RandomBrightnessContrast(p=1.0),
        ]
    )
    assert check_repeatable(named(good), IMAGES, MASKS) == []
    assert transform_name(good).startswith("albumentations.core.composition.Compose ")
    ones = torch.ones_like(MASKS)
    filled = albumentations.Compose([albumentations.Affine(rotate=(30, 60), fill_mask=0, p=1.0)])
    with pytest.raises(DataError, match=r"the mask held 1, now it holds 0, too.*fill_mask"):
        named(filled).apply(IMAGES, ones, range(6))

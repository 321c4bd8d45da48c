"""A map-style Dataset of pairs is written once into the cache, and is then a folder like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import segdecay
from segdecay.config.schema import parse_config
from segdecay.data import load_dataset
from segdecay.data.map_dataset import folder_of
from segdecay.errors import ConfigError, DataError

COUNT = 12


class Squares(Dataset[Any]):
    """Pairs as tensors; `changed` alters what one of them returns."""

    classes = ("ground", "square")

    def __init__(self, count: int = COUNT, changed: dict[str, Any] | None = None) -> None:
        self.count, self.changed, self.reads = count, changed or {}, 0

    def __len__(self) -> int:
        self.reads += 1
        return self.count + (1 if self.changed.get("grows") and self.reads > 1 else 0)

    def __getitem__(self, index: int) -> Any:
        random = np.random.default_rng(None if self.changed.get("random") else index)
        image = random.integers(60, 120, (3, 16, 16)).astype(np.uint8)
        mask = np.zeros((16, 16), np.int64)
        top = int(random.integers(0, 10))
        image[:, top : top + 6, 4:10] = 230
        mask[top : top + 6, 4:10] = 1
        mask[0, 0] = 255
        return self.changed.get(f"item {index}", (torch.from_numpy(image), torch.from_numpy(mask)))


def test_files_hold_what_the_dataset_holds(tmp_path: Path) -> None:
    groups = [number // 2 for number in range(COUNT)]
    folder = folder_of(Squares(), tmp_path, groups=groups)
    found, _ = load_dataset(parse_config({"data": {"path": str(folder)}}).data)
    assert found.classes == ("ground", "square")
    assert [item.group for item in found.items] == [str(group) for group in groups]
    for number in (0, 5, COUNT - 1):
        image, mask = Squares()[number]
        np.testing.assert_array_equal(found.image(number), image.numpy().transpose(1, 2, 0))
        np.testing.assert_array_equal(found.mask(number), mask.numpy())
    assert folder_of(Squares(), tmp_path, groups=groups) == folder  # the same content is the same folder
    assert folder_of(Squares(COUNT - 1), tmp_path) != folder
    assert len(list(tmp_path.iterdir())) == 2  # nothing unfinished is left


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((4, 5), 7, np.uint8), (4, 5, 1)),
        (np.full((4, 5, 3), 0.5), (4, 5, 3)),
        (torch.full((1, 4, 5), 0.25), (4, 5, 1)),
        (torch.zeros((6, 4, 5), dtype=torch.uint8), (4, 5, 6)),
        (Image.new("RGB", (5, 4)), (4, 5, 3)),
    ],
)
def test_images_of_many_kinds(image: Any, expected: tuple[int, ...], tmp_path: Path) -> None:
    mask = np.zeros((4, 5), np.uint8)
    mask[0, 0] = 1
    folder = folder_of([(image, mask), (image, mask)], tmp_path, classes=["a", "b"])
    found, _ = load_dataset(parse_config({"data": {"path": str(folder)}}).data)
    assert found.image(0).shape == expected


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            Squares(changed={"random": True}),
            "another pair when it was read again. Leave random transforms and shuffling out",
        ),
        (Squares(changed={"grows": True}), "its length must not change"),
        (Squares(1), "has 1 items; at least 2"),
        (Squares(changed={"item 3": torch.zeros(3)}), "item 3: saw a Tensor, not a pair"),
        (Squares(changed={"item 3": (torch.randn(3, 16, 16), 0)}), "Leave normalisation out"),
        (
            Squares(changed={"item 2": (torch.zeros(3, 16, 16), torch.zeros(8, 8, dtype=torch.long))}),
            r"mask is \(8, 8\)",
        ),
        (Squares(changed={"item 2": (torch.zeros(3, 16, 16), torch.zeros(16, 16))}), "mask is float32"),
        (Squares(changed={"item 2": (torch.zeros(3, 16, 16), torch.full((16, 16), -1))}), r"mask holds \[-1\]"),
        (Squares(changed={"item 2": (torch.zeros(3, 16, 16, dtype=torch.int32), None)}), "image is int32"),
    ],
)
def test_what_is_no_such_dataset_is_told_and_leaves_nothing(dataset: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        folder_of(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_faults_of_all_items_are_in_one_message(tmp_path: Path) -> None:
    bad = {f"item {number}": (torch.zeros(3, 16, 16), None) for number in range(5)}
    with pytest.raises(DataError, match=r"(?s)item 0:.*item 1:.*item 2:.*and 2 more"):
        folder_of(Squares(changed=bad), tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": [1, 2]}, "groups= takes one for each of the 12 images; saw 2"),
        ({"classes": ["only"]}, "names of 2 classes are needed"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(options: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        segdecay.train(Squares(), out=tmp_path / "run", strength=0, workers=0, quiet=True, **options)
    with pytest.raises(ConfigError, match="describe a Dataset"):
        segdecay.train("digits", out=tmp_path / "run", strength=0, workers=0, quiet=True, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_trained_on_and_its_folder_serves_the_command(tmp_path: Path) -> None:
    keys = {"model.width": 4, "model.depth": 2, "training.batch_size": 4}
    options: dict[str, Any] = {"strength": 0, "epochs": 1, "set": keys, "workers": 0, "device": "cpu", "quiet": True}
    done = segdecay.train(Squares(), out=tmp_path / "run", cache=tmp_path / "cache", **options)
    assert done.load().classes == ("ground", "square")
    again = segdecay.train(
        Squares(), out=tmp_path / "run", cache=tmp_path / "cache", **options
    )  # nothing is left to do
    assert again.record == done.record
    (description,) = (tmp_path / "cache").glob("given-*/dataset.yaml")
    assert not segdecay.check(description.parent, quiet=True).is_wrong


def test_confusion_is_counted_by_hand() -> None:
    scores = torch.tensor([[[[0.9, 0.2, 0.1]], [[0.1, 0.8, 0.9]]]])  # (1, 2, 1, 3): 0, 1, 1
    for masks in (torch.tensor([[[0, 0, 255]]]), np.array([[[0, 0, 255]]]), torch.tensor([[[[0, 0, 255]]]])):
        for predicted in (scores, scores.argmax(dim=1), scores.numpy()):
            assert segdecay.confusion(predicted, masks, ["a", "b"]).tolist() == [[[1, 1], [0, 0]]]


@pytest.mark.parametrize(
    ("predicted", "masks", "said"),
    [
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), r"\(N, 2, H, W\) is needed for 2 classes"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), r"(?s)predictions are torch.float32.*masks are torch.float32"),
        (torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 3, dtype=torch.long), "of the same images"),
        (
            torch.full((1, 2, 2), 2),
            torch.zeros(1, 2, 2, dtype=torch.long),
            "predictions hold 2 to 2; classes are 0 to 1",
        ),
        (torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), -1), "masks hold -1"),
    ],
)
def test_confusion_refuses_what_does_not_fit(predicted: Any, masks: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        segdecay.confusion(predicted, masks, 2)

"""Copy-paste: only rare classes, only from training images, never over ignored pixels, image and mask alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data import IGNORE, Dataset, load_dataset
from segdecay.data.transforms.copy_paste import Instances, cut_out, find_instances, paste_, rare_classes

torch.set_num_threads(1)
U8 = npt.NDArray[np.uint8]
N = 8
SIDE = 32


@pytest.fixture(scope="module")
def poles(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images of 32x32: ground, a road below, an L of pole in every second image, its corner marked; blue = number.

    Red is 10 times the class, so what is pasted shows whether image and mask went together. A row is ignored.
    """
    root = tmp_path_factory.mktemp("poles")
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for i in range(N):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[20:] = 1
        if i % 2 == 0:
            mask[4:11, 4 + i] = 2
            mask[11, 5 + i : 10 + i] = 2  # 12 px, joined at a corner
            mask[2, 2] = 2  # a speck
        mask[14] = IGNORE
        image = np.stack([10 * (mask % IGNORE), np.full_like(mask, 7), np.full_like(mask, 20 * i)], axis=-1)
        Image.fromarray(image).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    (root / "dataset.yaml").write_text(
        "images: images\nmasks: masks\nclasses: [ground, road, pole]\nignore: [255]\n", encoding="utf-8"
    )
    config = DataConfig.model_validate({"path": str(root)})
    return load_dataset(config, cache=tmp_path_factory.mktemp("cache"))[0]


def found_in(dataset: Dataset, indices: list[int], least_px: int = 5) -> Instances:
    return find_instances(dataset, indices, [2], least_px=least_px, random=np.random.default_rng(0))


def pasted(
    dataset: Dataset, instances: Instances, targets: list[int], *, share: float = 1.0, flip: str = "none", seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([torch.from_numpy(dataset.image(i).transpose(2, 0, 1).copy()) for i in targets])
    masks = torch.stack([torch.from_numpy(dataset.mask(i).astype(np.int64)) for i in targets])
    generator = torch.Generator().manual_seed(seed)
    paste_(images, masks, targets, dataset, instances, share=share, flip=flip, generator=generator)
    return images, masks


def test_rare_classes_lie_below_the_median_and_absent_ones_do_not_count() -> None:
    assert rare_classes(np.array([900, 50, 30, 0, 20])) == (2, 4)
    assert rare_classes(np.array([900, 50])) == (1,)
    assert rare_classes(np.array([50, 50])) == ()
    assert rare_classes(np.array([0, 50])) == ()


def test_instances_are_the_components_of_the_class_that_are_large_enough(poles: Dataset) -> None:
    own = found_in(poles, list(range(N)))[2]
    assert sorted(one.image for one in own) == [0, 2, 4, 6]
    assert {(one.height, one.width) for one in own} == {(8, 6)}
    assert len(found_in(poles, list(range(N)), least_px=1)[2]) == 8
    assert found_in(poles, [1, 3]) == {}


def test_a_cut_is_the_component_alone(poles: Dataset) -> None:
    one = found_in(poles, [0])[2][0]
    pixels, part = cut_out(poles, one)
    assert part.sum() == 12
    assert (pixels[part][:, 0] == 20).all()
    assert (pixels[~part][:, 0] == 0).all()


def test_a_component_within_the_box_of_another_is_left_out(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:8, 2] = mask[7, 2:8] = 1
    mask[3, 5:7] = 1  # inside the box of the L, not of it
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "set" / kind / "a.png")
    (tmp_path / "set" / "classes.txt").write_text("ground\npole\n")
    dataset, _ = load_dataset(DataConfig.model_validate({"path": str(tmp_path / "set")}), cache=tmp_path / "cache")
    random = np.random.default_rng(0)
    (one,) = find_instances(dataset, [0], [1], least_px=5, random=random)[1]
    assert cut_out(dataset, one)[1].sum() == 11


def test_an_instance_that_covers_much_of_its_image_is_left_out(poles: Dataset) -> None:
    assert find_instances(poles, [0], [1], least_px=20, random=np.random.default_rng(0)) == {}


@given(st.integers(0, 10_000), st.sampled_from(["none", "horizontal", "both"]))
@settings(max_examples=40, deadline=None)
def test_image_and_mask_are_pasted_onto_alike_and_ignored_pixels_stay(poles: Dataset, seed: int, flip: str) -> None:
    targets = [1, 3, 5]
    images, masks = pasted(poles, found_in(poles, list(range(N))), targets, flip=flip, seed=seed)
    for image, mask, index in zip(images, masks, targets, strict=True):
        before = torch.from_numpy(poles.mask(index).astype(np.int64))
        changed = mask != before
        assert bool(changed.any())
        assert set(mask[changed].tolist()) == {2}
        assert torch.equal(mask == IGNORE, before == IGNORE)
        assert torch.equal(image[0][mask != IGNORE].long(), 10 * mask[mask != IGNORE])
        assert bool((image[2][mask != 2] == 20 * index).all())  # nothing but the class came over
        assert 20 * index not in set(image[2][mask == 2].tolist())


def test_an_image_never_gets_its_own_instances(poles: Dataset) -> None:
    for seed in range(20):
        images, _ = pasted(poles, found_in(poles, [0]), [0], seed=seed)
        assert torch.equal(images[0], torch.from_numpy(poles.image(0).transpose(2, 0, 1).copy()))


def test_only_the_images_given_are_sources(poles: Dataset) -> None:
    instances, sources = found_in(poles, [0, 2, 3]), set()
    for seed in range(30):
        images, masks = pasted(poles, instances, [1, 5], seed=seed)
        sources |= set((images[:, 2][masks == 2] // 20).tolist())
    assert sources == {0, 2}


def test_the_share_is_that_of_images_and_none_changes_nothing(poles: Dataset) -> None:
    instances = found_in(poles, list(range(N)))
    targets = [1] * 400
    _, masks = pasted(poles, instances, targets, share=0.3)
    touched = (masks == 2).flatten(1).any(dim=1).float().mean()
    assert 0.23 < float(touched) < 0.37
    _, masks = pasted(poles, instances, targets, share=0.0)
    assert not bool((masks == 2).any())


def test_instances_are_moved_and_mirrored_only_where_allowed(poles: Dataset) -> None:
    shapes: dict[str, set[str]] = {"none": set(), "horizontal": set(), "both": set()}
    tops = set()
    for flip, seen in shapes.items():
        for seed in range(60):
            _, masks = pasted(poles, found_in(poles, [0]), [1], flip=flip, seed=seed)
            rows, columns = np.nonzero((masks[0] == 2).numpy())
            tops.add(int(rows.min()))
            part = (masks[0] == 2).numpy()[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            if part.sum() == 12:
                seen.add(np.array2string(part.astype(int)))
    assert [len(seen) for seen in shapes.values()] == [1, 2, 4]
    assert len(tops) > 5


def test_the_result_depends_on_the_generator_only(poles: Dataset) -> None:
    instances = found_in(poles, list(range(N)))
    one, again, other = (pasted(poles, instances, [1, 3], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[1], other[1])


def test_an_instance_larger_than_the_window_is_not_pasted(poles: Dataset) -> None:
    images, masks = torch.zeros(1, 3, 6, 6, dtype=torch.uint8), torch.zeros(1, 6, 6, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    paste_(images, masks, [1], poles, found_in(poles, [0]), share=1.0, flip="none", generator=generator)
    assert not bool(masks.any())

"""Images that are the same, or nearly so, where folds or the test part tell them apart."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from data_folder import Folder
from PIL import Image

from segdecay.data.images.perceptual_hash import ALIKE, alike_pairs, content_of

U8 = npt.NDArray[np.uint8]
HALVES = np.repeat(np.array([[0, 1]], dtype=np.uint8), 32, axis=1).repeat(48, axis=0)


def scene(seed: int) -> U8:
    """A picture (48, 64, 3) with blobs that no other seed gives."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC))


def recoded(pixels: U8) -> U8:
    """The same picture after a coarse JPEG, darker."""
    stream = io.BytesIO()
    Image.fromarray((pixels * 0.8).astype(np.uint8)).save(stream, format="JPEG", quality=40)
    return np.asarray(Image.open(stream))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "set")
    for number, name in enumerate("abc"):
        made.image(name, scene(number))
        made.mask(name, HALVES)
    return made


def cosine(one: U8, other: U8) -> float:
    left, right = content_of(one).pattern, content_of(other).pattern
    assert left is not None
    assert right is not None
    return float(left @ right)


@pytest.mark.parametrize("seed", range(5))
def test_a_pattern_outlives_compression_size_and_light_but_no_other_scene(seed: int) -> None:
    pixels = scene(seed)
    small = np.asarray(Image.fromarray(pixels).resize((40, 34)))
    assert cosine(pixels, recoded(pixels)) > ALIKE
    assert cosine(pixels, small) > ALIKE
    assert cosine(pixels, pixels[:, ::-1]) < 0.6
    assert cosine(pixels, scene(seed + 1)) < 0.6


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
def test_any_number_of_bands_has_a_pattern(bands: int) -> None:
    pixels = np.repeat(scene(0)[..., :1], bands, axis=2)
    assert cosine(pixels, scene(0)[..., :1]) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(32, 32, 1), (47, 333, 3), (300, 260, 12)])
def test_a_pattern_is_the_slopes_of_the_means_of_its_trials(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, shape[2]), dtype=np.uint8)
    pixels = pixels.repeat(shape[0] // 16 + 1, axis=0).repeat(shape[1] // 16 + 1, axis=1)[: shape[0], : shape[1]]
    step = max(1, min(shape[:2]) // 128)
    grey = pixels[::step, ::step].mean(axis=2)
    tops, lefts = ([side * trial // 16 for trial in range(17)] for side in grey.shape)
    trials = np.array([[grey[a:b, c:d].mean() for c, d in pairwise(lefts)] for a, b in pairwise(tops)])
    slopes = np.concatenate([np.diff(trials, axis=axis).ravel() for axis in (0, 1)])
    found = content_of(pixels).pattern
    assert found is not None
    np.testing.assert_allclose(found, slopes / np.linalg.norm(slopes), atol=1e-6)


def test_one_pixel_more_is_another_content() -> None:
    pixels = scene(0).copy()
    before = content_of(pixels)
    pixels[5, 7, 1] ^= 1
    assert content_of(pixels).digest != before.digest
    assert content_of(scene(0)).digest == before.digest


def test_flat_noisy_and_tiny_images_have_no_pattern() -> None:
    noise = np.random.default_rng(0).integers(118, 122, (64, 64, 3), dtype=np.uint8)
    assert content_of(np.full((64, 64, 3), 7, dtype=np.uint8)).is_flat
    assert content_of(noise).pattern is None
    assert content_of(scene(0)[:8, :8]).pattern is None


def test_nearly_equal_images_of_two_groups_are_shown_with_the_lines_to_write(folder: Folder) -> None:
    assert folder.findings() == {}
    folder.image("c", recoded(scene(0)))
    finding = folder.findings()["near_duplicate_groups"]
    assert finding.level == "warning"
    assert finding.message == (
        "1 pair of images look nearly the same, in two groups: a ~ c. Folds may train on one and score the other: look "
        "at them; if they show the same, remove one or give both one group (in groups.csv, where every image has a "
        "line name,group: a,a and c,a)."
    )
    (folder.root / "groups.csv").write_text("name,group\na,a\nb,b\nc,a\n")
    assert folder.findings() == {}


def test_nearly_equal_images_in_training_and_test_are_shown(folder: Folder) -> None:
    folder.image("c", recoded(scene(0)))
    (folder.root / "groups.csv").write_text("name,group,split\na,a,train\nb,b,train\nc,c,test\n")
    found = folder.findings()
    assert found.keys() == {"near_duplicate_parts"}
    message = found["near_duplicate_parts"].message
    assert message.startswith("1 pair of images look nearly the same, one in training and one in test: a ~ c. The test")


def test_equal_images_are_told_of_once_and_empty_tiles_never(folder: Folder) -> None:
    folder.image("c", scene(0))
    found = folder.findings()
    assert found.keys() == {"duplicate_groups"}
    assert "(in groups.csv, where every image has a line name,group: a,a and c,a)" in found["duplicate_groups"].message
    for name in "ac":
        folder.image(name, np.full((48, 64, 3), 200, dtype=np.uint8))
    assert folder.findings() == {}


def test_five_pairs_are_named_and_the_rest_counted(folder: Folder) -> None:
    for number in range(7):
        for name, pixels in ((f"l{number}", scene(100 + number)), (f"r{number}", recoded(scene(100 + number)))):
            folder.image(name, pixels)
            folder.mask(name, HALVES)
    message = folder.findings()["near_duplicate_groups"].message
    assert message.startswith("7 pairs of images look nearly the same")
    assert "l0 ~ r0, l1 ~ r1, l2 ~ r2, l3 ~ r3, l4 ~ r4 and 2 more." in message


def test_a_set_of_one_scene_gets_a_note(folder: Folder) -> None:
    for number in range(20):
        folder.image(f"n{number}", np.clip(scene(5).astype(int) + number, 0, 255).astype(np.uint8))
        folder.mask(f"n{number}", HALVES)
    finding = folder.findings()["near_duplicate_groups"]
    assert finding.level == "note"
    assert "% of all. If all images show the same scene, this is no fault" in finding.message


def test_blocks_find_the_pairs_of_all_against_all() -> None:
    rng = np.random.default_rng(0)
    patterns = np.repeat(rng.normal(size=(700, 24)), 2, axis=0) + 0.12 * rng.normal(size=(1400, 24))
    unit = np.asarray(patterns / np.linalg.norm(patterns, axis=1, keepdims=True), dtype=np.float32)[
        rng.permutation(1400)
    ]
    kind = rng.integers(0, 9, 1400)
    rows, columns = np.nonzero(np.triu((unit @ unit.T >= 0.97) & (kind[:, None] != kind), 1))
    found = alike_pairs(unit, kind, least=0.97)
    assert found.pairs == len(rows) > 300
    assert found.images == len({*rows.tolist(), *columns.tolist()})
    assert found.first == tuple(zip(rows[:5].tolist(), columns[:5].tolist(), strict=True))
    assert found.compared == int(np.triu(kind[:, None] != kind, 1).sum())


def test_five_thousand_images_are_compared_within_seconds() -> None:
    unit = np.random.default_rng(0).normal(size=(5000, 480)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    start = time.process_time()
    assert alike_pairs(unit, np.arange(5000)).pairs == 0
    assert time.process_time() - start < 10

"""The cache of decoded data: whole or not there, whatever happens, and equal to the files."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data import cache as caching
from segdecay.data import open_dataset
from segdecay.data.cache import ABANDONED_S, default_cache
from segdecay.data.dataset import Dataset, class_pixels
from segdecay.data.loading import load_dataset
from segdecay.data.read_log import PART_MARK
from segdecay.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs of different sizes."""
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 255, (16 + i, 20, 3), dtype=np.uint8)
        for kind, array in (("images", image), ("masks", (image[..., 0] > 128).astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{i}.png")
    (folder / "classes.txt").write_text("background\nroad\n")
    return folder


def load(root: Path, *, size: tuple[int, int] | None = None) -> Dataset:
    config = DataConfig.model_validate({"path": str(root), "size": size})
    return load_dataset(config, cache=root.parent / "cache")[0]


def test_decoded_arrays_equal_the_files(root: Path) -> None:
    dataset = load(root)
    for i in range(4):
        np.testing.assert_array_equal(dataset.image(i), np.asarray(Image.open(root / "images" / f"{i}.png")))
        np.testing.assert_array_equal(dataset.mask(i), np.asarray(Image.open(root / "masks" / f"{i}.png")))
    assert [item.height for item in dataset.items] == [16, 17, 18, 19]


def test_views_cannot_be_written_to(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        load(root).image(0)[0, 0] = 1


def test_a_second_reading_opens_the_same_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root)
    monkeypatch.setattr("segdecay.data.loading._build", None)
    assert load(root) == first
    assert open_dataset(first.root) == first


def test_a_data_set_travels_as_its_folder(root: Path) -> None:
    dataset = load(root)
    dataset.image(0)
    travelling = pickle.dumps(dataset)
    assert len(travelling) < 1000
    assert pickle.loads(travelling) == dataset  # noqa: S301


def test_changed_content_changes_the_fingerprint(root: Path) -> None:
    before = load(root)
    mask = np.asarray(Image.open(root / "masks" / "0.png")).copy()
    mask[0, 0] ^= 1
    Image.fromarray(mask).save(root / "masks" / "0.png")
    after = load(root)
    assert after.fingerprint != before.fingerprint
    assert after.mask(0)[0, 0] != before.mask(0)[0, 0]


@pytest.mark.parametrize("text", ["flip: none", "folds: blocks", "ignore: [9]", "exif: ignore", "bands: [0]"])
def test_what_changes_training_changes_the_fingerprint(root: Path, text: str) -> None:
    before = load(root)
    (root / "dataset.yaml").write_text(text)
    assert load(root).fingerprint != before.fingerprint


def test_other_groups_change_the_fingerprint(root: Path) -> None:
    before = load(root)
    (root / "groups.csv").write_text("name,group\n0,a\n1,a\n2,b\n3,b\n")
    assert load(root).fingerprint != before.fingerprint


def test_names_and_colours_do_not_change_the_fingerprint_yet_are_read_anew(root: Path) -> None:
    before = load(root)
    (root / "dataset.yaml").write_text("name: other\npalette: {road: '#123456'}")
    after = load(root)
    assert after.fingerprint == before.fingerprint
    assert (after.name, after.palette[1]) == ("other", (0x12, 0x34, 0x56))


def test_size_resizes_images_smoothly_and_masks_to_the_nearest(root: Path) -> None:
    dataset = load(root, size=(8, 10))
    assert dataset.fingerprint != load(root).fingerprint
    assert dataset.image(1).shape == (8, 10, 3)
    assert set(np.unique(dataset.mask(1))) <= {0, 1}
    whole = np.asarray(Image.open(root / "images" / "1.png")).astype(float)
    assert abs(dataset.image(1).mean() - whole.mean()) < 3
    assert dataset.image(1).std() < 0.8 * whole.std()  # antialiased: shrinking noise averages it


@pytest.mark.parametrize("name", ["images.u8", "masks.u8", "dataset.json", "checks.json"])
def test_a_damaged_cache_is_rebuilt(root: Path, name: str) -> None:
    before = load(root)
    path = before.root / name
    path.write_bytes(path.read_bytes()[:-7])
    after = load(root)
    assert after == before
    np.testing.assert_array_equal(after.mask(3), np.asarray(Image.open(root / "masks" / "3.png")))


def test_a_missing_file_in_the_cache_is_rebuilt(root: Path) -> None:
    before = load(root)
    (before.root / "masks.u8").unlink()
    assert load(root).mask(0).shape == (16, 20)


def test_opening_a_damaged_folder_says_what_to_do(root: Path) -> None:
    dataset = load(root)
    (dataset.root / "images.u8").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds 1 bytes instead of 4200. Delete .*: it will be rebuilt"):
        open_dataset(dataset.root)
    with pytest.raises(DataError, match="holds no decoded data set"):
        open_dataset(root)


def test_what_a_kill_left_is_passed_over_and_removed_after_a_day(root: Path) -> None:
    cache = root.parent / "cache"
    fresh, old = (cache / f"set-0{PART_MARK}{name}" for name in ("fresh", "old"))
    for folder in (fresh, old):
        folder.mkdir(parents=True)
        (folder / "images.u8").write_bytes(b"half")
    long_ago = time.time() - ABANDONED_S - 60
    os.utime(old / "images.u8", (long_ago, long_ago))
    os.utime(old, (long_ago, long_ago))
    assert len(load(root).items) == 4
    assert fresh.exists()
    assert not old.exists()


def test_an_interrupt_while_finishing_leaves_what_was_read_and_the_next_reading_takes_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(caching, "WORTH_KEEPING", 1)
    with monkeypatch.context() as broken:
        broken.setattr("segdecay.data.cache.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    (left,) = (root.parent / "cache").iterdir()
    assert PART_MARK in left.name
    monkeypatch.setattr("segdecay.data.formats.reader.PairReader._picture", None)  # nothing is decoded again
    dataset = load(root)
    assert list(dataset.root.parent.iterdir()) == [dataset.root]
    np.testing.assert_array_equal(dataset.image(3), np.asarray(Image.open(root / "images" / "3.png")))


def test_concurrent_builders_end_with_one_folder(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from segdecay.config.schema import DataConfig\n"
        "from segdecay.data.loading import load_dataset\n"
        "print(load_dataset(DataConfig(path=sys.argv[1]), cache=Path(sys.argv[2]))[0].root)"
    )
    cache = root.parent / "cache"
    command = [sys.executable, "-c", code, str(root), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert [str(path) for path in cache.iterdir()] == sorted(folders)


def test_the_slower_builder_takes_the_folder_of_the_faster(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root)
    inode = first.root.stat().st_ino
    answers = iter([None])  # the first look finds nothing, as if both had started together
    find = caching.find
    monkeypatch.setattr("segdecay.data.cache.find", lambda folder: next(answers, find(folder)))
    assert load(root) == first
    assert first.root.stat().st_ino == inode
    assert len(list((root.parent / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(root: Path) -> None:
    (root.parent / "file").write_text("x")
    config = DataConfig.model_validate({"path": str(root)})
    with pytest.raises(DataError, match=r"The cache folder .*file/cache cannot be written \(.*\). Set SEGDECAY_CACHE"):
        load_dataset(config, cache=root.parent / "file" / "cache")


def test_a_file_that_changes_while_it_is_read_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segdecay.data.read_log.digest_of", lambda _: "0" * 64)
    with pytest.raises(DataError, match=r"images/0\.png changed while the data set was read"):
        load(root)


def test_the_cache_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("SEGDECAY_CACHE")
    assert default_cache() == tmp_path / "xdg" / "segdecay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "segdecay"


def test_pixels_of_classes_leave_out_ignored_ones(root: Path) -> None:
    (root / "dataset.yaml").write_text("ignore: [1]\nclasses: [background, road, sky]\nvalues: {0: background, 2: sky}")
    sky = np.full((16, 20), 2, dtype=np.uint8)
    sky[:, :5] = 1
    Image.fromarray(sky).save(root / "masks" / "0.png")
    assert class_pixels(load(root), (0,)).tolist() == [[0, 0, 16 * 15]]

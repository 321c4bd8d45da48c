"""What earlier readings left is taken, file by file; whatever changed is read anew, and findings stay the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout_cases as cases
import numpy as np
import pytest
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data import cache, read_log
from segdecay.data.checks.findings import CheckReport
from segdecay.data.dataset import Dataset
from segdecay.data.formats.reader import digest_of
from segdecay.data.loading import read_dataset
from segdecay.data.read_log import PART_MARK

PAIRS = 8


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are younger than what is trusted by its time, and smaller than what is worth keeping."""
    monkeypatch.setattr(read_log, "SETTLED_S", -1.0)
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened for decoding, as they come."""
    names = list[str]()
    from segdecay.data.formats.reader import PairReader

    real: Callable[..., Any] = PairReader._picture

    def picture(self: PairReader, path: Path, *rest: Any) -> Any:
        names.append(path.name)
        return real(self, path, *rest)

    monkeypatch.setattr(PairReader, "_picture", picture)
    return names


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read for their digest."""
    names = list[str]()

    def digest(path: Path) -> str:
        names.append(path.name)
        return digest_of(path)

    monkeypatch.setattr(read_log, "digest_of", digest)
    return names


def made(root: Path) -> Path:
    folder = cases.pairs(root / "set", "images/{n}.png", "masks/{n}.png", masked=lambda labels, _: labels)
    (folder / "classes.txt").write_text("background\nroad\n")
    return folder


def read(
    folder: Path, *, size: tuple[int, int] | None = None, watch: Callable[[int, int | None], None] | None = None
) -> tuple[Dataset, CheckReport]:
    config = DataConfig.model_validate({"path": str(folder), "size": size})
    dataset, report = read_dataset(config, cache=folder.parent / "cache", watch=watch)
    assert dataset is not None
    return dataset, report


def stop_at(number: int) -> Callable[[int, int | None], None]:
    def watch(done: int, _total: int | None) -> None:
        if done == number:
            raise KeyboardInterrupt

    return watch


def test_an_interrupted_reading_goes_on_where_it_stopped(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        read(folder, watch=stop_at(6))
    (left,) = (tmp_path / "cache").iterdir()
    assert PART_MARK in left.name
    decoded.clear()
    dataset, _ = read(folder)
    assert sorted({*decoded}) == ["005.png", "006.png", "007.png"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [dataset.root.name]
    for number in range(PAIRS):
        pixels, labels = cases.scene(number)
        np.testing.assert_array_equal(dataset.image(number), pixels)
        np.testing.assert_array_equal(dataset.mask(number), labels)


def test_of_two_interrupted_readings_the_longer_one_stays(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    for stop in (6, 3):
        with pytest.raises(KeyboardInterrupt):
            read(folder, watch=stop_at(stop))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    decoded.clear()
    read(folder)
    assert len({*decoded}) == 3


def test_another_size_decodes_no_file_again(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    whole, report = read(folder)
    decoded.clear()
    small, again = read(folder, size=(20, 20))
    assert decoded == []
    assert again == report
    assert small.fingerprint != whole.fingerprint
    fresh, _ = read_dataset(DataConfig(path=str(folder), size=(20, 20)), cache=tmp_path / "other")
    assert fresh is not None
    assert fresh.fingerprint == small.fingerprint
    for number in range(PAIRS):
        np.testing.assert_array_equal(small.image(number), fresh.image(number))
        np.testing.assert_array_equal(small.mask(number), fresh.mask(number))


def test_an_interrupted_reading_in_a_size_goes_on_in_that_size(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        read(folder, size=(20, 30), watch=stop_at(7))
    decoded.clear()
    small, _ = read(folder, size=(20, 30))
    assert len({*decoded}) == 2
    assert {small.mask(number).shape for number in range(PAIRS)} == {(20, 30)}
    read(folder)
    assert {"000.png", "007.png"} <= {*decoded}, "a resized pair was taken for one as it was read"


def test_one_changed_file_alone_is_read_again(tmp_path: Path, decoded: list[str], hashed: list[str]) -> None:
    folder = made(tmp_path)
    before, _ = read(folder)
    decoded.clear()
    hashed.clear()
    pixels, _ = cases.scene(77)
    Image.fromarray(pixels).save(folder / "images" / "003.png")
    after, _ = read(folder)
    assert {*decoded} == {"003.png"}
    assert hashed == ["003.png"]
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.image(3), pixels)
    np.testing.assert_array_equal(after.image(4), before.image(4))


def test_a_file_of_equal_size_and_time_but_other_content_is_seen(tmp_path: Path, hashed: list[str]) -> None:
    folder = made(tmp_path)
    path = folder / "masks" / "002.png"
    read(folder)
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    hashed.clear()
    config = DataConfig(path=str(folder))
    dataset, report = read_dataset(config, cache=tmp_path / "cache")
    assert hashed == ["002.png"]
    assert dataset is None
    assert "masks/002.png is damaged" in report.findings[0].message


def test_a_file_that_was_just_written_is_not_trusted_by_its_time(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_log, "SETTLED_S", 2.0)
    folder = made(tmp_path)
    read(folder)
    hashed.clear()
    read(folder)
    assert len(hashed) == 2 * PAIRS


def test_a_second_look_reads_no_file(tmp_path: Path, hashed: list[str]) -> None:
    folder = made(tmp_path)
    first, _ = read(folder)
    hashed.clear()
    again, _ = read(folder)
    assert again == first
    assert hashed == []


def test_a_set_that_was_refused_is_read_again_in_its_mended_files_alone(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    path = folder / "masks" / "002.png"
    sound = path.read_bytes()
    path.write_bytes(b"")
    assert read_dataset(DataConfig(path=str(folder)), cache=tmp_path / "cache")[0] is None
    path.write_bytes(sound)
    decoded.clear()
    dataset, _ = read(folder)
    assert {*decoded} == {"002.png"}
    np.testing.assert_array_equal(dataset.mask(2), cases.scene(2)[1])


@pytest.mark.parametrize(
    "text",
    [
        "values: {0: background, 1: road}",
        "ignore: [1]",
        "palette: {road: '#123456'}",
        "flip: none",
        "group_pattern: ^(..)",
    ],
)
def test_another_reading_of_the_same_files_is_never_mixed_up(tmp_path: Path, text: str) -> None:
    folder = made(tmp_path)
    read(folder)
    (folder / "dataset.yaml").write_text(f"classes: [background, road]\n{text}\n")
    config = DataConfig(path=str(folder))
    recalled, fresh = (read_dataset(config, cache=tmp_path / name) for name in ("cache", "other"))
    assert recalled[1] == fresh[1]
    if fresh[0] is not None:
        assert recalled[0] is not None
        assert recalled[0].fingerprint == fresh[0].fingerprint
        np.testing.assert_array_equal(recalled[0].mask(0), fresh[0].mask(0))


def test_what_was_noted_of_files_is_noted_again(tmp_path: Path, decoded: list[str]) -> None:
    """Bands, values, palettes and notes of files are for the whole set: they come back with the pairs."""
    folder = made(tmp_path)
    for number in range(3):
        _, labels = cases.scene(number)
        values = labels.copy()
        values[0, number] = 9
        Image.fromarray(np.dstack([labels, np.full_like(labels, 255)])).save(folder / "masks" / f"{number:03}.png")
        Image.fromarray(values).save(folder / "masks" / f"{number + 4:03}.png")
    Image.fromarray(cases.scene(7)[0][..., 0]).save(folder / "images" / "007.png")
    config = DataConfig(path=str(folder))
    first, second = (read_dataset(config, cache=tmp_path / "cache")[1] for _ in range(2))
    assert {finding.code for finding in first.findings} >= {"mask_alpha_opaque", "label_out_of_range", "bands_differ"}
    assert second == first
    assert len({*decoded}) == PAIRS
    assert len(decoded) == 2 * PAIRS, "the second time nothing was decoded"


def test_a_damaged_log_is_read_past(tmp_path: Path, decoded: list[str]) -> None:
    folder = made(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        read(folder, watch=stop_at(PAIRS))
    (left,) = (tmp_path / "cache").iterdir()
    lines = (left / read_log.READ).read_bytes().splitlines(keepends=True)
    broken = [lines[0], lines[1][:200] + b"\n", *lines[2:-1], lines[-1][:100]]
    (left / read_log.READ).write_bytes(b"".join(broken))
    (left / read_log.DIGESTS).write_bytes(b"{")
    decoded.clear()
    dataset, _ = read(folder)
    assert {*decoded} == {"000.png", "006.png", "007.png"}
    np.testing.assert_array_equal(dataset.mask(0), cases.scene(0)[1])


def test_little_is_sooner_read_again_than_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1 << 20)
    with pytest.raises(KeyboardInterrupt):
        read(made(tmp_path), watch=stop_at(6))
    assert list((tmp_path / "cache").iterdir()) == []


def test_room_is_taken_from_what_earlier_readings_left(tmp_path: Path) -> None:
    folder = made(tmp_path)
    one = PAIRS * cases.SIDE**2 * 4
    read_dataset(DataConfig(path=str(folder)), cache=tmp_path / "cache")
    Image.fromarray(cases.scene(50)[0]).save(folder / "images" / "003.png")
    dataset, _ = read_dataset(DataConfig(path=str(folder)), cache=tmp_path / "cache", cache_limit=one + one // 2)
    assert dataset is not None
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [dataset.root.name]

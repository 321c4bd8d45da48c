"""The cache's bound, with real processes that build, use and die."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data import open_dataset
from segdecay.data.cache import LIMIT_VARIABLE, STAMP, Builder, parse_bytes, show_bytes, stored_in
from segdecay.data.cache_lock import LEASE
from segdecay.data.dataset import Dataset
from segdecay.data.loading import load_dataset, read_dataset
from segdecay.data.read_log import PART_MARK
from segdecay.errors import ConfigError, DataError

SIDE, PAIRS = 64, 4
SET_BYTES = PAIRS * SIDE * SIDE * 4  # decoded, RGB and mask
LIMIT = round(2.9 * SET_BYTES)  # room for two sets and their records

LOAD = """
import sys
from pathlib import Path
from segdecay.config.schema import DataConfig
from segdecay.data.loading import load_dataset
dataset, _ = load_dataset(DataConfig(path=sys.argv[1]), cache=Path(sys.argv[2]))
print("loaded", dataset.fingerprint, flush=True)
sys.stdin.readline()
print(int(dataset.image(0).sum()), flush=True)
"""
BUILD_FOR_EVER = """
import sys, time
from pathlib import Path
import segdecay.data.cache as caching
from segdecay.config.schema import DataConfig
from segdecay.data.loading import load_dataset
def hang(*_):
    print("half", flush=True)
    time.sleep(60)
caching.write_json = hang
load_dataset(DataConfig(path=sys.argv[1]), cache=Path(sys.argv[2]))
"""


def made_up(root: Path, name: str) -> Path:
    """A set of its own content."""
    folder, random = root / name, np.random.default_rng(sum(name.encode()))
    for i in range(PAIRS):
        image = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        for kind, array in (("images", image), ("masks", (image[..., 0] > 128).astype(np.uint8))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{i}.png", compress_level=1)
    (folder / "classes.txt").write_text("background\nroad\n")
    return folder


def load(folder: Path, limit: int = LIMIT) -> Dataset:
    return load_dataset(DataConfig(path=str(folder)), cache=folder.parent / "cache", cache_limit=limit)[0]


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(folder), str(folder.parent / "cache")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def names_in(cache: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in cache.iterdir())


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500 * 10**6), ("20gb", 20 * 10**9), ("1.5 TiB", 3 << 39), ("1KB", 1000)]
)
def test_a_limit_is_a_number_with_its_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert parse_bytes(show_bytes(size)) >= size


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "0GB", "20 gigs", "nanMB", "1e3GB", "٣GB x"])
def test_rubbish_as_a_limit_says_what_is_taken(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--cache-limit takes a size with its unit, as in 500MB, .*; saw '"):
        parse_bytes(text)


def test_the_variable_sets_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_up(tmp_path, "a")
    monkeypatch.setenv(LIMIT_VARIABLE, "1KB")
    with pytest.raises(DataError, match=r"needs more than 1KB, the limit of the cache"):
        load_dataset(DataConfig(path=str(folder)), cache=tmp_path / "cache")
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(ConfigError, match=f"{LIMIT_VARIABLE} takes a size"):
        load_dataset(DataConfig(path=str(folder)), cache=tmp_path / "cache")


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    folders = {name: made_up(tmp_path, name) for name in "abc"}
    for name in ("a", "b", "a"):  # a was used again after b
        load(folders[name])
    gc.collect()
    load(folders["c"])
    assert names_in(tmp_path / "cache") == ["a", "c"]


def test_the_order_is_that_of_our_own_stamps_not_of_the_file_system(tmp_path: Path) -> None:
    first, second = (load(made_up(tmp_path, name)).root for name in "ab")
    os.utime(first, (9e9, 9e9))
    assert [one.folder for one in stored_in(tmp_path / "cache")] == [first, second]
    (second / STAMP).unlink()  # no word on when: it goes first
    assert stored_in(tmp_path / "cache")[0].folder == second


def test_the_cache_never_exceeds_its_limit(tmp_path: Path) -> None:
    for name in "abcdef":
        load(made_up(tmp_path, name))
        gc.collect()
        assert sum(one.n_bytes for one in stored_in(tmp_path / "cache")) <= LIMIT


def test_a_set_larger_than_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs more than 40KB, .*Set --cache-limit .* or make images smaller"):
        load(made_up(tmp_path, "b"), limit=40_000)
    assert names_in(tmp_path / "cache") == []


def test_what_this_process_holds_stays(tmp_path: Path) -> None:
    held = [load(made_up(tmp_path, name)) for name in "ab"]
    with pytest.raises(DataError, match=r"that other runs use, and .* more do not fit into its limit"):
        load(made_up(tmp_path, "c"))
    assert [open_dataset(one.root) for one in held] == held


def test_other_folders_in_the_cache_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache" / "mine").mkdir(parents=True)
    (tmp_path / "cache" / "mine" / "thesis.txt").write_text("x" * LIMIT)
    for name in "abc":
        load(made_up(tmp_path, name))
        gc.collect()
    assert (tmp_path / "cache" / "mine" / "thesis.txt").exists()


def test_what_another_process_uses_stays_until_it_dies(tmp_path: Path) -> None:
    used, third = made_up(tmp_path, "a"), made_up(tmp_path, "c")
    with start(LOAD, used) as process:
        assert line_of(process).startswith("loaded")
        load(made_up(tmp_path, "b"))
        gc.collect()
        load(third)  # a was used longest ago, yet b goes
        gc.collect()
        assert names_in(tmp_path / "cache") == ["a", "c"]
        process.kill()
    load(made_up(tmp_path, "d"))
    assert names_in(tmp_path / "cache") == ["c", "d"]


def test_views_stay_readable_after_their_folder_is_removed(tmp_path: Path) -> None:
    view = load(made_up(tmp_path, "a")).image(0)
    before = view.copy()
    gc.collect()
    load(made_up(tmp_path, "b"), limit=round(1.5 * SET_BYTES))
    assert names_in(tmp_path / "cache") == ["b"]
    np.testing.assert_array_equal(view, before)


def test_two_processes_that_build_at_once_end_with_one_entry(tmp_path: Path) -> None:
    folder = made_up(tmp_path, "a")
    with start(LOAD, folder) as one, start(LOAD, folder) as two:
        processes = (one, two)
        fingerprints = {line_of(process) for process in processes}
        sums = {process.communicate("\n", timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(fingerprints) == len(sums) == 1
    assert names_in(tmp_path / "cache") == ["a"]


def test_a_build_that_is_killed_is_never_taken_as_whole_and_removed_at_once(tmp_path: Path) -> None:
    folder = made_up(tmp_path, "a")
    with start(BUILD_FOR_EVER, folder) as process:
        assert line_of(process) == "half"
        (half,) = (tmp_path / "cache").glob(f"*{PART_MARK}*")
        with Builder(tmp_path / "cache" / "other-0"):  # while it lives, nobody removes what it writes
            assert half.exists()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert (half / "images.u8").stat().st_size == PAIRS * SIDE * SIDE * 3
    assert load(folder).image(3).shape == (SIDE, SIDE, 3)
    assert names_in(tmp_path / "cache") == ["a"]


def test_opening_leaves_no_file_where_no_data_set_lies(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no decoded data set"):
        open_dataset(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_before_there_were_leases_is_opened_and_bounded(tmp_path: Path) -> None:
    root = load(made_up(tmp_path, "a")).root
    gc.collect()
    (root / LEASE).unlink()
    (root / STAMP).unlink()
    held = open_dataset(root)
    with pytest.raises(DataError, match="that other runs use"):
        load(made_up(tmp_path, "b"), limit=round(1.5 * SET_BYTES))
    del held
    gc.collect()
    load(tmp_path / "b", limit=round(1.5 * SET_BYTES))
    assert names_in(tmp_path / "cache") == ["b"]


def test_whoever_watches_is_told_every_pair(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    config = DataConfig(path=str(made_up(tmp_path, "a")))
    read_dataset(config, cache=tmp_path / "cache", watch=lambda done, total: told.append((done, total)))
    assert told == [(number, PAIRS) for number in range(1, PAIRS + 1)]


def test_an_interrupt_while_reading_ends_soon_and_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    start_s = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        read_dataset(DataConfig(path=str(made_up(tmp_path, "a"))), cache=tmp_path / "cache", watch=interrupt)
    assert time.perf_counter() - start_s < 5
    assert list((tmp_path / "cache").iterdir()) == []

"""Work on all cores: the same results, in the same order, whatever their number; and what a person sees meanwhile."""

from __future__ import annotations

import io
import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from segdecay.cli.main import app
from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import CheckReport
from segdecay.data.dataset import Dataset
from segdecay.data.images.bit_depth import no_warnings
from segdecay.data.images.decode import read_image
from segdecay.data.loading import read_dataset
from segdecay.utils import parallel
from segdecay.utils.parallel import AHEAD, count_cores, ordered_map
from segdecay.workflows.bars import reading_bar


def late_first(number: int) -> int:
    time.sleep(0.02 if number % 4 == 0 else 0)
    return number


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_results_keep_the_order_of_items(cores: int) -> None:
    assert list(ordered_map(late_first, range(20), cores=cores)) == list(range(20))


def test_all_cores_work_at_a_time() -> None:
    both = threading.Barrier(2, timeout=10)  # broken where one waits for the other to finish
    assert sum(ordered_map(lambda _: both.wait() * 0 + 1, range(4), cores=2)) == 4


def test_only_a_few_results_wait_to_be_taken() -> None:
    begun: list[int] = []
    results = ordered_map(begun.append, range(100), cores=2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= AHEAD * 2 + 2
    results.close()
    assert len(begun) < 10


def test_an_error_comes_in_its_turn() -> None:
    results = ordered_map(lambda number: 6 // (3 - number), range(6), cores=3)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert count_cores() == 3


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Sixteen pairs, of which many have one fault or another."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    (tmp_path / "set" / "classes.txt").write_text("background\nroad\n")
    for i in range(16):
        image = random.integers(0, 256, (20 + i % 3, 20, 3), dtype=np.uint8)
        mask = random.integers(0, 9 if i % 4 == 1 else 2, (20 + (i % 5 == 2), 20), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{i}.png")
    for i in (6, 11):
        (tmp_path / "set" / "images" / f"{i}.png").write_bytes(b"")
    return tmp_path / "set"


def test_findings_do_not_depend_on_the_number_of_cores(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(cores: int) -> tuple[Dataset | None, CheckReport]:
        monkeypatch.setattr("segdecay.utils.parallel.count_cores", lambda: cores)
        return read_dataset(DataConfig(path=str(faulty)), cache=faulty.parent / "cache")

    one = check(1)
    assert {finding.code for finding in one[1].findings} >= {"size_mismatch", "label_out_of_range", "empty_file"}
    for cores in (2, 5):
        assert check(cores) == one


def test_reading_with_threads_leaves_the_filters_of_warnings_alone() -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    before = list(warnings.filters)
    both = threading.Barrier(2, timeout=10)

    def overlap(_: int) -> None:
        with no_warnings():
            both.wait()
            read_image(stream.getvalue())
            warnings.warn("of a decoder", stacklevel=1)

    list(ordered_map(overlap, range(40), cores=2))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # on a dumb one nothing is drawn
    screen = io.StringIO()
    with reading_bar(shown=True, console=Console(file=screen, force_terminal=True, width=80)) as watch:
        assert watch is not None
        watch(3, 12)
        watch(12, 12)
    assert "reading" in screen.getvalue()
    assert "12/12" in screen.getvalue()


@pytest.mark.parametrize(("shown", "terminal"), [(False, True), (True, False)])
def test_nothing_is_drawn_where_nobody_wants_or_sees_it(shown: bool, terminal: bool) -> None:
    screen = io.StringIO()
    with reading_bar(shown=shown, console=Console(file=screen, force_terminal=terminal)) as watch:
        assert watch is None
    assert screen.getvalue() == ""


@pytest.mark.parametrize("command", ["check", "tune", "train"])
def test_a_limit_that_is_none_is_refused_before_anything_is_read(
    command: str, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(faulty.parent / "cache"))
    done = CliRunner().invoke(app, [command, str(faulty), "--cache-limit", "plenty"])
    assert "--cache-limit takes a size with its unit" in str(done.exception) + done.output
    assert not (faulty.parent / "cache").exists()


def test_check_takes_a_limit(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGDECAY_CACHE", str(faulty.parent / "cache"))
    done = CliRunner().invoke(app, ["check", str(faulty), "--cache-limit", "1KB", "--json"])
    assert "needs more than 1KB, the limit of the cache" in str(done.exception) + done.output


def test_what_is_in_work_needs_no_more_memory_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items of 40 of 100 bytes run two at a time on eight cores; one of 500 runs alone, and the order stays."""
    monkeypatch.setattr(parallel, "MOST_HELD", 100)
    weights = [40, 40, 40, 40, 500, 40, 40]
    held, most, lock = 0, list[int](), threading.Lock()

    def work(number: int) -> int:
        nonlocal held
        with lock:
            held += weights[number]
            most.append(held)
        time.sleep(0.01)
        with lock:
            held -= weights[number]
        return number

    found = list(ordered_map(work, range(len(weights)), cores=8, weigh=lambda number: weights[number]))
    assert found == list(range(len(weights)))
    assert max(most) == 500
    assert sorted(most)[-2] <= 80

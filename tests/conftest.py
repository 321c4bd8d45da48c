"""Every test runs on one thread, with a cache folder of its own, and never touches the user's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest
import torch
from commands import Command, call
from shapes import write_shapes

if TYPE_CHECKING:
    from report_browser import Browser
    from small_search import SmallSearch


hypothesis.settings.register_profile("no-times", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no-times")

os.environ.setdefault("RAY_AUTH_TOKEN", uuid4().hex)  # or Ray would write one into the user's home
# Ray's workers step back behind every other program (nice 15): on a busy machine they would import torch for minutes.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling

# Whole searches, many in processes of their own: begun first, so that none of them is what both cores wait for at last.
SLOW_FIRST = ("execution/", "workflows/", "docs/", "search/", "cli/", "example/", "api/", "report/")
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow folders before the others, each in its own order."""
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return next((place for place, slow in enumerate(SLOW_FIRST) if name.startswith(slow)), len(SLOW_FIRST))


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def _interruptible_session() -> None:
    """Workers of pytest-xdist ignore SIGINT, and what they start would too; nohup would hide SIGHUP."""
    _interruptible()


@pytest.fixture(autouse=True)
def _interruptible_test() -> None:
    """A command that a test before interrupted in this process left its signals ignored."""
    _interruptible()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: `mktemp` reads what lies beside a new folder, and reads more with every test."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def _own_cache(_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _caches / uuid4().hex
    folder.mkdir()
    monkeypatch.setenv("SEGDECAY_CACHE", str(folder))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from report_browser import Browser

    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def small_search(tmp_path_factory: pytest.TempPathFactory) -> SmallSearch:
    """A finished search on small data with a test part, for tests that only read it."""
    from small_search import run_small_search

    return run_small_search(tmp_path_factory.mktemp("small-search"))


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder of 18 images of squares in nine groups."""
    return write_shapes(tmp_path / "shapes")


@pytest.fixture
def segdecay() -> Command:
    """The command line in this process; the exit code must be the one expected."""
    return call

"""The page of `segdecay watch` in a browser, while a real search runs in another process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_browser import Browser, Page
from shapes import write_shapes

from segdecay.watch.server import Watch

SEARCH = (
    *("--epochs", "30", "--folds", "3", "--workers", "1", "--refit", "anyway", "--set", "search.grid=[0,2]"),
    *(
        "--set",
        "model.width=4",
        "--set",
        "model.depth=2",
        "--set",
        "optimizer.lr=0.02",
        "--set",
        "search.resamples=200",
    ),
    *("--set", "search.resamples=200", "--set", "training.batch_size=4"),
)


@pytest.fixture
def search(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A search that has begun, and its process."""
    run, data = tmp_path / "squares", write_shapes(tmp_path / "shapes")
    process = subprocess.Popen(
        [sys.executable, "-m", "segdecay", "tune", str(data), *SEARCH, "--out", str(run)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SEGDECAY_CACHE": str(tmp_path / "cache")},
    )
    while not (run / "run.yaml").exists():
        assert process.poll() is None
        time.sleep(0.1)
    yield run, process
    process.kill()
    process.wait()


def text_of(page: Page, element: str) -> str:
    return str(page.evaluate(f"document.getElementById('{element}').textContent"))


def test_the_page_follows_a_search_to_its_verdict(
    search: tuple[Path, subprocess.Popen[bytes]], browser: Browser, tmp_path: Path
) -> None:
    run, process = search
    with Watch(run, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        page = browser.open_url(server.url)
        page.wait_for("document.documentElement.dataset.looks !== undefined")
        assert text_of(page, "name") == "squares"
        assert text_of(page, "status") == "running"
        page.wait_for("document.querySelectorAll('#rows tr').length > 2 && Number(finished.textContent) > 0")
        assert page.evaluate("document.querySelectorAll('#scores circle').length") > 0
        assert page.evaluate("document.querySelectorAll('#loss path:not(.grid)').length") > 0
        assert "trials of the race are finished" in text_of(page, "race")
        assert text_of(page, "left").startswith("≤ ")
        assert page.barriers() == []
        page.emulate(scheme="dark")
        assert page.poor_contrasts() == []

        assert process.wait(timeout=240) in (0, 1)
        page.wait_for("document.getElementById('status').textContent === 'finished'")
        assert text_of(page, "result-text") != ""
        assert text_of(page, "left") == "–"
        page.resize(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.screenshot(tmp_path / "watch.png").stat().st_size > 10_000
        assert {request.rpartition("/")[0] for request in page.requests if not request.startswith("data:")} == {
            server.url.rstrip("/")
        }
        assert page.complaints == []

        page.tab.click("#report a")
        page.wait_for("document.documentElement.dataset.drawn !== undefined")
        server.shutdown()


def test_names_from_a_run_are_text_and_no_markup(tmp_path: Path, browser: Browser) -> None:
    run = tmp_path / "run"
    folder = run / "trials" / "<img src=x onerror=alert(1)>" / "0-0"
    folder.mkdir(parents=True)
    (run / "run.yaml").write_text("command: tune\ndata: {path: '<script>alert(1)</script>'}\n", encoding="utf-8")
    (folder / "trial.json").write_text("{", encoding="utf-8")
    (run / "environment.json").write_text('{"command": "<script>alert(2)</script>"}', encoding="utf-8")
    with Watch(run, 0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        page = browser.open_url(server.url)
        page.wait_for("document.documentElement.dataset.looks !== undefined")
        assert page.evaluate("document.querySelectorAll('#fault-list li').length") >= 2
        assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert page.complaints == []
        server.shutdown()
    page.wait_for("!document.getElementById('lost').hidden")
    assert "segdecay watch has ended" in text_of(page, "lost")

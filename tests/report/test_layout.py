"""The page within its limits, and laid out without overflow whatever the data are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_browser import DRAWN, Browser, Page
from report_numbers import FOLDS, Shape
from report_run import change, write_run

from segdecay.report import build_report
from segdecay.report.facts.read import read_run
from segdecay.report.pages.images import read_sheets
from segdecay.report.pages.strength import lead_sentence, title_of

MOST_PX, MOST_WORDS = 7_000, 1_200
WORDS = "document.querySelector('main').innerText.split(/\\s+/).filter(Boolean).length"
TEN = tuple(f"class {index}" for index in range(11))
LONG = ("background", "x" * 80, "and longer " * 8, "甲" * 40, "طريق " * 16)
OVERFLOW = (
    "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, pre, .plot, nav ul') &&"
    " e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"
)


def with_one_fold(folder: Path) -> None:
    """Scores of the first fold alone."""
    values = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    for setting in values["settings"]:
        setting["folds"] = (setting["folds"] or [])[:1]
    (folder / "verdict.json").write_text(json.dumps(values), encoding="utf-8")


def with_image_of(width: int, height: int) -> Any:
    def write(folder: Path) -> None:
        for path in sorted((folder / "examples").glob("*.png")):
            is_image = path.stem.endswith("image")
            shape = (height, width, 3) if is_image else (height, width)
            Image.fromarray(np.ones(shape, np.uint8)).save(path)

    return write


def with_two_values(folder: Path) -> None:
    """Masks of the first two classes alone."""
    for path in sorted((folder / "examples").glob("*.png")):
        if not path.stem.endswith("image"):
            Image.fromarray(np.minimum(np.asarray(Image.open(path)), 1)).save(path)


def collapsed(folder: Path) -> None:
    """Every trial predicts a single class."""
    values = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    for setting in values["settings"]:
        setting["collapsed"] = FOLDS
    (folder / "verdict.json").write_text(json.dumps(values), encoding="utf-8")


BAD: dict[str, tuple[Shape, Any]] = {
    "one class pair": (Shape(classes=("background", "thing"), has_diagnostics=False), with_two_values),
    "one fold": (Shape(has_diagnostics=False), with_one_fold),
    "no test part, collapsed": (Shape(kind="flat", has_test=False, has_diagnostics=False), collapsed),
    "99 classes": (Shape(classes=tuple(f"class {i}" for i in range(99)), has_diagnostics=False), None),
    "long names": (Shape(classes=LONG), None),
    "images of one pixel": (Shape(has_diagnostics=False), with_image_of(1, 1)),
    "a strip of 20,000 px": (Shape(has_diagnostics=False), with_image_of(20_000, 40)),
}


@pytest.fixture(scope="module")
def pages(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("bad")
    found: dict[str, Path] = {}
    for number, (name, (shape, worsen)) in enumerate(BAD.items()):
        run = write_run(folder / str(number), shape)
        if worsen is not None:
            worsen(run)
        found[name] = build_report(run)
    return browser.open_drawn(found)


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_laid_out_without_overflow(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    page.unfold()
    for width in (1400, 768, 400):
        page.resize(width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOW) == []
    assert page.complaints == []


def test_a_page_of_eleven_classes_is_short_and_its_details_are_folded(browser: Browser, tmp_path: Path) -> None:
    values = (0, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
    page = browser.open(build_report(write_run(tmp_path / "run", Shape(classes=TEN, values=values))))
    page.wait_for(DRAWN)
    page.resize(1400)
    assert page.evaluate("document.documentElement.scrollHeight") < MOST_PX
    assert page.evaluate(WORDS) < MOST_WORDS
    folded, words = page.evaluate("document.querySelectorAll('details').length"), page.evaluate(WORDS)
    page.unfold()
    assert folded > 0
    assert page.evaluate(WORDS) > words


def test_the_navigation_stays_and_marks_the_part_that_is_read(browser: Browser, tmp_path: Path) -> None:
    page = browser.open(build_report(write_run(tmp_path / "run")))
    page.wait_for(DRAWN)
    here = "document.querySelector('nav [aria-current]').hash"
    assert page.evaluate(here) == "#verdict"
    page.tab.locator("nav a[href='#trust']").click()
    page.wait_for(f"{here} === '#trust'")
    assert page.evaluate("document.querySelector('header').getBoundingClientRect().top") == 0


def test_no_decay_that_is_best_in_short_trainings_is_no_order(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Shape(kind="zero"))
    run = read_run(folder)
    assert run.verdict is not None
    assert title_of(run.verdict) == "Train without weight decay"
    caution = {"code": "still_rising", "sentence": "Scores still rose.", "figure": "score"}
    change(folder / "verdict.json", "cautions", value=[caution])
    run = read_run(folder)
    assert run.verdict is not None
    assert title_of(run.verdict) == "No decay scored best so far"
    said, _ = lead_sentence(replace(run.verdict, sentence="Training without it scored best; 3 folds."), run.zero)
    assert said == "For trainings of 12 epochs only: training without it scored best"


def test_an_image_that_is_shown_for_two_reasons_is_shown_once(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    first, second = run.examples.cases[:2]
    twice = replace(first, kind="worst")
    sheets = read_sheets(run.folder / "examples", (first, second, twice), run.data.palette)
    assert [sheet.kinds for sheet in sheets] == [(first.kind, "worst"), (second.kind,)]

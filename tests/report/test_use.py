"""What a reader does with the page in a browser: compares, saves, comes by keyboard, waits a second."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from report_browser import DRAWN, Browser, Page
from report_numbers import CLASSES, Shape
from report_run import write_evaluation, write_run

from segdecay.report import build_report

MANY = tuple(f"class number {index}" for index in range(30))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("use")
    many = Shape(kind="edge", classes=MANY, diverged=None, has_test=False, has_diagnostics=False)
    shapes = {"chosen": Shape(kind="chosen"), "flat": Shape(kind="flat"), "many": many}
    found = {name: build_report(write_run(folder / name, shape)) for name, shape in shapes.items()}
    return found | {"evaluation": build_report(write_evaluation(folder / "evaluation"))}


@pytest.fixture(scope="module")
def pages(browser: Browser, reports: dict[str, Path]) -> dict[str, Page]:
    found = browser.open_drawn(reports)
    for page in found.values():
        page.unfold()
    return found


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("chosen", "light"), ("chosen", "dark"), ("many", "light"), ("evaluation", "light"), ("evaluation", "dark")],
)
def test_axe_finds_nothing_serious_or_critical(
    pages: dict[str, Page], name: str, scheme: Literal["light", "dark"]
) -> None:
    page = pages[name]
    page.emulate(scheme=scheme)
    assert page.barriers() == []
    page.emulate()


def test_axe_would_find_a_button_without_a_name(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><html lang='en'><title>bad</title><main><button></button></main></html>")
    assert any("button-name" in line for line in browser.open(bad).barriers())


@pytest.mark.parametrize("name", ["chosen", "many", "evaluation"])
def test_every_figure_can_be_saved_as_svg_and_its_numbers_as_csv(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    figures = page.evaluate("document.querySelectorAll('.plot, [data-pictures]').length")
    keys = page.evaluate("[...document.querySelectorAll('[data-save][data-kind=SVG]')].map(b => b.dataset.save)")
    assert len(keys) == len(set(keys)) == figures
    for key in keys:
        picture = ET.fromstring(page.saved(f"[data-save='{key}'][data-kind='SVG']"))  # noqa: S314  # our own page wrote it
        assert picture.tag.endswith("svg")
        assert len(list(picture.iter())) > 10
        text = page.saved(f"[data-save='{key}'][data-kind='CSV']")
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}
    assert page.complaints == []


def test_a_saved_file_bears_the_name_of_its_figure(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["chosen"])
    page.wait_for(DRAWN)
    page.unfold()
    title, text = page.download("[data-save='difference-to-none'][data-kind='CSV']")
    assert title == "difference-to-none.csv"
    assert text.startswith("\ufeffseries,label,total decay D,difference from no decay,low,high")


def test_the_saved_picture_of_classes_holds_every_class_by_name(pages: dict[str, Page]) -> None:
    text = pages["chosen"].saved("[data-save='classes-over-strength'][data-kind='SVG']")
    texts = [element.text for element in ET.fromstring(text).iter() if element.tag.endswith("text")]  # noqa: S314
    assert [name for name in CLASSES if name not in texts] == []


def test_the_slider_between_predictions_moves_by_keyboard_and_by_pointer(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    page.tab.locator("[data-slide]").first.click()
    slider = page.tab.locator("[data-compare]").first
    slider.focus()
    page.tab.keyboard.press("Home")
    clip = "getComputedStyle(document.querySelector('.sliding .compare figure:nth-child(2) .stack')).clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 0%)"
    page.tab.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 0px 0px 1%)"
    page.tab.locator(".compare .stack").first.scroll_into_view_if_needed()
    box = page.tab.locator(".compare .stack").first.bounding_box()
    assert box is not None
    page.tab.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    assert float(slider.input_value()) == pytest.approx(75, abs=1)


def test_both_predictions_of_a_slider_lie_on_each_other_and_apart_in_print(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    page.evaluate("document.querySelectorAll('.case').forEach(one => { one.classList.add('sliding'); })")
    lefts = "[...document.querySelectorAll('.compare')[0].querySelectorAll('.stack')].map(s => s.offsetLeft)"
    assert len(set(page.evaluate(lefts))) == 1
    page.emulate(medium="print")
    assert len(set(page.evaluate(lefts))) == 2
    assert page.evaluate("getComputedStyle(document.querySelectorAll('.compare .stack')[1]).clipPath") == "none"
    assert not page.tab.locator("[data-compare]").first.is_visible()
    page.emulate()


def test_the_page_stands_before_the_plotting_library_is_parsed(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["flat"])
    page.wait_for(DRAWN)
    ended = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert page.evaluate(f"{ended} < performance.getEntriesByName('drawing')[0].startTime")


@pytest.mark.parametrize("width", [400, 600, 1000, 1600])
@pytest.mark.parametrize("name", ["many", "evaluation"])
def test_many_classes_and_evaluations_fit_their_window(pages: dict[str, Page], name: str, width: int) -> None:
    page = pages[name]
    page.resize(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_large_noisy_images_stay_below_4_mb(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    random, size = np.random.default_rng(0), (700, 700)
    for path in sorted((run / "examples").glob("*.png")):
        is_image = path.stem.endswith("image")
        shape = (*size, 3) if is_image else size
        Image.fromarray(random.integers(0, 256 if is_image else 6, shape, dtype=np.uint8)).save(path)
    assert build_report(run).stat().st_size < 4_000_000


def test_an_evaluation_says_its_score_its_warnings_and_every_class(pages: dict[str, Page]) -> None:
    page = pages["evaluation"]
    text = page.evaluate("document.querySelector('#verdict').textContent")
    for words in ("0.612", "0.590 to 0.630", "3 images were <b>trained on</b>"):
        assert words in text
    assert page.evaluate("document.querySelectorAll('#classes tbody tr').length") == len(CLASSES)
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == page.requests[:1]


def test_the_slider_fades_the_masks(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    page.evaluate(
        "(s => { s.value = 20; s.dispatchEvent(new Event('input')); })(document.querySelector('[data-opacity]'))"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.stack img:not(.outline)')).opacity") == "0.2"


def test_the_same_image_is_shown_four_times_with_ignored_pixels_bare(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    assert page.evaluate("document.querySelectorAll('.case').length") == 4
    assert page.evaluate(
        "[...document.querySelectorAll('.case')].every(c => c.querySelectorAll('.stack').length === 4)"
    )
    corner = page.evaluate(
        "(i => { const c = new OffscreenCanvas(i.naturalWidth, i.naturalHeight).getContext('2d'); c.drawImage(i, 0, 0);"
        " return [...c.getImageData(0, 0, 1, 1).data, ...c.getImageData(39, 0, 1, 1).data]; })"
        "(document.querySelector('.stack img'))"
    )
    assert corner[3] == 0
    assert corner[4:] == [40, 44, 52, 255]  # background, in the palette of the data set


def test_without_decay_taken_the_best_decaying_setting_stands_beside_none(pages: dict[str, Page]) -> None:
    text = pages["flat"].evaluate("document.querySelector('#images').innerText")
    assert "no decay and best with decay, D = 1, differ" in text
    assert "chosen" not in text

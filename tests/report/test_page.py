"""The page in a real browser: it draws, asks for nothing, runs nothing from data, fits, and can be read by everyone."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from report_browser import DRAWN, Browser, Page
from report_numbers import CLASSES, PASTE, Shape
from report_run import write_run, write_training

from segdecay.report import build_report

MANY = tuple(f"class number {index}" for index in range(24))
SHAPES = {
    "chosen": Shape(kind="chosen"),
    "zero": Shape(kind="zero", has_stages=True),
    "flat": Shape(kind="flat"),
    "edge": Shape(
        kind="edge",
        has_test=False,
        diverged=None,
        classes=MANY,
        values=(0, 0.5, 1, 2, 4, 8, 16, 32, 64),
        has_diagnostics=False,
    ),
}
FIGURES = {"train": 1 + 4, "edge": 11}  # a training without validation draws its objective and its diagnostics only
MOST_PAGES = 4
PAGES = [*SHAPES, "train"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    found = {name: build_report(write_run(folder / name, shape)) for name, shape in SHAPES.items()}
    return found | {"train": build_report(write_training(folder / "train"))}


@pytest.fixture(scope="module")
def pages(browser: Browser, reports: dict[str, Path]) -> dict[str, Page]:
    """Every report, opened, unfolded and drawn."""
    found = browser.open_drawn(reports)
    for page in found.values():
        page.unfold()
    return found


class Elements(HTMLParser):
    """All start tags of a page, with their attributes, and the texts of its script elements."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self._kind: str | None = None
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"
        self._kind = dict(attrs).get("type")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append((self._kind, data))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"


def test_the_page_lies_in_the_run_and_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = build_report(run)
    assert path == run / "report.html"
    first = hashlib.sha256(path.read_bytes()).digest()
    build_report(run)
    assert hashlib.sha256(path.read_bytes()).digest() == first


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_one_file_under_4_mb_that_points_nowhere(reports: dict[str, Path], name: str) -> None:
    text = reports[name].read_text(encoding="utf-8")
    assert len(text.encode()) < 4_000_000
    elements = Elements(text)
    links = [value or "" for _, attrs in elements.found for key, value in attrs.items() if key in ("src", "href")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not any(key.startswith("on") for _, attrs in elements.found for key in attrs)
    assert len([kind for kind, _ in elements.scripts if kind is None]) == 1
    assert len([kind for kind, _ in elements.scripts if kind == "text/plain"]) == 1  # the library, parsed after loading
    for kind, content in elements.scripts:
        if kind == "application/json":
            held = json.loads(content)
            assert isinstance(held, str) or set(held) == {"data", "layout"}


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_is_drawn_without_complaint_or_request(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    figures = FIGURES.get(name, 11 + 4)
    assert page.evaluate("document.querySelectorAll('[data-done]').length") == figures
    assert page.evaluate("document.querySelectorAll('.plot').length") == figures
    assert page.evaluate(
        "[...document.querySelectorAll('.plot')].every(p => p.querySelector('svg.main-svg .trace, svg.main-svg .hm'))"
    )
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == page.requests[:1]
    assert page.requests[0].startswith("file:")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_from_data_runs_or_becomes_markup(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("document.querySelectorAll('img:not([src^=\"data:\"]), [onerror], td b, th b').length") == 0
    assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 2
    shown = page.evaluate("document.querySelector('#classes').innerText")
    classes = MANY if name == "edge" else CLASSES
    assert all(text.replace("  ", " ") in shown for text in classes)


def test_a_script_that_got_into_the_page_would_not_run(
    browser: Browser, reports: dict[str, Path], tmp_path: Path
) -> None:
    text = reports["chosen"].read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(
        text.replace("<main", "<script>window.hacked = 9</script><img src=x onerror='window.hacked=8'><main", 1)
    )
    page = browser.open(bad)
    page.wait_for(DRAWN)
    assert page.evaluate("window.hacked === undefined")
    assert any("Content Security Policy" in line for line in page.complaints)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_fits_its_window(pages: dict[str, Page], name: str, width: int) -> None:
    page = pages[name]
    page.resize(width)
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    figures = "[...document.querySelectorAll('.plot svg.main-svg')].map(s => s.getBoundingClientRect().right)"
    assert max(page.evaluate(figures)) <= width
    # nothing but the inside of a table, a block of code or a figure reaches out of the window
    outside = page.evaluate(
        "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, pre, .plot, nav ul') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["chosen", "flat", "train"])
def test_every_text_has_contrast_in_light_and_dark(
    pages: dict[str, Page], name: str, scheme: Literal["light", "dark"]
) -> None:
    page = pages[name]
    page.emulate(scheme=scheme)
    assert page.poor_contrasts() == []
    page.emulate()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_read_aloud(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("[...document.images].every(i => i.alt)")
    assert page.evaluate("[...document.querySelectorAll('th')].every(h => h.scope)")
    assert page.evaluate(
        "[...document.querySelectorAll('figure')].every(f => f.querySelector('figcaption').innerText.trim())"
    )
    ids = Counter(
        page.evaluate("[...document.querySelectorAll('[id]')].filter(e => !e.closest('.plot')).map(e => e.id)")
    )
    assert max(ids.values()) == 1
    for target in page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"):
        assert target in ids


def test_the_parts_come_in_the_order_in_which_they_are_asked_for(pages: dict[str, Page]) -> None:
    parts = pages["chosen"].evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")
    assert parts == [
        "verdict",
        "strength",
        "classes",
        "images",
        "generalisation",
        "trust",
        "next",
    ]


def test_the_first_screen_says_verdict_evidence_and_which_score_is_which(pages: dict[str, Page]) -> None:
    text = pages["chosen"].evaluate("document.querySelector('#verdict').textContent")
    for words in (
        "Decay helps: total decay 4",
        "Weight decay helps",
        "Test part",
        "optimizer_groups(partition)",
        "12 trainings, 2 refits on all images, 144 epochs; 4 min 12 s of training",
    ):
        assert words in text


def test_without_a_test_part_no_test_score_is_shown(pages: dict[str, Page]) -> None:
    assert "Test part" not in pages["edge"].evaluate("document.querySelector('#verdict').innerText")
    assert "test IoU" not in pages["edge"].evaluate("document.querySelector('#classes').innerText")


def test_what_is_missing_is_na_and_a_dropped_setting_says_why(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    rows = page.evaluate(
        "[...document.querySelectorAll('#settings tbody tr')].map(r => r.innerText.replace(/\\s+/g, ' '))"
    )
    assert rows[2].startswith("4 chosen one-SE 1 15 0.460 0.012")
    assert rows[3].startswith("16 4 3.75 n/a n/a n/a n/a n/a dropped: loss became NaN in epoch 3")
    absent = page.evaluate("document.querySelector('#classes tbody tr:last-child').innerText.replace(/\\s+/g, ' ')")
    assert absent == "absent everywhere 0 % n/a n/a n/a"
    assert "NaN" not in page.evaluate("document.body.innerText").replace("loss became NaN", "")


def test_the_lines_to_paste_and_the_command_are_there_as_they_are(pages: dict[str, Page]) -> None:
    page = pages["chosen"]
    assert page.evaluate("document.querySelector('#paste-lines').textContent") == PASTE
    assert page.evaluate("document.querySelector('#command').textContent") == "segdecay tune <data> --out chosen"


def test_a_print_has_the_plain_picture_and_what_is_unfolded_on_at_most_four_pages(
    browser: Browser, reports: dict[str, Path], tmp_path: Path
) -> None:
    page = browser.open(reports["zero"])
    page.wait_for(DRAWN)
    page.emulate(medium="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.fallback')).display") == "block"
    assert page.evaluate("getComputedStyle(document.querySelector('.print-instead')).display") == "none"
    page.emulate()
    printed = page.pdf(tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= MOST_PAGES
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0


def test_without_scripts_the_plain_picture_and_all_tables_are_there(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["chosen"], scripts=False)
    assert page.evaluate("getComputedStyle(document.querySelector('.fallback')).display") == "block"
    assert page.evaluate("document.querySelectorAll('.plot svg').length") == 0
    assert page.evaluate("document.querySelectorAll('table').length") == 9
    assert page.complaints == []


def test_diagnostics_stand_beside_each_other_and_are_absent_where_none_were_read(pages: dict[str, Page]) -> None:
    rows = pages["chosen"].evaluate(
        "[...document.querySelectorAll('#diagnostics table:first-of-type tr')].map(r => r.innerText.replace(/\\s+/g, ' "
        "'))"
    )
    assert rows[0] == "diagnostic no decay chosen"
    assert rows[1] == "penalty λR, share of the objective at the end 0 % 25 %"
    assert rows[3] == "ReLU channels dead on all validation images 12 % 12 %"
    assert rows[6] == "Spearman of row norms with class frequency 0.9 0.3"
    layers = pages["chosen"].evaluate("document.querySelector('#diagnostics details').textContent")
    assert "up.<b>evil</b>.weight" in layers
    assert pages["edge"].evaluate("document.querySelector('#diagnostics, #balancing')") is None
    assert pages["chosen"].evaluate("document.querySelector('#balancing')") is None


def test_weight_balancing_shows_every_class_before_and_after(pages: dict[str, Page]) -> None:
    page = pages["zero"]
    text = page.evaluate("document.querySelector('#balancing caption').innerText")
    assert "second stage of 10 epochs" in text
    assert "‖w‖ ≤ 0.7" in text
    assert "D = 0.045" in text
    rows = page.evaluate(
        "[...document.querySelectorAll('#balancing tbody tr')].map(r => r.innerText.replace(/\\s+/g, ' '))"
    )
    assert rows[0].startswith("background 50 % 20 0.4 ")
    assert " 0.7 0.500 " in rows[0]
    assert rows[4] == "absent everywhere n/a 0 0 0.4 0.7 n/a n/a"

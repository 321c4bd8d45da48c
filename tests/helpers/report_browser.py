"""A headless Chromium for tests of pages, by Playwright: opens files, evaluates scripts, records requests.

Uses an existing browser (browser.py); nothing is installed here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from browser import MissingBrowserError, find_browser
from playwright.sync_api import ConsoleMessage, Dialog, Download, sync_playwright
from playwright.sync_api import Page as Tab

DEADLINE_MS = 60_000
DRAWN = "document.documentElement.dataset.drawn !== undefined"
GRAVE = ("serious", "critical")
# Texts whose contrast with their background is below 4.5, the limit of WCAG 2 for small text (AA).
CONTRAST = """
(() => {
  const light = c => { const v = c / 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  const numbers = c => c.match(/[\\d.]+/g).map(Number);
  const luminance = c => {
    const [r, g, b] = numbers(c).map(light);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c.startsWith("rgb") && (numbers(c)[3] ?? 1) === 1) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  const kinds = "p, h1, h2, h3, dt, dd, th, td, figcaption, caption, a, summary, pre, button, .tag, .level, .plot text";
  for (const e of document.querySelectorAll(kinds)) {
    if (!e.textContent.trim() || e.closest(".skip, .heatmaplayer, .hoverlayer")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [luminance(e.closest("svg") ? style.fill : style.color), luminance(ground(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) poor.push([e.tagName, e.textContent.slice(0, 30)]);
  }
  return poor;
})()
"""


class Page:
    """One open page, with its requests and messages."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.requests: list[str] = []  # URLs
        self.complaints: list[str] = []  # errors and console messages
        tab.set_default_timeout(DEADLINE_MS)
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", self._note)
        tab.on("dialog", self._close)

    def _note(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    def _close(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        return self.tab.evaluate(script)

    def wait_for(self, script: str) -> None:
        """Wait until a JavaScript expression is true, by polling, since the page's policy forbids eval."""
        end = time.monotonic() + DEADLINE_MS / 1000
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise AssertionError(f"not true after {DEADLINE_MS} ms: {script}; heard: {self.complaints}")
            self.tab.wait_for_timeout(20)

    def unfold(self) -> None:
        """Open every folded part, and wait until its figures are drawn."""
        self.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        self.wait_for("document.querySelectorAll('.plot:not([data-done])').length === 0")

    def resize(self, width: int, height: int = 900) -> None:
        """Resize the window, in CSS pixels, and wait for the figures."""
        self.tab.bring_to_front()
        self.tab.set_viewport_size({"width": width, "height": height})
        self.tab.wait_for_timeout(400)  # plotly follows a resize after a pause

    def emulate(
        self,
        *,
        scheme: Literal["light", "dark"] = "light",
        medium: Literal["screen", "print"] = "screen",
    ) -> None:
        """Emulate light or dark mode, screen or print."""
        self.tab.emulate_media(media=medium, color_scheme=scheme)

    def poor_contrasts(self) -> list[list[str]]:
        """Tag and beginning of every text that is hard to read."""
        found: list[list[str]] = self.evaluate(CONTRAST)
        return found

    def barriers(self) -> list[str]:
        """Serious and critical findings of axe-core: rule and elements, one per line."""
        found = Axe().run(self.tab).response["violations"]
        return [
            f"{rule['id']} ({rule['impact']}): {[node['html'][:120] for node in rule['nodes'][:3]]}"
            for rule in found
            if rule["impact"] in GRAVE
        ]

    def download(self, selector: str) -> tuple[str, str]:
        """Name and text of the file that a click on a button downloads."""
        with self.tab.expect_download() as waiting:
            self.tab.locator(selector).first.click()
        file: Download = waiting.value
        return file.suggested_filename, Path(file.path()).read_text(encoding="utf-8")

    def saved(self, selector: str) -> str:
        """The text that a click on a button would save; not downloaded, since a browser asks after many downloads."""
        self.evaluate(
            "() => { window.kept = null; HTMLAnchorElement.prototype.click = () => {};"
            " URL.createObjectURL = blob => { blob.text().then(text => { window.kept = text; }); return '#'; };"
            " URL.revokeObjectURL = () => {}; }"
        )
        self.tab.locator(selector).first.click()
        self.wait_for("window.kept !== null")
        text: str = self.evaluate("window.kept")
        return text

    def screenshot(self, path: Path) -> Path:
        """The whole page as PNG."""
        self.tab.screenshot(path=path, full_page=True)
        return path

    def pdf(self, path: Path) -> Path:
        """The page as it prints."""
        self.tab.emulate_media(media="null")  # otherwise the emulated medium is printed
        self.tab.pdf(path=path, prefer_css_page_size=True)
        return path


class Browser:
    """One running Chromium; `with Browser() as browser: browser.open(path)`."""

    def __init__(self) -> None:
        try:
            program = find_browser()
        except MissingBrowserError as error:
            pytest.fail(str(error), pytrace=False)
        self._manager = sync_playwright()
        self._driver = self._manager.start()
        self._browser = self._driver.chromium.launch(executable_path=program, args=["--no-sandbox"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self._driver.stop()

    def open_drawn(self, paths: Mapping[str, Path]) -> dict[str, Page]:
        """Reports by name, each in a separate page, with all figures drawn."""
        found = {name: self.open(path) for name, path in paths.items()}
        for page in found.values():
            page.wait_for(DRAWN)
        return found

    def open(self, path: Path, *, width: int = 1400, scripts: bool = True) -> Page:
        """A new page that shows a file, after its load event."""
        return self.open_url(path.absolute().as_uri(), width=width, scripts=scripts)

    def open_url(self, url: str, *, width: int = 1400, scripts: bool = True) -> Page:
        """A new page at an address, after its load event."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=scripts, color_scheme="light"
        )
        page = Page(context.new_page())
        page.tab.goto(url)
        return page

"""A headless Chromium for tests, driven over the DevTools protocol through two pipes; needs nothing but the browser.

Knows little of reports: it opens files, evaluates scripts, and keeps what the page asked for and complained about.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

DEADLINE_S = 60.0
# Texts whose contrast with the ground below them is less than 4.5, as WCAG 2 asks of small text (AA).
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
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


@dataclass
class Page:
    """One open page: its session, and what was heard from it."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)  # URLs
    complaints: list[str] = field(default_factory=list)  # errors and console messages

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        options = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.browser.call("Runtime.evaluate", options, self.session)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + DEADLINE_S
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise AssertionError(f"not true after {DEADLINE_S:.0f} s: {script}; heard: {self.complaints}")
            time.sleep(0.02)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page a window of this size, in CSS pixels, and let its figures follow."""
        self.browser.call("Page.bringToFront", {}, self.session)  # a page behind another is not laid out
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.call("Emulation.setDeviceMetricsOverride", size, self.session)
        self.evaluate("new Promise(done => setTimeout(done, 400))")  # plotly follows a resize after a pause

    def emulate(self, *, scheme: str = "light", medium: str = "") -> None:
        """Light or dark, screen or print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.call("Emulation.setEmulatedMedia", {"media": medium, "features": features}, self.session)

    def poor_contrasts(self) -> list[list[str]]:
        """Tag and beginning of every text that is hard to read."""
        found: list[list[str]] = self.evaluate(CONTRAST)
        return found

    def screenshot(self, path: Path) -> Path:
        """The whole page as PNG."""
        options = {"format": "png", "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(self.browser.call("Page.captureScreenshot", options, self.session)["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        """The page as it prints."""
        options = {"printBackground": False}
        path.write_bytes(base64.b64decode(self.browser.call("Page.printToPDF", options, self.session)["data"]))
        return path


class Browser:
    """One running Chromium; `with Browser(folder) as browser: browser.open(path)`."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            pytest.fail("chromium is missing: apt-get install -y --no-install-recommends chromium", pytrace=False)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        # The browser reads commands from descriptor 3 and answers on 4: a shell moves the pipes there.
        words = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", words, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._heard = b""
        self._last = 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def open(self, path: Path, *, width: int = 1400, scripts: bool = True) -> Page:
        """A new page that shows a file, its load event past."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", {}, session)
        page.resize(width)
        self.call("Emulation.setScriptExecutionDisabled", {"value": not scripts}, session)
        self.call("Page.navigate", {"url": path.absolute().as_uri()}, session)
        page.wait_for("location.protocol === 'file:' && document.readyState === 'complete'")
        return page

    def call(self, method: str, options: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """One command of the protocol and its answer; what is heard meanwhile goes to the pages."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": options}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._heard:
            ready, _, _ = select.select([self._read], [], [], DEADLINE_S)
            more = os.read(self._read, 1 << 20) if ready else b""
            if not more:
                raise AssertionError("chromium ended or fell silent; is it installed with all its libraries?")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        page = self._pages.get(message.get("sessionId", ""))
        values = message.get("params", {})
        match (page, message.get("method")):
            case (None, _):
                return
            case (Page() as page, "Network.requestWillBeSent"):
                page.requests.append(values["request"]["url"])
            case (Page() as page, "Runtime.exceptionThrown"):
                details = values["exceptionDetails"]
                page.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case (Page() as page, "Runtime.consoleAPICalled"):
                page.complaints.append(f"{values['type']}: {values['args']}")
            case (Page() as page, "Log.entryAdded"):
                page.complaints.append(f"{values['entry']['level']}: {values['entry']['text']}")
            case (Page() as page, "Page.javascriptDialogOpening"):
                page.complaints.append(f"dialog: {values['message']}")

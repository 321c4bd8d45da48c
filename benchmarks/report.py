"""Size of a report, time to build it, and time until it is open in a real browser.

    python benchmarks/report.py RUN [--openings 5]

Needs Debian's chromium and the dependency group dev. Times are the browser's own, from the start of the navigation:
first paint, load event, and when the last figure was drawn; the median of the openings.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from segdecay.report import build_report

TIMES = {
    "first paint": "performance.getEntriesByName('first-contentful-paint')[0].startTime",
    "load event": "performance.getEntriesByType('navigation')[0].loadEventEnd",
    "all figures drawn": "performance.now()",
}


def openings(page_path: Path, count: int) -> dict[str, list[float]]:
    """Seconds of every opening, by the timed event."""
    found: dict[str, list[float]] = {name: [] for name in TIMES}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(count):
            tab = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
            tab.goto(page_path.absolute().as_uri())
            while tab.evaluate("document.documentElement.dataset.drawn === undefined"):
                tab.wait_for_timeout(10)
            for name, script in TIMES.items():
                found[name].append(tab.evaluate(script) / 1000)
        browser.close()
    return found


def main() -> None:
    """Build, open, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--openings", type=int, default=5)
    asked = parser.parse_args()
    start = time.perf_counter()
    page = build_report(asked.run)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, built in {time.perf_counter() - start:.1f} s")
    for name, seconds in openings(page, asked.openings).items():
        print(f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()

"""A Chromium for the tests of pages: an existing one, or one that is installed.

    python tests/helpers/browser.py        run by `make browser`: finds or installs one, and prints it or the reasons

Tried in this order: a Chromium or Chrome on the PATH; playwright's own (`playwright install chromium`); the package
manager of the system, as root. A browser is accepted if it answers `--version`; one without its libraries, or Ubuntu's
placeholder, does not. If all fail, the reasons are kept, and every test of a page fails with them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MANAGERS = {  # by program: the commands that install Chromium
    "apt-get": (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]),
    "dnf": (["install", "-y", "-q", "chromium"],),
    "zypper": (["--non-interactive", "--quiet", "install", "chromium"],),
    "pacman": (["-Sy", "--noconfirm", "--needed", "chromium"],),
}
ANSWER_WITHIN_S, INSTALL_WITHIN_S = 60, 900
REASONS = Path(sys.prefix) / "browser.txt"  # the reasons why `make browser` found none, for the tests


class MissingBrowserError(Exception):
    """No browser was found or installed; `tried` has one line per attempt, with the reason."""

    def __init__(self, tried: Sequence[str]) -> None:
        self.tried = tuple(tried)
        super().__init__("\n".join(["No Chromium for the tests of pages. Tried:", *(f"- {way}" for way in tried)]))


def _refusal(program: str, *arguments: str, within_s: float) -> str | None:
    """None if a command succeeds, else the last line of its output."""
    command = [program, *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=within_s, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"exit code {done.returncode}: {said[-1] if said else 'it said nothing'}" if done.returncode else None


def _answers(program: Path | str) -> str | None:
    """None if the browser starts, else the reason."""
    return _refusal(str(program), "--version", within_s=ANSWER_WITHIN_S)


def _on_the_path(tried: list[str]) -> str | None:
    for name in NAMES:
        program = shutil.which(name)
        if program is None:
            continue
        wrong = _answers(program)
        if wrong is None:
            return program
        tried.append(f"{program} does not start: {wrong}")
    tried.append(f"on the PATH: none of {', '.join(NAMES)} that starts")
    return None


def playwright_program() -> Path:
    """The path of playwright's own Chromium, which may not exist."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        return Path(driver.chromium.executable_path)


def _of_playwright(tried: list[str], *, install: bool) -> str | None:
    program = playwright_program()
    if program.exists() and _answers(program) is None:
        return str(program)
    if not install:
        tried.append(f"playwright's own: none that starts at {program}")
        return None
    scripts = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
    playwright = shutil.which("playwright", path=scripts) or "playwright"
    steps = [["install", "chromium"]]
    if os.geteuid() == 0:
        steps.append(["install-deps", "chromium"])  # the libraries that it needs, by the system's package manager
    for step in steps:
        wrong = _refusal(playwright, *step, within_s=INSTALL_WITHIN_S)
        if wrong is None:
            wrong = _answers(program)
            if wrong is None:
                return str(program)
        tried.append(f"playwright {' '.join(step)}: {wrong}")
        if not program.exists():
            break
    return None


def _of_the_system(tried: list[str]) -> str | None:
    manager = next((name for name in MANAGERS if shutil.which(name)), None)
    if manager is None:
        tried.append(f"by the system: none of {', '.join(MANAGERS)} is there")
    elif os.geteuid() != 0:
        tried.append(f"by the system: {manager} needs root, and this is user {os.geteuid()}")
    else:
        for arguments in MANAGERS[manager]:
            wrong = _refusal(manager, *arguments, within_s=INSTALL_WITHIN_S)
            if wrong is not None:
                tried.append(f"{manager} {' '.join(arguments)}: {wrong}")
                return None
        return _on_the_path(tried)
    return None


def find_browser() -> str:
    """The program of an existing browser; installs nothing.

    Raises:
        MissingBrowserError: there is none. The message lists the attempts of `make browser`, if it was run.
    """
    tried: list[str] = []
    program = _on_the_path(tried) or _of_playwright(tried, install=False)
    if program is None:
        kept = REASONS.read_text(encoding="utf-8").splitlines() if REASONS.exists() else []
        raise MissingBrowserError(kept or [*tried, "nothing was installed: `make browser` tries to"])
    return program


def get_browser() -> str:
    """The program of a browser, which is installed if there is none.

    Raises:
        MissingBrowserError: all attempts failed; each is listed with its reason.
    """
    tried: list[str] = []
    program = _on_the_path(tried) or _of_playwright(tried, install=True) or _of_the_system(tried)
    if program is None:
        raise MissingBrowserError(tried)
    return program


def main() -> None:
    """Get a browser, or keep the reasons for the tests of pages; the exit code is 0, so that all other tests run."""
    REASONS.unlink(missing_ok=True)
    try:
        print(f"browser: {get_browser()}")
    except MissingBrowserError as error:
        REASONS.write_text("\n".join(error.tried), encoding="utf-8")
        print(error, file=sys.stderr)


if __name__ == "__main__":
    main()

"""The ways to a browser for the tests of pages, in their order, with fakes on the PATH."""

from __future__ import annotations

import os
from pathlib import Path

import browser
import pytest
from browser import MissingBrowserError, find_browser, get_browser, main
from report_browser import Browser

STARTS = "echo Chromium 150"
LACKS = "echo 'libnss3.so: cannot open shared object file' >&2; exit 127"


class Machine:
    """A PATH with fakes only, whose calls are noted, and the place where playwright would keep its browser."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.notes, self.kept = folder / "bin", folder / "notes", folder / "kept" / "chrome"
        self.programs.mkdir()
        self.kept.parent.mkdir()

    def write(self, path: Path, script: str) -> None:
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> {self.notes}\n{script}\n')
        path.chmod(0o755)

    def has(self, name: str, script: str) -> None:
        self.write(self.programs / name, script)

    def making(self, path: Path) -> str:
        """A script whose end is a browser at `path`."""
        return f"printf '#!/bin/sh\\n{STARTS}\\n' > {path}; /bin/chmod 755 {path}"

    @property
    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """With a playwright that cannot download, and run as root."""
    found = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(found.programs))
    monkeypatch.setattr(browser, "playwright_program", lambda: found.kept)
    monkeypatch.setattr(browser, "REASONS", tmp_path / "browser.txt")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found.has("playwright", "echo 'getaddrinfo ENOTFOUND' >&2; exit 1")
    return found


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
def test_a_browser_on_the_path_is_taken_and_nothing_is_installed(machine: Machine, name: str) -> None:
    machine.has(name, STARTS)
    machine.has("apt-get", "exit 0")
    assert get_browser() == find_browser() == str(machine.programs / name)
    assert set(machine.calls) == {f"{name} --version"}


def test_then_playwright_downloads_its_own_before_the_system_is_asked(machine: Machine) -> None:
    machine.has("chromium-browser", "echo 'Command requires the chromium snap' >&2; exit 10")  # as on Ubuntu
    machine.has("playwright", machine.making(machine.kept))
    machine.has("apt-get", "exit 0")
    assert get_browser() == str(machine.kept)
    assert machine.calls == ["chromium-browser --version", "playwright install chromium"]
    assert find_browser() == str(machine.kept)


def test_libraries_that_playwrights_browser_lacks_are_installed_as_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(machine.kept, LACKS)
    machine.has("playwright", f'[ "$1" = install ] || {{ {machine.making(machine.kept)}; }}')
    assert get_browser() == str(machine.kept)
    assert [call for call in machine.calls if call.startswith("playwright")] == [
        "playwright install chromium",
        "playwright install-deps chromium",
    ]
    machine.write(machine.kept, LACKS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingBrowserError, match=r"playwright install chromium: exit code 127: libnss3\.so"):
        get_browser()


def test_then_the_system_installs_one_as_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has("apt-get", f'[ "$1" = update ] || {{ {machine.making(machine.programs / "chromium")}; }}')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingBrowserError, match="by the system: apt-get needs root, and this is user 1000"):
        get_browser()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.notes.unlink()
    assert get_browser() == str(machine.programs / "chromium")
    assert machine.calls == [
        "playwright install chromium",
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends chromium",
    ]


def test_where_no_way_works_the_tests_of_pages_fail_and_name_every_way(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(pytest.fail.Exception, match="nothing was installed: `make browser` tries to"):
        Browser()
    machine.has("dnf", "echo 'No match for argument: chromium' >&2; exit 1")
    main()
    ways = (
        "on the PATH: none of chromium, chromium-browser, google-chrome, google-chrome-stable that starts",
        "playwright install chromium: exit code 1: getaddrinfo ENOTFOUND",
        "dnf install -y -q chromium: exit code 1: No match for argument: chromium",
    )
    said = capsys.readouterr().err
    with pytest.raises(pytest.fail.Exception) as caught:
        Browser()
    for way in ways:
        assert way in said
        assert way in str(caught.value)
    machine.has("chromium", STARTS)
    main()  # what was tried before is forgotten
    assert capsys.readouterr().out == f"browser: {machine.programs / 'chromium'}\n"
    assert not browser.REASONS.exists()


@pytest.mark.usefixtures("machine")
def test_a_machine_without_a_package_manager_says_so() -> None:
    with pytest.raises(MissingBrowserError, match="by the system: none of apt-get, dnf, zypper, pacman is there"):
        get_browser()

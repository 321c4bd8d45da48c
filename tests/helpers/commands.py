"""The command line called in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from segdecay.cli.main import run as run_cli


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


Command = Callable[..., Said]


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Said:
    """Run a command; the exit code must be the one expected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["segdecay", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_cli()
    printed = capsys.readouterr()
    found = Said(printed.out, printed.err, int(ended.value.code or 0))
    assert found.code == code, found
    return found

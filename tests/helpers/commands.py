"""The command line called in the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from segdecay.cli.main import run as run_cli


@dataclass(frozen=True)
class Said:
    """The output of a command, and its exit code."""

    out: str
    err: str
    code: int


Command = Callable[..., Said]


def _text(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def call(*arguments: str | Path | float, code: int | None = 0, encoding: str = "utf-8") -> Said:
    """Run a command; the exit code must be the one expected. None: 0 or 1, with a verdict or without."""
    out, err = _text(encoding), _text(encoding)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["segdecay", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_cli()
    found = Said(_written(out), _written(err), int(ended.value.code or 0))
    assert found.code in ((0, 1) if code is None else (code,)), found
    return found

"""The benchmark of scores checks that all counts are equal and prints a ratio."""

from __future__ import annotations

import runpy
import sys

import pytest
from recorded_grids import BENCHMARKS


@pytest.mark.filterwarnings("default")
def test_counts_are_equal_and_the_ratio_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sizes", "20x30", "--classes", "3", "--images", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["scores.py", *words])
    runpy.run_path(str(BENCHMARKS / "scores.py"), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("smallest ratio of torchmetrics' time to ours: ")

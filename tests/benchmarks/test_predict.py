"""The benchmark of prediction runs from its own bundle to its last line, small."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from recorded_grids import BENCHMARKS


@pytest.mark.filterwarnings("default")
def test_the_large_tiff_is_made_predicted_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["large", "--side", "600", "--classes", "3", "--width", "2", "--depth", "1", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["predict.py", *words])
    runpy.run_path(str(BENCHMARKS / "predict.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1].startswith("600x600 (")
    assert (tmp_path / "out" / "masks" / "large.tif").exists()

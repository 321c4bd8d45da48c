"""The benchmark of prediction runs from its own bundle to its last line, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from recorded_grids import BENCHMARKS


def test_the_large_tiff_is_made_predicted_and_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "predict.py"), "large", "--side", "600", "--classes", "3"]
    command += ["--width", "2", "--depth", "1", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.splitlines()[-1].startswith("600x600 (")
    assert (tmp_path / "out" / "masks" / "large.tif").exists()

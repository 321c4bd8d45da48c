"""The benchmark of scores checks that all counts are equal and prints a ratio."""

from __future__ import annotations

import subprocess
import sys

from recorded_grids import BENCHMARKS


def test_counts_are_equal_and_the_ratio_is_printed() -> None:
    command = [sys.executable, str(BENCHMARKS / "scores.py"), "--sizes", "20x30", "--classes", "3", "--images", "2"]
    done = subprocess.run([*command, "--rounds", "1"], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.splitlines()[-1].startswith("smallest ratio of torchmetrics' time to ours: ")

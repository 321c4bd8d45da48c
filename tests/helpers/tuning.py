"""`segdecay tune` as a user types it, on data so small that a search takes seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_QUICK = ["--epochs", "2", "--device", "cpu", "--folds", "3"]
for _pair in ("search.resamples=200", "model.width=4", "model.depth=2", "training.batch_size=4", "optimizer.lr=0.01"):
    _QUICK += ["--set", _pair]


def tune(data: Path, run: Path, grid: Sequence[float], *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The finished command over a grid of strengths; it must end with this exit code."""
    command = [sys.executable, "-m", "segdecay.cli.main", "tune", str(data), "--out", str(run), *_QUICK]
    command += ["--set", f"search.grid={list(grid)}", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done

"""The command `segdecay tune` in the process of the test, on data so small that a search takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from commands import Said, call

_QUICK = ["--epochs", "6", "--device", "cpu", "--folds", "3"]
for _pair in ("search.resamples=200", "model.width=4", "model.depth=2", "training.batch_size=4", "optimizer.lr=0.02"):
    _QUICK += ["--set", _pair]


def tune(data: Path, run: Path, grid: Sequence[float], *more: str, workers: int = 0, code: int | None = 0) -> Said:
    """The output of the command over a grid of strengths; it must end with this exit code, None: 0 or 1."""
    options = ["--workers", str(workers), "--set", f"search.grid={list(grid)}", *more]
    return call("tune", data, "--out", run, *_QUICK, *options, code=code)

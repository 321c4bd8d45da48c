"""One search that all tests share which only read a finished run: it trains once a test process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Said, call
from shapes import write_shapes

OPTIONS = ["--epochs", "6", "--device", "cpu", "--workers", "0", "--folds", "2"]
for _pair in ("search.grid=[0,2]", "search.resamples=200", "model.width=4", "model.depth=2", "training.batch_size=4",
              "optimizer.lr=0.02"):  # fmt: skip
    OPTIONS += ["--set", _pair]


@dataclass(frozen=True)
class SmallSearch:
    """Data with a train and a test part, a finished run of `tune` on it, and what that printed in ASCII."""

    data: Path
    run: Path
    said: Said


def run_small_search(folder: Path) -> SmallSearch:
    """Train two folds at two strengths, and the refits; some seconds."""
    data = write_shapes(folder / "shapes", n_images=12, test_images=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "80")
        said = call("tune", data, "--out", folder / "run", *OPTIONS, encoding="ascii")
    return SmallSearch(data, folder / "run", said)

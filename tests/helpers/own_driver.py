"""own_driver.py RUN: a search over a function that sleeps, in workers; for kills."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import user_training


def slow(setting: Any, fold: Any, seed: int) -> Any:
    """As `peak`, after a pause."""
    found = user_training.peak(setting, fold, seed)
    time.sleep(0.15)
    return found


if __name__ == "__main__":
    done = user_training.tune(slow, Path(sys.argv[1]), workers=1, set={"search.race": False})
    print(done.verdict.kind, done.verdict.strength.value)

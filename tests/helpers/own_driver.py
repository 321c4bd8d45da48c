"""A search over a function that sleeps, in a worker; for kills."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import user_training


def slow(setting: Any, fold: Any, seed: int) -> Any:
    """As `peak`, after a pause."""
    found = user_training.peak(setting, fold, seed)
    time.sleep(0.15)
    return found


def search(run: Path, workers: int = 1) -> None:
    """The search of which the kill takes a part; prints its verdict."""
    done = user_training.tune(slow, run, workers=workers, set={"search.race": False})
    print(done.verdict.kind, done.verdict.strength.value)

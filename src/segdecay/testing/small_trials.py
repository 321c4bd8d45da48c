"""Small trials in a temporary folder for the contract of executors, with networks that fail on purpose."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segdecay.config.schema import parse_config
from segdecay.data import load_dataset
from segdecay.training.setup import TrialTask

SIDE_PX = 16
IMAGES = 8
EPOCHS = 3
# A network whose forward pass first runs `lines`; files are written to HERE.
MODULE = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn
HERE = Path({here!r})
def once():
    flag = HERE / "{name}.flag"
    if flag.exists():
        return False
    flag.touch()
    return True
class Net(nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.body, self.head = nn.Conv2d(in_channels, 4, 3, padding=1), nn.Conv2d(4, classes, 1)
    def forward(self, images):
        {lines}
        return self.head(torch.relu(self.body(images)))
def build(in_channels, classes):
    return Net(in_channels, classes)
"""
WELL = "pass"
WRONG = "raise ValueError('this network cannot')"
KILLED_ONCE = "self.training and once() and os.kill(os.getpid(), signal.SIGKILL)"
KILLED_ALWAYS = "os.kill(os.getpid(), signal.SIGKILL)"
TOO_LARGE = "torch.empty(1 << 60, dtype=torch.uint8)"  # the allocator refuses this size
TOO_LARGE_ONCE = f"self.training and once() and {TOO_LARGE}"
SLEEPS_ONCE = "self.training and once() and time.sleep(3600)"
SLEEPS_ALWAYS = "time.sleep(3600)"
NOTES_TIMES = (  # process and times of every forward pass, on the system's monotonic clock
    "at = time.monotonic(); time.sleep(0.03); "
    "print(os.getpid(), at, time.monotonic(), file=(HERE / f'{os.getpid()}.times').open('a'), flush=True)"
)


@dataclass(frozen=True)
class SmallTrials:
    """A folder with a data set, and trials on it."""

    root: Path

    def tasks(self, name: str, count: int = 2, *, lines: str = WELL, **training: Any) -> list[TrialTask]:
        """Trials NAME/0, NAME/1, …, equal except for their seeds, with a network that runs `lines` in every pass."""
        module = f"small_trials_{abs(hash(str(self.root)))}_{name}"
        content = MODULE.format(here=str(self.root), name=name, lines=lines)
        (self.root / f"{module}.py").write_text(content, encoding="utf-8")
        values = {
            "data": {"path": str(self.root / "squares")},
            "model": {"name": f"{module}:build"},
            "training": {"epochs": EPOCHS, "batch_size": 4, **training},
            "optimizer": {"lr": 0.01},
        }
        config = parse_config(values)
        dataset, _ = load_dataset(config.data, cache=self.root / "cache")
        first = TrialTask(
            folder=self.root / name / "0",
            dataset=dataset.root,
            config=config,
            setting="total_decay=2",
            value=2.0,
            fold=0,
            seed=0,
            train=tuple(range(IMAGES * 3 // 4)),
            scored=tuple(range(IMAGES * 3 // 4, IMAGES)),
            keep_model=True,
        )
        return [replace(first, folder=self.root / name / str(seed), seed=seed) for seed in range(count)]

    def overlaps(self) -> bool:
        """Whether two processes were in a recorded forward pass at the same time."""
        passes = [
            (float(begin), float(end), pid)
            for path in self.root.glob("*.times")
            for pid, begin, end in map(str.split, path.read_text(encoding="utf-8").splitlines())
        ]
        return any(a[2] != b[2] and a[0] < b[1] and b[0] < a[1] for a in passes for b in passes)


@contextmanager
def small_trials() -> Iterator[SmallTrials]:
    """A data set of squares in a temporary folder from which modules can be imported."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind in ("images", "masks"):
            (root / "squares" / kind).mkdir(parents=True)
        for number in range(IMAGES):
            image = random.integers(90, 160, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
            mask = np.zeros((SIDE_PX, SIDE_PX), dtype=np.uint8)
            top, left = random.integers(0, SIDE_PX - 6, 2)
            image[top : top + 6, left : left + 6], mask[top : top + 6, left : left + 6] = 230, 1
            Image.fromarray(image).save(root / "squares" / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / "squares" / "masks" / f"{number}.png")
        (root / "squares" / "classes.txt").write_text("ground\nsquare\n", encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            yield SmallTrials(root)
        finally:
            sys.path.remove(folder)


def result_of(task: TrialTask) -> tuple[bytes, dict[str, Any]]:
    """The weights file of a finished trial, and its record without the duration."""
    record = json.loads((task.folder / "trial.json").read_text(encoding="utf-8"))
    return (task.folder / "model.safetensors").read_bytes(), {**record, "seconds": 0}

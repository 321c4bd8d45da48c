"""A set larger than the memory that may be used: building, checking, folds and batches take it in pieces.

Measured in a fresh process: the most anonymous memory (Linux' RssAnon) above that before the set is opened. Pages of
the mapped cache are not counted: the system takes them back when it needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux' measure")

SIDE, PAIRS = 1024, 50
MOST_MB = 80
MEASURE = """
import json, sys, threading, time
from pathlib import Path

def rss_anon():
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) / 1024

most, ends = 0.0, threading.Event()

def watch():
    global most
    while not ends.is_set():
        most = max(most, rss_anon())
        time.sleep(0.002)
"""
STREAM = (
    MEASURE
    + """
import numpy as np
from segdecay.config.schema import DataConfig, RunConfig
from segdecay.data.dataset import class_pixels
from segdecay.data.splits.folds import check_folds
from segdecay.data.loading import load_dataset
from segdecay.data.splits.folds import plan_folds

folder, cache = sys.argv[1:]
config = RunConfig.model_validate({"data": {"path": folder}, "search": {"folds": 2}})
before = rss_anon()
threading.Thread(target=watch, daemon=True).start()
dataset, _ = load_dataset(config.data, cache=Path(cache))
plan = plan_folds(dataset, config)
check_folds(plan, dataset, allow_missing=False)
pixels = int(class_pixels(dataset).sum())
batch = np.stack([dataset.image(index)[:256, :256] for index in range(8)])
ends.set()
decoded = sum((dataset.root / name).stat().st_size for name in ("images.u8", "masks.u8")) / 2**20
print(json.dumps({"most": most - before, "decoded": decoded, "pixels": pixels, "batch": batch.shape}))
"""
)


def run_measured(code: str, *arguments: Path) -> dict[str, float]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    values: dict[str, float] = json.loads(done.stdout)
    return values


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """200 MB decoded, in a few MB of files."""
    folder, ramp = tmp_path / "large", np.arange(SIDE, dtype=np.uint8)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    (folder / "classes.txt").write_text("background\nroad\n")
    for i in range(PAIRS):
        image = np.broadcast_to((ramp + i)[:, None, None], (SIDE, SIDE, 3))
        mask = np.broadcast_to(ramp < 100 + i, (SIDE, SIDE)).astype(np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            Image.fromarray(np.ascontiguousarray(array)).save(folder / kind / f"{i:02}.png", compress_level=1)
    return folder


def test_a_set_larger_than_memory_is_streamed(large: Path, tmp_path: Path) -> None:
    seen = run_measured(STREAM, large, tmp_path / "cache")
    assert seen["decoded"] == PAIRS * SIDE * SIDE * 4 / 2**20 == 200
    assert seen["pixels"] == PAIRS * SIDE * SIDE
    assert seen["most"] < MOST_MB, f"{seen['most']:.0f} MB"
    print(seen)

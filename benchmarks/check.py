"""Speed of `check`, compared with only decoding the same files on as many processes.

Rates are wall time; the ratio of processor times shows the work beside decoding even if other programs use the cores.

python benchmarks/check.py FOLDER [FOLDER ...]     # each with a dataset.yaml, or images/ and masks/ and classes.txt
python benchmarks/check.py                         # 300 made-up pairs of 512x512: JPEG and PNG with PNG masks
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from segdecay.config.schema import DataConfig
from segdecay.data.formats import build_source
from segdecay.data.loading import read_dataset
from segdecay.utils.parallel import count_cores

CHUNK = 8  # files that a process decodes at a time


def decode(paths: list[Path]) -> int:
    """Decode files to arrays; returns the number of values, so that no work can be optimised away."""
    values = 0
    for path in paths:
        with Image.open(path) as image:
            values += np.asarray(image).size
    return values


def made_up(folder: Path, *, pairs: int, side: int, seed: int) -> Path:
    """Smooth images with a little grain, half of them JPEG, and masks of a few regions."""
    random = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    (folder / "classes.txt").write_text("background\nfirst\nsecond\n")
    for number in range(pairs):
        coarse = Image.fromarray(random.integers(0, 256, (side // 32, side // 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2)))
        grain = random.integers(-4, 5, (side, side, 3))
        image = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        image.save(folder / "images" / f"{number:04}{'.png' if number % 2 else '.jpg'}")
        Image.fromarray((smooth[..., 0] // 86).astype(np.uint8)).save(folder / "masks" / f"{number:04}.png")
    return folder


def files_of(folder: Path) -> list[Path]:
    """Every image and mask that a check of the folder reads."""
    placed = getattr(build_source(DataConfig(path=str(folder))), "placed", ())
    return [path for one in placed for path in dict.fromkeys((one.pair.image, one.pair.mask))]


def measure(folder: Path, *, repeats: int, cores: int) -> None:
    """Print files per second of both, measured in turn, and their ratio."""
    files = files_of(folder)
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    decoding, checking, shares = list[float](), list[float](), list[float]()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(decode, chunks))  # processes started, files in the memory of the system
        for _ in range(repeats):
            start = time.perf_counter()
            sum(pool.map(decode, chunks))
            decoding.append(time.perf_counter() - start)
            busy = [time.process_time()]
            decode(files)
            busy.append(time.process_time())
            with tempfile.TemporaryDirectory() as cache:
                start = time.perf_counter()
                _, report = read_dataset(DataConfig(path=str(folder)), cache=Path(cache))
                checking.append(time.perf_counter() - start)
                busy.append(time.process_time())
            shares.append((busy[1] - busy[0]) / (busy[2] - busy[1]))
    rates = [len(files) / statistics.median(seconds) for seconds in (decoding, checking)]
    ratios = sorted(one / other for one, other in zip(decoding, checking, strict=True))
    print(
        f"{folder}: {len(files)} files, {sum(report.images.values())} pairs, {cores} cores: decoding {rates[0]:.0f}, "
        f"check {rates[1]:.0f} files/s; ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}), "
        f"of processor time {statistics.median(shares):.2f} ({min(shares):.2f}–{max(shares):.2f})"
    )


def main() -> None:
    """Measure every given folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = asked.folders or [made_up(scratch, pairs=asked.pairs, side=asked.side, seed=asked.seed)]
        for folder in folders:
            measure(folder, repeats=asked.repeats, cores=count_cores())


if __name__ == "__main__":
    main()

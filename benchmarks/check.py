"""Speed of `check`, compared with only decoding the same files on as many processes.

Rates are wall time; the ratio of processor times shows the work beside decoding even if other programs use the cores.

python benchmarks/check.py FOLDER [FOLDER ...]     # each with a dataset.yaml, or images/ and masks/ and classes.txt
python benchmarks/check.py                         # 300 made-up pairs of 512x512: JPEG and PNG with PNG masks
python benchmarks/check.py --objects               # 664 made-up images with 28,986 mask files, one an object, twice
python benchmarks/check.py --memory                # most memory of `segdecay check` over made-up pairs of 16 MP

Measured in November 2026 on 2 shared cores: ratio 1.06 by the clock and .93 of processor time; objects 48 to 50 s of
processor time (70 to 117 s by the clock at loads of 4 and 8), 2.8 s (4 to 7 s) the second time; memory 292 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
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


def made_up_objects(folder: Path, *, images: int, masks: int, seed: int) -> Path:
    """Pictures of bright squares, most of them small, with a mask file for each square."""
    random = np.random.default_rng(seed)
    sizes = [(256, 256)] * 10 + [(256, 320)] * 3 + [(520, 696)] * 3 + [(360, 360)] * 3 + [(1024, 1024)]
    weights = random.lognormal(0, 0.9, images)
    counts = np.maximum(1, weights / weights.sum() * masks).astype(int)
    counts[counts.argmax()] += masks - counts.sum()
    for number, count in enumerate(counts.tolist()):
        height, width = sizes[number % len(sizes)]
        place = folder / f"scan{number:04}"
        for kind in ("images", "masks"):
            (place / kind).mkdir(parents=True)
        pixels = random.integers(0, 60, (height, width, 3)).astype(np.uint8)
        for one in range(count):
            top, left = int(random.integers(0, height - 20)), int(random.integers(0, width - 20))
            mask = np.zeros((height, width), dtype=np.uint8)
            mask[top : top + 16, left : left + 14] = 255
            pixels[top : top + 16, left : left + 14] += 60
            Image.fromarray(mask).save(place / "masks" / f"{one:03}.png")
        Image.fromarray(pixels).save(place / "images" / f"scan{number:04}.png")
    (folder / "dataset.yaml").write_text(
        "layout: parts\nimages: '{stem}/images/*.png'\nmasks: '{stem}/masks/*.png'\nclasses: [background, object]\n"
    )
    return folder


def measure_objects(folder: Path) -> None:
    """Print seconds and processor seconds of a first and of a second check."""
    with tempfile.TemporaryDirectory() as cache:
        for word in ("first", "second"):
            start, busy = time.perf_counter(), time.process_time()
            _, report = read_dataset(DataConfig(path=str(folder)), cache=Path(cache))
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
            n_images = sum(report.images.values())
            print(f"{folder}, {n_images} images, {word} time: {seconds:.1f} s, {busy:.1f} s of processor time")


def measure_memory(scratch: Path, *, sides: int, counts: tuple[int, ...]) -> None:
    """Print the most memory that `segdecay check` holds for so many pairs of one size."""
    random = np.random.default_rng(0)
    folder = scratch / "large"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    (folder / "classes.txt").write_text("background\nfirst\n")
    coarse = Image.fromarray(random.integers(0, 256, (sides // 40, sides // 40, 3), dtype=np.uint8))
    large = coarse.resize((sides, sides), Image.Resampling.BICUBIC)
    mask = Image.fromarray((np.asarray(large)[..., 0] > 128).astype(np.uint8))
    run = "import sys\nfrom segdecay.cli.main import run\nsys.argv[0] = 'segdecay'\n"
    code = f"{run}import atexit, resource\natexit.register(lambda: print(resource.getrusage(0).ru_maxrss))\nrun()"
    done = 0
    for count in counts:
        for number in range(done, count):
            suffix = ".png" if number % 2 else ".jpg"
            large.rotate(number).save(folder / "images" / f"{number:04}{suffix}", compress_level=1)
            mask.save(folder / "masks" / f"{number:04}.png", compress_level=1)
        done = count
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            environment = {**os.environ, "SEGDECAY_CACHE": cache}
            command = [sys.executable, "-c", code, "check", str(folder), "--folds", "2"]
            output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        print(f"{count} pairs of {sides}x{sides}: {int(output.split()[-1]) // 1024} MB at most")


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
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--objects", action="store_true", help="a mask file an object")
    parser.add_argument("--memory", action="store_true", help="memory instead of time")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if asked.memory:
            measure_memory(scratch, sides=4000, counts=(6, 24))
            return
        if asked.objects:
            measure_objects(made_up_objects(scratch / "objects", images=664, masks=28_986, seed=asked.seed))
            return
        folders = asked.folders or [made_up(scratch, pairs=asked.pairs, side=asked.side, seed=asked.seed)]
        for folder in folders:
            measure(folder, repeats=asked.repeats, cores=count_cores())


if __name__ == "__main__":
    main()

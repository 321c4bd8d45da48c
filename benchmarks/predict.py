"""Prediction in windows: time and peak memory against MONAI's SlidingWindowInferer, and a TIFF of any size.

`compare` runs both on the same image with the same network, windows and overlap, each in a separate process, so that
their peaks of memory are separate. `large` writes a tiled TIFF and predicts it through the command line of a bundle.
Needs the dependency group bench.

    python benchmarks/predict.py compare --side 2048 --classes 11
    python benchmarks/predict.py large --side 20000 --work /some/scratch/folder
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TILE, OVERLAP = 512, 128


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _picture(side: int) -> Any:
    """Smooth waves with a little noise, (side, side, 3) uint8, made in bands."""
    found = np.empty((side, side, 3), np.uint8)
    random = np.random.default_rng(0)
    x = np.arange(side)
    for top in range(0, side, 256):
        y = np.arange(top, min(top + 256, side))[:, None]
        for band in range(3):
            wave = np.sin(y / (47 + band)) * np.cos(x / (63 + band)) * 90 + 128
            found[top : top + len(y), :, band] = wave + random.integers(0, 20, wave.shape)
    return found


def _bundle(classes: int, width: int, depth: int) -> Any:
    import torch

    from segdecay.inference.bundle import Bundle
    from segdecay.models.unet import UNet

    torch.manual_seed(0)
    torch.set_num_threads(1)
    names = tuple(f"class {index}" for index in range(classes))
    colours = tuple((index, index, index) for index in range(classes))
    net = UNet(3, classes, width=width, depth=depth).eval()
    return Bundle(net, names, colours, 3, (128.0,) * 3, (60.0,) * 3, None, {})


def run_one(method: str, side: int, classes: int, width: int, depth: int) -> dict[str, float]:
    """Seconds and MB of one method; the mask's mean is a check that both did the same."""
    import torch

    bundle, image = _bundle(classes, width, depth), _picture(side)
    if method == "monai":
        from monai.inferers import SlidingWindowInferer

        inferer = SlidingWindowInferer((TILE, TILE), sw_batch_size=1, overlap=OVERLAP / TILE, mode="gaussian")
        start, before = time.perf_counter(), _peak_mb()
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()  # MONAI accumulates in the type of its input
        with torch.inference_mode():
            mask = inferer(batch, bundle.logits)[0].argmax(dim=0).to(torch.uint8).numpy()
    else:
        from segdecay.inference.apply import Tiling, predict_mask
        from segdecay.inference.predictor import Predictor

        start, before = time.perf_counter(), _peak_mb()
        mask = predict_mask(Predictor((bundle,)), image, Tiling(TILE, OVERLAP, 1))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": _peak_mb(), "added_mb": _peak_mb() - before, "mean": float(mask.mean())}


def compare(side: int, classes: int, width: int, depth: int, repeats: int) -> None:
    """Both methods, alternating; the fastest of the repeats and the largest peak of each."""
    print(
        f"{side}x{side}, {classes} classes, U-Net of width {width} and depth {depth}, one thread, one window at a time"
    )
    for method, rows in _measured(side, classes, width, depth, repeats):
        seconds = min(row["seconds"] for row in rows)
        peak, added = (max(row[key] for row in rows) for key in ("peak_mb", "added_mb"))
        print(
            f"{method:<9} {seconds:7.1f} s  peak {peak:6.0f} MB, of it prediction {added:6.0f} MB  "
            f"mean class {rows[0]['mean']:.4f}"
        )


def _measured(side: int, classes: int, width: int, depth: int, repeats: int) -> Iterator[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {"monai": [], "segdecay": []}
    for _ in range(repeats):
        for method, rows in found.items():
            options = [str(value) for value in (side, classes, width, depth)]
            done = subprocess.run(
                [sys.executable, __file__, "one", method, *options], capture_output=True, text=True, check=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    yield from found.items()


def large(side: int, work: Path, classes: int, width: int, depth: int, save: str) -> None:
    """A tiled, compressed TIFF of side x side, through `segdecay predict`; the peak is that of its process."""
    import tifffile

    work.mkdir(parents=True, exist_ok=True)
    path, pattern = work / "large.tif", _picture(2048)
    tiles = (
        pattern[top % 2048 : top % 2048 + 256, left % 2048 : left % 2048 + 256]
        for top in range(0, side, 256)
        for left in range(0, side, 256)
    )
    tifffile.imwrite(path, tiles, shape=(side, side, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb",
                     compression="zlib", compressionargs={"level": 1}, bigtiff=True)  # fmt: skip
    _write_bundle(work / "model", classes, width, depth)
    start = time.perf_counter()
    command = [sys.executable, "-m", "segdecay.cli.main", "predict", str(work / "model"), str(path), "--save", save]
    subprocess.run([*command, "--out", str(work / "out"), "--device", "cpu"], check=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{side}x{side} ({path.stat().st_size / 1e6:.0f} MB on disk), {classes} classes, --save {save}: "
          f"{seconds:.0f} s, peak {peak:.0f} MB")  # fmt: skip


def _write_bundle(folder: Path, classes: int, width: int, depth: int) -> None:
    """A bundle of random weights."""
    from safetensors.torch import save as save_tensors

    from segdecay.inference.bundle import write_bundle
    from segdecay.inference.card import SCHEMA, Card

    bundle = _bundle(classes, width, depth)
    weights = save_tensors({name: value.contiguous() for name, value in bundle.model.state_dict().items()})
    card = Card(
        schema_version=SCHEMA,
        weights_sha256="0" * 64,
        classes=bundle.classes,
        palette=bundle.palette,
        bands=3,
        mean=bundle.mean,
        deviation=bundle.deviation,
        size=None,
        model={"name": "unet-tiny", "width": width, "depth": depth},
    )
    write_bundle(folder, weights, card)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "large", "one"])
    parser.add_argument("one", nargs="*")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", default="mask,overlay")
    parser.add_argument("--work", type=Path, default=Path("predict-scratch"))
    asked = parser.parse_args()
    if asked.what == "one":
        method, *numbers = asked.one
        print(json.dumps(run_one(method, *(int(number) for number in numbers))))
    elif asked.what == "compare":
        compare(asked.side, asked.classes, asked.width, asked.depth, asked.repeats)
    else:
        large(asked.side, asked.work, asked.classes, asked.width, asked.depth, asked.save)


if __name__ == "__main__":
    main()

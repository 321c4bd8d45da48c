"""Two thousand damaged files through `check`: a finding or a pass, never a traceback, a hang or much memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import fuzz_bytes as fuzz
import numpy as np
import pytest
import source_zoo as zoo
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Notebook
from segdecay.data.formats import build_source
from segdecay.data.loading import read_dataset
from segdecay.data.spec import DatasetSpec
from segdecay.errors import SegdecayError

SEED = 20261124
PAIRS = 50  # mutated files a data set
LONGEST_S = 20
MOST_MB = 1000
PICTURE, LABELS = zoo.picture(0), zoo.labels(0)
DEEP = np.random.default_rng(0).integers(0, 9000, (8, 10, 3)).astype(np.uint16)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SEEDS: dict[str, tuple[bytes, ...]] = {
    "png": (
        fuzz.png(PICTURE),
        fuzz.png(LABELS),
        fuzz.png(DEEP[..., 0]),
        fuzz.png(zoo.picture(1, 4), exif=_exif()),
        fuzz.claiming(fuzz.png(PICTURE), 9000, 9000),
        fuzz.claiming(fuzz.png(LABELS), 2**31 - 1, 2**31 - 1),
    ),
    "jpg": (
        fuzz.encoded(PICTURE, "JPEG"),
        fuzz.encoded(PICTURE[..., 0], "JPEG", quality=20),
        fuzz.encoded(PICTURE, "JPEG", progressive=True, exif=_exif()),
    ),
    "tif": (
        fuzz.tiff(PICTURE, photometric="rgb"),
        fuzz.tiff(DEEP, photometric="rgb", compression="zlib"),
        fuzz.tiff(LABELS, tile=(16, 16)),
        fuzz.tiff(DEEP[..., 0].astype(np.float32), bigtiff=True, byteorder=">"),
    ),
}


@contextlib.contextmanager
def no_hang(what: str, content: bytes | dict[str, bytes]) -> Iterator[None]:
    """Anything that takes too long, or raises what is no word to the user, fails with what was read."""

    def late(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"more than {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_S)
    try:
        yield
    except SegdecayError:
        pass  # said in words; `check` prints it
    except BaseException as error:
        error.add_note(f"{what}: {content!r}")
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(root: Path) -> None:
    read_dataset(DataConfig.model_validate({"path": str(root)}), cache=root.parent / "cache")


def every_pair_is_told_of(root: Path, names: list[str]) -> None:
    """Each pair gives a sample, or a fault that names one of its files."""
    source, notebook = build_source(DataConfig.model_validate({"path": str(root)})), Notebook()
    read = {sample.name for sample in source.samples(notebook)}
    told = {Path(fault.file).stem for fault in notebook.faults if fault.level == "wrong"}
    assert not {*names} - read - told


@pytest.mark.parametrize(("kind", "n"), [("png", 400), ("jpg", 300), ("tif", 300)])
def test_damaged_pictures_are_findings(tmp_path: Path, kind: str, n: int) -> None:
    rng = np.random.default_rng([SEED, n, ord(kind[0])])
    for batch in range(0, n, PAIRS):
        root = tmp_path / str(batch)
        zoo.spec(root_with(root), "classes: [background, road]\nscale: percentile\nnodata: -1")
        contents: dict[str, bytes] = {}
        for number in range(PAIRS):
            seeds = SEEDS[kind]
            content = fuzz.mutated(seeds[int(rng.integers(len(seeds)))], rng, seeds[int(rng.integers(len(seeds)))])
            is_mask, name = number % 2 == 1, f"n{number}"
            contents[name] = content
            (root / "masks" / f"{name}.{kind if is_mask else 'png'}").write_bytes(
                content if is_mask else SEEDS["png"][1]
            )
            (root / "images" / f"{name}.{'png' if is_mask else kind}").write_bytes(
                SEEDS["png"][0] if is_mask else content
            )

        with no_hang(f"seed {SEED}, {kind}, batch {batch}", contents):
            every_pair_is_told_of(root, list(contents))
            check(root)


def root_with(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    return root


@pytest.mark.parametrize(("layout", "n"), [("coco", 250), ("labelme", 130), ("table", 120)])
def test_damaged_json_is_a_finding(tmp_path: Path, layout: str, n: int) -> None:
    rng = np.random.default_rng([SEED, n])
    root = tmp_path / "set"
    if layout == "table":
        zoo.write(root, "{stem}.jpg", "{stem}.png")
        rows = [{"image": f"{name}.jpg", "mask": f"{name}.png", "group": name[:2], "fold": 1} for name in zoo.NAMES]
        zoo.spec(root, "classes: [background, road]\nlayout: table\nannotations: pairs.json")
        values: Any = {"rows": rows}
        path = root / "pairs.json"
    else:
        (zoo.coco if layout == "coco" else zoo.labelme)(root)
        path = root / ("annotations.json" if layout == "coco" else "p1_a.json")
        values = json.loads(path.read_text())
    for number in range(n):
        content = fuzz.mutated_json(values, rng)
        if layout == "table":
            content = content.removeprefix(b'{"rows": ').removesuffix(b"}")
        path.write_bytes(content)
        with no_hang(f"seed {SEED}, {layout} {number}", content):
            check(root)


def test_damaged_yaml_is_a_finding(tmp_path: Path) -> None:
    rng = np.random.default_rng([SEED, 1])
    root = zoo.write(tmp_path / "set", "images/{stem}.jpg", "masks/{stem}.png", names=zoo.NAMES[:2])
    keys = tuple(DatasetSpec.model_fields)
    text = "classes: [background, road]\nvalues: {0: background, 1: road}\ngroup_pattern: ^(p.)\nignore: [255]\n"
    for number in range(500):
        content = fuzz.mutated_yaml(text, keys, rng)
        (root / "dataset.yaml").write_bytes(content)
        with no_hang(f"seed {SEED}, yaml {number}", content):
            check(root)


def zeros_png(width: int, height: int, kind: int) -> bytes:
    """A PNG of zeros that is sound and small. kind: 0 grey, 6 RGB with alpha."""
    row = bytes(1 + width * (4 if kind == 6 else 1))
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    packed = [struct.pack(">I", len(data)) + name + data for name, data in chunks]
    sums = [struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(a + b for a, b in zip(packed, sums, strict=True))


CHECK = """
import resource, sys
import torch  # check plans folds with it; the rest is what reading takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from segdecay.cli.main import run
try:
    run()
finally:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, file=sys.stderr)
"""
GREY_TIFF = fuzz.tiff(np.zeros((64, 64), dtype=np.uint8), compression="zlib", metadata=None)


def test_what_claims_much_is_refused_in_little_memory(tmp_path: Path) -> None:
    root = zoo.write(tmp_path / "set", "images/{stem}.png", "masks/{stem}.png", names=("a", "b"))
    zoo.spec(root, "classes: [background, road]")
    for name, content in (
        ("hollow.png", fuzz.claiming(fuzz.png(PICTURE), 9000, 9000)),
        ("bomb.png", fuzz.claiming(fuzz.png(PICTURE), 60_000, 60_000)),
        ("large.png", zeros_png(9300, 9300, 6)),
        ("hollow2.tif", GREY_TIFF.replace(struct.pack("<I", 64), struct.pack("<I", 30_000))),
    ):
        (root / "images" / name).write_bytes(content)
        (root / "masks" / Path(name).with_suffix(".png")).write_bytes(SEEDS["png"][1])
    command = [sys.executable, "-c", CHECK, "check", str(root)]
    environment = {**os.environ, "SEGDECAY_CACHE": str(tmp_path / "cache"), "COLUMNS": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    said = " ".join((done.stdout + done.stderr).split())
    assert "images/hollow.png claims 232 MiB of pixels in" in said
    assert "images/hollow2.tif claims 858 MiB of pixels in" in said
    assert "images/bomb.png has more than 89478485 pixels, the limit against decompression bombs." in said
    assert "images/large.png is 9300x9300 (width x height), its mask 10x8" in said
    assert "Traceback" not in said
    assert done.returncode == 1
    assert int(done.stderr.split()[-1]) < MOST_MB

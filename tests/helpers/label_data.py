"""Small sets of images with one label each, in every layout that is read: class folders, a table, CIFAR-10 twice.

The classes differ in brightness, so a network learns them in an epoch or two.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]

NAMES = ("cat", "dog", "ship")


def bright_images(count: int, side: int = 32, *, classes: int = 3, seed: int = 0) -> tuple[U8, U8]:
    """Images (N, side, side, 3) and labels (N,): class c is about 40 + 80 c bright; the classes take turns."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.uint8)
    noise = random.integers(-30, 31, (count, side, side, 3))
    return np.clip(noise + 40 + 80 * labels[:, None, None, None], 0, 255).astype(np.uint8), labels


def write_class_folders(root: Path, *, train: int = 18, test: int = 6, side: int = 12) -> Path:
    """root/train/CLASS/*.png and root/test/CLASS/*.png, without a dataset.yaml."""
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        images, labels = bright_images(count, side, seed=seed)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
    return root


def write_table(root: Path, *, count: int = 18, side: int = 12, rows: str | None = None) -> Path:
    """root/images/*.png, labels.csv and dataset.yaml."""
    images, labels = bright_images(count, side)
    (root / "images").mkdir(parents=True)
    lines = ["name,label"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(root / "images" / f"i{number:02d}.png")
        lines.append(f"i{number:02d},{NAMES[label]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n" if rows is None else rows)
    (root / "dataset.yaml").write_text("task: classification\nlabels: labels.csv\n")
    return root


def planes_of(images: U8) -> U8:
    """(N, 32, 32, 3) to the red, green and blue planes of CIFAR-10, (N, 3072)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def binary_batch(labels: U8, planes: U8) -> bytes:
    """A file of the binary layout."""
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def write_cifar_binary(root: Path, *, train: int = 30, test: int = 12, batches: int = 2) -> Path:
    """data_batch_*.bin, test_batch.bin and batches.meta.txt."""
    root.mkdir(parents=True, exist_ok=True)
    images, labels = bright_images(train)
    for number, part in enumerate(np.array_split(np.arange(train), batches), start=1):
        (root / f"data_batch_{number}.bin").write_bytes(binary_batch(labels[part], planes_of(images[part])))
    if test:
        images, labels = bright_images(test, seed=1)
        (root / "test_batch.bin").write_bytes(binary_batch(labels, planes_of(images)))
    (root / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return root


def cifar_python_files(*, train: int = 30, test: int = 12, batches: int = 2) -> dict[str, bytes]:
    """data_batch_*, test_batch and batches.meta with the same content as the binary layout."""
    images, labels = bright_images(train)
    files = {
        f"data_batch_{number}": python2_batch(
            f"training batch {number}", labels[part].tolist(), planes_of(images[part])
        )
        for number, part in enumerate(np.array_split(np.arange(train), batches), start=1)
    }
    images, labels = bright_images(test, seed=1)
    files["test_batch"] = python2_batch("testing batch", labels.tolist(), planes_of(images))
    return {**files, "batches.meta": python2_meta(NAMES)}


def write_cifar_python(root: Path) -> Path:
    """The files of `cifar_python_files`, which are read where their sums are `published_sums()`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in cifar_python_files().items():
        (root / name).write_bytes(content)
    return root


def published_sums() -> dict[str, str]:
    """The MD5 sums of `cifar_python_files`, to stand in for those of the real files."""
    return {name: hashlib.md5(content).hexdigest() for name, content in cifar_python_files().items()}  # noqa: S324


def _text(text: str | bytes) -> bytes:
    """A text as Python 2 pickles it: SHORT_BINSTRING, or BINSTRING from 256 bytes on."""
    content = text.encode("latin-1") if isinstance(text, str) else text
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def _whole(number: int) -> bytes:
    if 0 <= number < 256:
        return b"K" + bytes([number])
    if 0 <= number < 65536:
        return b"M" + struct.pack("<H", number)
    return b"J" + struct.pack("<i", number)


def python2_array(planes: U8, *, module: bytes = b"numpy.core.multiarray") -> bytes:
    """A uint8 array as numpy under Python 2 pickles it with protocol 2."""
    rows, columns = planes.shape
    made = b"c" + module + b"\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85U\x01b\x87Rq\x08"
    dtype = b"cnumpy\ndtype\nq\x09U\x02u1K\x00K\x01\x87Rq\x0a(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + _whole(rows) + _whole(columns) + b"\x86" + dtype + b"\x89" + _text(planes.tobytes()) + b"tb"
    return made + state


def python2_batch(title: str, labels: Sequence[int], planes: U8) -> bytes:
    """A batch as Python 2's cPickle wrote it: protocol 2, texts as bytes."""
    listed = b"]q\x04(" + b"".join(map(_whole, labels)) + b"e"
    names = b"]q\x0b(" + b"".join(_text(f"image_{i}.png") for i in range(len(labels))) + b"e"
    pairs = [
        _text("batch_label") + b"q\x01" + _text(title),
        _text("labels") + b"q\x03" + listed,
        _text("data") + b"q\x05" + python2_array(planes),
        _text("filenames") + names,
    ]
    return b"\x80\x02}q\x00(" + b"".join(pairs) + b"u."


def python2_meta(names: Sequence[str]) -> bytes:
    """batches.meta with the names of the classes."""
    listed = b"]q\x01(" + b"".join(map(_text, names)) + b"e"
    pairs = _text("num_cases_per_batch") + _whole(10000) + _text("label_names") + listed + _text("num_vis")
    return b"\x80\x02}q\x00(" + pairs + _whole(3072) + b"u."

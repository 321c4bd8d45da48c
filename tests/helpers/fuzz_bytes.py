"""Random mutations of files by a seed, and small valid files to start from."""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

Rng = np.random.Generator
HUGE = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    float("nan"), float("inf"), -1, 0, 2**31, -(2**63), 10**400, 1e308, -0.5, True, None, "", "\0", "../../x",
    "é" * 300, [], {}, [[]], [None], [[1, 2]] * 3, {"a": {"a": {}}}, "1e9999", list(range(300)),
)  # fmt: skip


def png(array: npt.NDArray[np.generic], **options: Any) -> bytes:
    return encoded(array, "PNG", **options)


def encoded(array: npt.NDArray[np.generic], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format=kind, **options)
    return stream.getvalue()


def tiff(array: npt.NDArray[np.generic], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def mutated(content: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """The content after one to three mutations; pieces are taken from itself and from `other`."""
    for _ in range(int(rng.integers(1, 4))):
        content = MUTATIONS[int(rng.integers(len(MUTATIONS)))](content, rng, other or content)
    return content


def _flip(content: bytes, rng: Rng, _: bytes) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), int(rng.integers(1, 9))) if data else ():
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _cut(content: bytes, rng: Rng, _: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content) + 1))]


def _splice(content: bytes, rng: Rng, other: bytes) -> bytes:
    start = int(rng.integers(0, len(other) + 1))
    piece = other[start : start + int(rng.integers(1, 80))]
    at = int(rng.integers(0, len(content) + 1))
    return content[:at] + piece + content[at + int(rng.integers(0, 2)) * len(piece) :]


def _claim(content: bytes, rng: Rng, _: bytes) -> bytes:
    """Write a number of two or four bytes at a random place, mostly into the header."""
    number = HUGE[int(rng.integers(len(HUGE)))]
    order = "<>"[int(rng.integers(2))]
    piece = struct.pack(order + "I", number) if rng.random() < 0.5 else struct.pack(order + "H", number & 0xFFFF)
    at = int(rng.integers(0, max(1, min(len(content), 64 if rng.random() < 0.7 else len(content)))))
    return content[:at] + piece + content[at + len(piece) :]


MUTATIONS = (_flip, _cut, _splice, _claim)


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A PNG with another size in its header and a valid checksum."""
    head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


def mutated_json(values: Any, rng: Rng) -> bytes:
    """JSON in which one to three values are replaced or nested deeply, or whose bytes are damaged."""
    values = json.loads(json.dumps(values))
    for _ in range(int(rng.integers(1, 4))):
        _replace(values, rng)
    content = json.dumps(values).encode()
    kind = rng.random()
    if kind < 0.25:
        return mutated(content, rng)
    if kind < 0.3:
        depth = int(rng.integers(10, 100_000))
        return content[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"
    return content


def _replace(values: Any, rng: Rng) -> None:
    """Put an invalid value at a random place, in place."""
    while True:
        keys: list[Any] = list(values) if isinstance(values, dict) else list(range(len(values)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(values[key], (dict, list)) and values[key] and rng.random() < 0.8:
            values = values[key]
            continue
        if rng.random() < 0.15:
            del values[key]
        else:
            values[key] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
        return


def mutated_yaml(text: str, keys: tuple[str, ...], rng: Rng) -> bytes:
    """YAML with damaged bytes, values of another type, deep nesting or aliases of aliases."""
    kind, key = rng.random(), keys[int(rng.integers(len(keys)))]
    if kind < 0.4:
        return mutated(text.encode(), rng)
    if kind < 0.75:
        value = VALUES[int(rng.integers(len(VALUES)))]
        kept = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        return "\n".join([*kept, f"{key}: {json.dumps(value)}"]).encode()
    if kind < 0.85:
        depth = int(rng.integers(10, 20_000))
        opening, closing = ("[", "]") if rng.random() < 0.5 else ("{a: ", "}")
        return f"{text}\n{key}: {opening * depth}{closing * depth}".encode()
    return f"{text}\n{alias_bomb(key, int(rng.integers(2, 12)))}".encode()


def alias_bomb(key: str, levels: int) -> str:
    """A few lines of aliases that expand to 9^levels values."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"{key}: *x{levels - 1}"])

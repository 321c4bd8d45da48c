"""CIFAR-10 as it is handed out: the binary layout, or the Python one, which is a pickle and never unpickled.

Binary: one byte of label, then 3,072 bytes of red, green and blue planes of 32x32; data_batch_*.bin, test_batch.bin and
batches.meta.txt. Python: data_batch_*, test_batch and batches.meta (sources/plain_pickle.py reads them). Any whole
number of images a file. Source of the layouts: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images,
2009, and the page of the data set.
"""

from __future__ import annotations

import hashlib
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.base import Facts, Sample
from segdecay.data.formats.reader import read_bytes
from segdecay.data.images.decode import UnusableError
from segdecay.data.spec import DatasetSpec, class_palette, read_text
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]

RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
NDARRAY, DTYPE = "numpy ndarray", "numpy dtype"
MOST_OPCODES = 1_000_000  # of a file; a batch of 10,000 images has about 40,000
PUSHED = frozenset(  # opcodes whose argument is the value
    [
        "BININT",
        "BININT1",
        "BININT2",
        "SHORT_BINSTRING",
        "BINSTRING",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINUNICODE",
        "SHORT_BINUNICODE",
    ]
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
SKIPPED = frozenset({"PROTO", "FRAME", "STOP"})


class RefusedError(Exception):
    """The file is no such pickle; says what stands in it."""


@dataclass(frozen=True)
class _Name:
    """A name that stands in the file. It is only compared."""

    text: str


@dataclass
class _Dtype:
    """What `numpy.dtype(...)` would be, as text."""

    text: str


@dataclass
class _Array:
    """What `_reconstruct(...)` would be, before and after its state came."""

    pixels: U8 | None = None


class _Mark:
    """Where a container's members begin on the stack."""


def read_plain_pickle(content: bytes) -> Any:
    """The value of a pickle of dicts, lists, tuples, numbers, texts, bytes and uint8 arrays.

    >>> import pickle
    >>> read_plain_pickle(pickle.dumps({"labels": [3, 1]}, protocol=2))
    {'labels': [3, 1]}

    Raises:
        RefusedError: anything else in it, or it is damaged.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count > MOST_OPCODES:
                raise RefusedError(f"has more than {MOST_OPCODES} parts")
            machine.step(opcode.name, argument)
        if len(machine.stack) != 1:
            raise RefusedError("ends in the middle")
        return _finished(machine.stack[0], iter(range(MOST_OPCODES)))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, StopIteration) as error:
        raise RefusedError(f"is damaged or no such file ({str(error)[:80]})") from error


def _finished(value: Any, left: Iterator[int]) -> Any:
    """The value without our stand-ins; `left` ends where lists of lists of the same list would grow without end."""
    next(left)
    if isinstance(value, (_Name, _Dtype, _Mark)):
        raise RefusedError("ends in the middle")
    if isinstance(value, _Array):
        if value.pixels is None:
            raise RefusedError("holds an array without content")
        return value.pixels
    if isinstance(value, dict):
        return {key: _finished(inner, left) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        inner = [_finished(one, left) for one in value]
        return inner if isinstance(value, list) else tuple(inner)
    return value


def _plain_key(key: Any) -> Any:
    """A key whose hash costs nothing: tuples of tuples of the same tuple would not."""
    if not isinstance(key, (str, bytes, int)):
        raise RefusedError(f"has a key of kind {type(key).__name__}")
    return key


@dataclass
class _Machine:
    """The stack and the memo; one method for each kind of opcode."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        """Do one opcode."""
        if name in PUSHED:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in TUPLES:
            self._tuple(TUPLES[name])
        elif name in ACTIONS:
            ACTIONS[name](self, argument)
        elif name not in SKIPPED:
            raise RefusedError(f"asks for {name}, which no data file needs")

    def _tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("too few values")
        values = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.stack.append(values)

    def after_mark(self) -> list[Any]:
        """The values above the last mark, taken off with it."""
        place = next(i for i in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[i], _Mark))
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def name(self, text: str) -> None:
        """Push a name when it is one of those around an array."""
        if text not in (*RECONSTRUCT, NDARRAY, DTYPE):
            raise RefusedError(f"names {text.replace(' ', '.')[:80]}, which is code; only arrays of numpy are read")
        self.stack.append(_Name(text))

    def global_(self, argument: str) -> None:
        self.name(argument)

    def stack_global(self, _argument: Any) -> None:
        word, module = self.stack.pop(), self.stack.pop()
        self.name(f"{_text(module)} {_text(word)}")

    def mark(self, _argument: Any) -> None:
        self.stack.append(_Mark())

    def push_dict(self, _argument: Any) -> None:
        self.stack.append({})

    def push_list(self, _argument: Any) -> None:
        self.stack.append([])

    def push_empty(self, _argument: Any) -> None:
        self.stack.append(())

    def tuple_(self, _argument: Any) -> None:
        self.stack.append(tuple(self.after_mark()))

    def append(self, _argument: Any) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def appends(self, _argument: Any) -> None:
        values = self.after_mark()
        self._top(list).extend(values)

    def set_item(self, _argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict)[_plain_key(key)] = value

    def set_items(self, _argument: Any) -> None:
        values = self.after_mark()
        if len(values) % 2:
            raise ValueError("a key has no value")
        self._top(dict).update(zip(map(_plain_key, values[::2]), values[1::2], strict=True))

    def put(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def memoize(self, _argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def reduce(self, _argument: Any) -> None:
        """`_reconstruct(ndarray, (0,), b'b')` or `dtype('u1', ...)`, as stand-ins."""
        arguments, called = self.stack.pop(), self.stack.pop()
        text = called.text if isinstance(called, _Name) else ""
        if not isinstance(arguments, tuple) or not arguments:
            raise RefusedError("calls something without arguments")
        if text in RECONSTRUCT and arguments[0] == _Name(NDARRAY):
            self.stack.append(_Array())
        elif text == DTYPE:
            self.stack.append(_Dtype(_text(arguments[0])))
        else:
            raise RefusedError("calls something that is no array of numpy")

    def build(self, _argument: Any) -> None:
        """The state of an array: version, shape, dtype, whether by columns, bytes."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            return  # byte order and fields of a dtype: u1 has neither
        if not isinstance(target, _Array) or not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("gives a state to something that is no array of numpy")
        _, shape, dtype, by_columns, data = state
        if not isinstance(dtype, _Dtype) or dtype.text not in ("u1", "|u1"):
            raise RefusedError("holds an array of another type than uint8")
        target.pixels = _array(shape, _bytes(data), by_columns=bool(by_columns))

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"no {kind.__name__} where one is filled")
        return self.stack[-1]


ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "MARK": _Machine.mark,
    "EMPTY_DICT": _Machine.push_dict,
    "EMPTY_LIST": _Machine.push_list,
    "EMPTY_TUPLE": _Machine.push_empty,
    "TUPLE": _Machine.tuple_,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _text(value: Any) -> str:
    if not isinstance(value, (str, bytes)):
        raise RefusedError(f"has a {type(value).__name__} where a name is needed")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(value: Any) -> bytes:
    """The bytes of Python 2's text, which the opcode reader gives as latin-1, or of bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("latin-1")
    raise RefusedError("holds an array whose content is no bytes")


def _array(shape: Any, data: bytes, *, by_columns: bool) -> U8:
    """The pixels, when the shape is that of the bytes."""
    is_shape = isinstance(shape, tuple) and len(shape) == 2 and all(type(side) is int and side >= 0 for side in shape)
    if not is_shape or by_columns or shape[0] * shape[1] != len(data):
        raise RefusedError(f"holds an array whose {len(data)} bytes are not those of its rows and columns")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


SIDE, PIXELS = 32, 3 * 32 * 32
RECORD = PIXELS + 1
MOST_BYTES = 64 << 20  # of a file; the largest of the real set has 31 MB
MOST_META_BYTES = 1 << 20
BATCH = re.compile(r"data_batch_(\d+)(\.bin)?")
INSIDE = ("cifar-10-batches-bin", "cifar-10-batches-py")  # folders that the archives unpack to, the plain one first
LAYOUT = "data_batch_1.bin …, test_batch.bin and batches.meta.txt, or data_batch_1 …, test_batch and batches.meta"


@dataclass(frozen=True)
class Batch:
    """One file of images."""

    path: Path
    name: str  # "batch-1" or "test"
    part: Part


def find_cifar(root: Path) -> Path | None:
    """The folder that holds the batches: `root`, or what an archive unpacked inside it; None where there is none."""
    for folder in (root, *(root / name for name in INSIDE)):
        if folder.is_dir() and batches_of(folder):
            return folder
    return None


def batches_of(folder: Path) -> tuple[Batch, ...]:
    """The files of images, in their order; the binary ones where both layouts lie there."""
    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    numbers = {name: found for name in names if (found := BATCH.fullmatch(name))}
    suffix = ".bin" if any(found[2] for found in numbers.values()) else ""
    training = sorted((int(found[1]), name) for name, found in numbers.items() if (found[2] or "") == suffix)
    batches = [Batch(folder / name, f"batch-{number}", "train") for number, name in training]
    test = f"test_batch{suffix}"
    return (*batches, *([Batch(folder / test, "test", "test")] if test in names and batches else []))


class CifarSource:
    """CIFAR-10 below a folder.

    Raises:
        DataError: no batches there, or the names of the classes are missing or damaged.
    """

    def __init__(self, root: Path, spec: DatasetSpec) -> None:
        folder = find_cifar(root)
        if folder is None:
            there = sorted(entry.name for entry in root.iterdir())[:5] if root.is_dir() else []
            raise DataError(
                f"{root} holds no CIFAR-10. Needed are {LAYOUT}, there or in {' or '.join(INSIDE)}; it holds "
                f"{', '.join(there) or 'nothing'}."
            )
        self._batches = batches_of(folder)
        self._is_binary = self._batches[0].path.suffix == ".bin"
        classes = spec.classes or _class_names(folder, is_binary=self._is_binary)
        reading = f"cifar10 {spec.model_dump_json(include={'bands'})}"
        self._spec = spec
        name, palette = spec.name or "cifar10", class_palette(spec, classes)
        self.facts = Facts(
            name,
            classes,
            palette,
            spec.flip,
            spec.folds,
            reading,
            "classification",
            spec.exclude_from_mean,
            chosen_bands=spec.bands,
        )

    @cached_property
    def _contents(self) -> dict[str, bytes | UnusableError]:
        """Every file once, or why it cannot be used."""
        return {batch.name: _content(batch.path) for batch in self._batches}

    def key(self) -> str:
        """Over every file's content and the spec."""
        content = hashlib.sha256(repr((self.facts, self._spec)).encode())
        for batch in self._batches:
            found = self._contents[batch.name]
            own = found if isinstance(found, bytes) else str(found).encode()
            content.update(f"{batch.name} {hashlib.sha256(own).hexdigest()}".encode())
        return content.hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:
        """Every image, file by file; faults of files go into the notebook."""
        if not any(batch.part == "test" for batch in self._batches):
            notebook.finding("note", "no_test_batch", "There is no test_batch: nothing is kept apart as test part.")
        for batch in self._batches:
            try:
                content = self._contents[batch.name]
                if isinstance(content, UnusableError):
                    raise content
                labels, pixels = (_from_binary if self._is_binary else _from_python)(content)
                self._check_labels(labels)
            except UnusableError as error:
                notebook.fault("wrong", error.code, batch.path.name, error.seen, error.fix)
                continue
            yield from self._samples_of(batch, labels, pixels)

    def _check_labels(self, labels: U8) -> None:
        wrong = np.flatnonzero(labels >= len(self.facts.classes))
        if len(wrong):
            raise UnusableError(
                "label_unknown",
                f"holds label {labels[wrong[0]]} (image {wrong[0]}, {len(wrong)} in all); labels are "
                f"0–{len(self.facts.classes) - 1}.",
                "Is it CIFAR-10, and whole? Fetch the file again.",
            )

    def _samples_of(self, batch: Batch, labels: U8, pixels: U8) -> Iterator[Sample]:
        images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        bands = None if self._spec.bands is None else list(self._spec.bands)
        for number, (label, image) in enumerate(zip(labels, images, strict=True), start=1):
            name = f"{batch.part}/{batch.name}-{number:05d}"
            shown = np.ascontiguousarray(image if bands is None else image[..., bands])
            digest = hashlib.sha256(bytes([label]) + pixels[number - 1].tobytes()).hexdigest()
            yield Sample(name, batch.part, name, None, digest, shown, np.full((1, 1), label, dtype=np.uint8))


def _content(path: Path) -> bytes | UnusableError:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            fix = "Is it a batch of CIFAR-10?"
            return UnusableError("too_large", f"has {size:,} bytes; at most {MOST_BYTES:,} are read.", fix)
        return read_bytes(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return UnusableError("unreadable", f"cannot be read ({reason}).", "Check the file and its permissions.")
    except UnusableError as error:
        return error


def _from_binary(content: bytes) -> tuple[U8, U8]:
    """Labels (N,) and planes (N, 3072) of a file of the binary layout.

    Raises:
        UnusableError: empty, or no whole number of images.
    """
    if not content or len(content) % RECORD:
        seen = f"has {len(content):,} bytes, which is no whole number of images of {RECORD:,} bytes"
        left = f" ({len(content) % RECORD:,} are left over)." if content else "."
        raise UnusableError("cut_short", seen + left, "It is cut short or another file: fetch it again.")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    return records[:, 0], records[:, 1:]


def _from_python(content: bytes) -> tuple[U8, U8]:
    """Labels (N,) and planes (N, 3072) of a file of the Python layout.

    Raises:
        UnusableError: it holds more than containers and an array of bytes, or not what a batch holds.
    """
    values = _plain(content)
    labels, data = values.get("labels"), values.get("data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        shape = "x".join(map(str, data.shape)) if isinstance(data, np.ndarray) else type(data).__name__
        raise UnusableError("no_batch", f"holds data of {shape}; N x {PIXELS} is needed.", "Fetch the file again.")
    is_list = isinstance(labels, list) and all(type(one) is int and 0 <= one <= 255 for one in labels)
    if not is_list or labels is None or len(labels) != len(data):
        count = len(labels) if isinstance(labels, list) else type(labels).__name__
        seen = f"holds {count} labels for {len(data)} images; one whole number each is needed."
        raise UnusableError("no_batch", seen, "Fetch the file again.")
    return np.array(labels, dtype=np.uint8), data


def _plain(content: bytes) -> dict[str, Any]:
    """The mapping of a pickle of the Python layout, keys as text.

    Raises:
        UnusableError: it is something else.
    """
    fix = "Only plain values and arrays of bytes are read from a pickle. Use the binary layout (cifar-10-binary)."
    try:
        values = read_plain_pickle(content)
    except RefusedError as error:
        raise UnusableError("pickle_refused", f"{error}.", fix) from error
    if not isinstance(values, dict):
        raise UnusableError("no_batch", f"holds a {type(values).__name__}, no batch.", fix)
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in values.items()}


def _class_names(folder: Path, *, is_binary: bool) -> tuple[str, ...]:
    """The names in batches.meta.txt or batches.meta.

    Raises:
        DataError: the file is missing, damaged, or names fewer than two classes.
    """
    path = folder / ("batches.meta.txt" if is_binary else "batches.meta")
    if not path.exists():
        raise DataError(f"{path} is missing: it names the classes. Fetch it again, or give classes: in dataset.yaml.")
    if path.stat().st_size > MOST_META_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes; names of classes take at most {MOST_META_BYTES:,}.")
    if is_binary:
        found: Any = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    else:
        try:
            found = _plain(read_bytes(path)).get("label_names")
        except UnusableError as error:
            raise DataError(f"{path} {error}") from error
    names = [one.decode("latin-1") if isinstance(one, bytes) else one for one in found or []]
    if len(names) < 2 or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} names {len(names)} classes; at least two different names are needed.")
    return tuple(names)

"""Reads a pickle that holds plain containers and byte arrays of numpy, and nothing else, without unpickling it.

A small machine for the few opcodes that such a file needs. No name in the file is ever imported, looked up or called:
the three names that numpy writes around an array are known by their text, and what they would build is built here,
after its shape was compared with its bytes. Everything else is refused. Written for the CIFAR-10 batches, whose
pickles are of protocol 2 and Python 2; protocols up to 4 are read.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

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

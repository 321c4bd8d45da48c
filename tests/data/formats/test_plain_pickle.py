"""Pickles are read without unpickling: plain values and arrays of bytes come out, and nothing in the file is called."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_data import planes_of, python2_array, python2_batch

from segdecay.data.formats.cifar10 import RefusedError, read_plain_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@settings(max_examples=60, deadline=None)
@given(value=PLAIN, protocol=st.sampled_from([2, 3, 4]))
def test_plain_values_come_out_as_pickle_itself_reads_them(value: Any, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_an_array_comes_out_as_numpy_wrote_it(protocol: int) -> None:
    found = read_plain_pickle(pickle.dumps({"data": ARRAY}, protocol=protocol))
    np.testing.assert_array_equal(found["data"], ARRAY)


def test_a_batch_of_python_2_reads_as_pickle_reads_it() -> None:
    planes = planes_of(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8))
    content = python2_batch("training batch 1", [3, 1, 2], planes)
    outside = pickle.loads(content, encoding="latin1")  # noqa: S301 - our own content, as the oracle
    ours = read_plain_pickle(content)
    np.testing.assert_array_equal(ours.pop("data"), outside.pop("data"))
    assert ours == outside


class _Calls:
    """Runs a function when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call[0], tuple(self._call[1:])


def _touch(path: Path) -> None:
    path.write_text("called")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_function_is_called(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({"labels": [], "data": _Calls(os.system, f"touch {mark}")}, protocol=protocol)
    with pytest.raises(RefusedError):
        read_plain_pickle(content)
    assert not mark.exists()
    pickle.loads(content)  # noqa: S301 - what any other reader would have done
    assert mark.exists()


def _nested_lists(depth: int) -> bytes:
    """A list that holds the same list twice, which holds the same list twice, and so on: 2**depth leaves."""
    layers = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02(]q\x00" + layers + b"t."


def _tuple_key(depth: int) -> bytes:
    """A dict whose key is a tuple of the same tuple twice: its hash would take 2**depth steps."""
    layers = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02}()q\x00" + layers + b"tK\x01s."


HOSTILE = {
    "eval by name": b"\x80\x02cbuiltins\neval\nU\x041+1.\x85R.",
    "a name that only begins like ours": b"\x80\x02cnumpy.core.multiarray\nfromfile\nU\x01x\x85R.",
    "a dotted way through our name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.tofile\x93.",
    "a stacked name": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
    "an instance": b"(ios\nsystem\n.",
    "an object": b"(cos\nsystem\nU\x02lso.",
    "an array class called": b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x85R.",
    "reconstruct of another class": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x86R.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"\x80\x02U\x01xQ.",
    "a state on a list": b"\x80\x02]}b.",
    "an array of objects": pickle.dumps(np.array([[None]], dtype=object), protocol=2),
    "an array of floats": pickle.dumps(np.zeros((2, 2)), protocol=3),
    "a shape that is not that of the bytes": python2_array(ARRAY)
    .join([b"\x80\x02", b"."])
    .replace(b"K\x03K\x04", b"K\xffK\xff"),
    "a name left over": b"\x80\x02cnumpy\nndarray\n.",
    "nothing": b"",
    "no pickle": b"data_batch",
    "a text far longer than the file": b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a memo far away": b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xfe.",
    "an append to nothing": b"\x80\x02K\x01a.",
    "an endless list of lists": _nested_lists(60),
    "an endless hash": _tuple_key(60),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused_at_once(name: str) -> None:
    with pytest.raises(RefusedError):
        read_plain_pickle(HOSTILE[name])


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_damaged_byte_is_read_or_refused_and_never_anything_else(place: int, value: int) -> None:
    content = bytearray(python2_batch("b", [1, 2], np.zeros((2, 3072), np.uint8)))
    content[place] = value
    with contextlib.suppress(RefusedError):
        read_plain_pickle(bytes(content))

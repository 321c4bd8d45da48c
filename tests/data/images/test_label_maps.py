"""Masks' values and colours to classes: every mapping can be undone, and nothing is a class by accident."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segdecay.data.dataset import IGNORE
from segdecay.data.images.decode import resize_mask
from segdecay.data.images.label_maps import (
    colour_table,
    count_values,
    labels_of_colours,
    labels_of_values,
    pack,
    unpack,
    value_table,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(
    st.lists(st.integers(0, 255), min_size=2, max_size=20, unique=True),
    hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 19)),
)
def test_values_map_to_classes_and_back(values: list[int], drawn: np.typing.NDArray[np.uint8]) -> None:
    classes = tuple(f"class {i}" for i in range(len(values)))
    labels = (drawn % len(values)).astype(np.uint8)
    mask = np.array(values, dtype=np.uint8)[labels]
    found, counts = labels_of_values(mask, value_table(classes, dict(zip(values, classes, strict=True)), ()))
    np.testing.assert_array_equal(found, labels)
    assert counts.sum() == mask.size


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 9)), st.sampled_from([(), (0,), (2, 7)]))
def test_counts_of_classes_follow_from_counts_of_values(
    mask: np.typing.NDArray[np.uint8], ignore: tuple[int, ...]
) -> None:
    table = value_table(("a", "b"), {0: "a", 3: "b", 4: "b"}, ignore)
    found, counts = labels_of_values(mask, table)
    np.testing.assert_array_equal(table.counts_of_classes(counts), count_values(found))


@given(
    st.lists(st.integers(0, 0xFFFFFF), min_size=2, max_size=12, unique=True),
    hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 11)),
)
def test_colours_map_to_classes_and_back(keys: list[int], drawn: np.typing.NDArray[np.uint8]) -> None:
    classes = tuple(f"class {i}" for i in range(len(keys)))
    labels = (drawn % len(keys)).astype(np.uint8)
    colours = np.array([unpack(key) for key in keys], dtype=np.uint8)
    names = {"{},{},{}".format(*unpack(key)): name for key, name in zip(keys, classes, strict=True)}
    found, strange = labels_of_colours(colours[labels], colour_table(classes, names, ()))
    np.testing.assert_array_equal(found, labels)
    assert not strange


@given(hnp.arrays(np.uint8, SHAPES), st.integers(1, 20), st.integers(1, 20))
def test_resizing_a_mask_invents_no_value(mask: np.typing.NDArray[np.uint8], height: int, width: int) -> None:
    resized = resize_mask(mask, (height, width))
    assert resized.shape == (height, width)
    assert set(np.unique(resized)) <= set(np.unique(mask))


@given(hnp.arrays(np.uint8, (4, 3)))
def test_packing_a_colour_loses_nothing(colours: np.typing.NDArray[np.uint8]) -> None:
    assert [unpack(int(key)) for key in pack(colours)] == [tuple(colour) for colour in colours.tolist()]


def test_without_a_mapping_a_value_is_its_class() -> None:
    labels, _ = labels_of_values(np.array([[0, 1, 2, 255]], dtype=np.uint8), value_table(("a", "b"), {}, [2]))
    assert labels.tolist() == [[0, 1, IGNORE, IGNORE]]


def test_only_ignored_and_mapped_values_are_claimed() -> None:
    table = value_table(("a", "b"), {0: "a", 255: "b"}, [7])
    assert np.flatnonzero(table.claimed).tolist() == [0, 7, 255]


def test_two_values_may_be_one_class() -> None:
    labels, _ = labels_of_values(
        np.array([[0, 3, 4]], dtype=np.uint8), value_table(("a", "b"), {0: "a", 3: "b", 4: "b"}, ())
    )
    assert labels.tolist() == [[0, 1, 1]]


def test_an_unknown_colour_is_counted_and_never_a_class() -> None:
    mask = np.array([[[0, 0, 0], [9, 9, 9], [9, 9, 9], [255, 255, 255]]], dtype=np.uint8)
    labels, strange = labels_of_colours(mask, colour_table(("a", "b"), {"#000000": "a"}, ["#ffffff"]))
    assert labels.tolist() == [[0, IGNORE, IGNORE, IGNORE]]
    assert strange == {(9, 9, 9): 2}

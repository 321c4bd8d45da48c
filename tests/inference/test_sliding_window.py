"""Windows cover every pixel, their weights sum to 1, and a blend of windows is the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segdecay.errors import ConfigError
from segdecay.inference.sliding_window import TileBlock, TilePlan, axis_of, blended_blocks, plan_tiles, spans_of
from segdecay.models.unet import UNet

SIZES = st.tuples(st.integers(1, 400), st.integers(2, 6), st.integers(0, 3))


@given(SIZES, st.sampled_from([8, 32]))
def test_windows_cover_a_side_without_gaps_and_share_the_overlap(sizes: tuple[int, int, int], stride: int) -> None:
    length, tiles, shared = sizes
    tile, overlap = tiles * stride, min(shared, tiles // 2) * stride
    spans = spans_of(length, tile, overlap, stride)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    for before, after in itertools.pairwise(spans):
        assert before[0] < after[0] <= before[1] - overlap
        assert before[1] <= after[1]
    assert all(start % stride == 0 for start, _ in spans)
    assert all(min(tile, length) <= stop - start < tile + stride for start, stop in spans)


@given(SIZES, st.sampled_from([8, 32]))
def test_weights_of_a_pixel_sum_to_one(sizes: tuple[int, int, int], stride: int) -> None:
    length, tiles, shared = sizes
    axis = axis_of(length, tiles * stride, min(shared, tiles // 2) * stride, stride)
    total = np.zeros(length)
    for span, weights in zip(axis.spans, axis.weights, strict=True):
        assert (weights >= 0).all()
        total[slice(*span)] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_weight_falls_to_nearly_nothing_where_a_window_ends_inside_the_image() -> None:
    axis = axis_of(1000, 512, 128)
    assert axis.weights[0][-1] < 1e-4
    assert axis.weights[1][0] < 1e-4
    assert axis.weights[0][0] == 1
    assert abs(np.diff(axis.weights[0])).max() < 2 / 128


def test_all_faults_of_a_tiling_are_told_with_the_nearest_that_goes() -> None:
    with pytest.raises(ConfigError) as caught:
        plan_tiles(100, 100, tile=100, overlap=90)
    assert "--tile: a multiple of 32 from 64 on is needed; saw 100. Take 96." in str(caught.value)
    assert "--overlap: a multiple of 32 from 0 to half of the tile is needed; saw 90. Take 32." in str(caught.value)


def _assembled(blocks: list[TileBlock], height: int, width: int) -> Tensor:
    """Blocks as one picture; every pixel must be given exactly once."""
    whole = torch.full((len(blocks[0].values), height, width), float("nan"))
    for block in blocks:
        place = whole[:, block.top :, block.left :][:, : block.values.shape[1], : block.values.shape[2]]
        assert place.isnan().all()
        place.copy_(block.values)
        assert block.image.shape[:2] == block.values.shape[1:]
    assert not whole.isnan().any()
    return whole


def _as_float(images: Tensor) -> Tensor:
    return images.float()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(2, 5), st.integers(0, 2), st.integers(1, 3))
def test_a_blend_of_what_windows_see_is_the_image(height: int, width: int, tiles: int, shared: int, batch: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 2)).astype(np.uint8)
    read: list[tuple[int, int]] = []

    def rows(top: int, bottom: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        read.append((top, bottom))
        return image[top:bottom]

    plan = plan_tiles(height, width, tile=tiles * 8, overlap=min(shared, tiles // 2) * 8, stride=8)
    windows: list[int] = []
    blocks = list(blended_blocks(_as_float, rows, plan, batch=batch, on_window=windows.append))
    whole = _assembled(blocks, height, width)
    np.testing.assert_allclose(whole.permute(1, 2, 0), image, atol=1e-3)
    assert sum(windows) == plan.count
    assert [top for top, _ in read] == [0, *(bottom for _, bottom in read[:-1])]
    assert read[-1][1] == height
    for block in blocks:
        rows_, columns = block.values.shape[1:]
        np.testing.assert_array_equal(
            block.image, image[block.top : block.top + rows_, block.left : block.left + columns]
        )


@pytest.fixture(scope="module")
def net() -> UNet:
    torch.manual_seed(0)
    model = UNet(3, 4, width=4, depth=2)
    for _ in range(3):  # statistics of the norm layers
        model(torch.randn(2, 3, 64, 64))
    return model.eval()


def _smooth(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture without edges: waves of a few hundred pixels."""
    y, x = np.mgrid[:height, :width]
    bands = [np.sin(y / 47 + x / 91), np.cos(x / 63), np.sin(y / 70) * np.cos((x + y) / 80)]
    return (np.stack(bands, axis=-1) * 90 + 128).astype(np.uint8)


def _logits(net: UNet, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = net((images.float() - 128) / 60)
    return found


def _tiled_and_whole(net: UNet, plan: TilePlan, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[Tensor]:
    blocks = list(blended_blocks(lambda images: _logits(net, images), lambda top, bottom: image[top:bottom], plan))
    whole = _logits(net, torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    return [_assembled(blocks, *image.shape[:2]), whole]


def test_tiled_logits_are_those_of_the_whole_image_in_the_interior_of_windows(net: UNet) -> None:
    height, width = 300, 333
    random = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    plan = plan_tiles(height, width, tile=192, overlap=64)
    tiled, whole = _tiled_and_whole(net, plan, random)
    inside = [np.flatnonzero(sum(_held(span, axis.length) for span in axis.spans) == 1)
              for axis in (plan.rows, plan.columns)]  # fmt: skip
    assert all(len(places) > 100 for places in inside)
    difference = (tiled - whole).abs()[:, inside[0]][:, :, inside[1]]
    assert difference.max() < 1e-5
    assert whole.std() > 0.05


def _held(span: tuple[int, int], length: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    held = np.zeros(length, np.int64)
    held[slice(*span)] = 1
    return held


def test_borders_of_windows_are_not_seen_on_a_smooth_picture(net: UNet) -> None:
    height = width = 448
    image = _smooth(height, width)
    plan = plan_tiles(height, width, tile=192, overlap=64)
    tiled, whole = _tiled_and_whole(net, plan, image)
    for axis, spans in ((1, plan.rows.spans), (2, plan.columns.spans)):
        borders = [edge for start, stop in spans for edge in (start, stop) if 0 < edge < height]
        near = np.zeros(height - 1, dtype=bool)
        near[[edge - 1 for edge in borders]] = True
        for field in (tiled, tiled - whole):  # the picture, and what windows changed in it
            jumps = field.diff(dim=axis).abs().amax(dim=[d for d in (0, 1, 2) if d != axis])
            assert jumps[near].max() <= jumps[~near].max()


def test_without_blending_the_same_borders_are_seen(net: UNet) -> None:
    image = _smooth(448, 448)
    plan = plan_tiles(448, 448, tile=192, overlap=0)
    tiled, whole = _tiled_and_whole(net, plan, image)
    blended, _ = _tiled_and_whole(net, plan_tiles(448, 448, tile=192, overlap=64), image)
    assert (tiled - whole).abs().max() > 2 * (blended - whole).abs().max()

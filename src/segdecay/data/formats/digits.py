"""`digits`: small RGB scenes composed from real handwritten digits and real photographs.

The glyphs are scikit-learn's 1,797 handwritten digits (UCI Optical Recognition of Handwritten Digits) and the
backgrounds are crops of its two photographs. The scenes are *composed*, not photographed. Background plus ten classes
with a long tail: digit d is drawn with probability proportional to 0.8**d. Every scene belongs to a group; a glyph is
used by one group only and never by both parts, so folds over groups share no glyph.

All drawing is integer arithmetic on a frozen random stream: the same seed gives the same bytes on every machine.
Mirrored digits are other signs, so nothing may be flipped.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Notebook
from segdecay.data.dataset import Part
from segdecay.data.formats.base import Facts, Sample
from segdecay.data.images.palette import default_palette

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

CLASS_NAMES = ("background", *(f"digit {d}" for d in range(10)))
SIDE_PX = 32
N_TRAIN, N_TEST = 240, 240
N_TRAIN_GROUPS, N_TEST_GROUPS = 12, 8
TAIL = 0.8  # each class is drawn with this share of the one before
TRAIN_GLYPH_SHARE = 0.5
PHOTO_SHRINK = 3
PHOTO_CONTRAST_PERCENT = 20
GLYPH_PX = (9, 13)  # smallest and largest side
MAX_TURN_DEGREES = 10
INK = (100, 160)  # how much brighter than the photograph
INK_THRESHOLD_PERCENT = 35
DIGITS_A_SCENE = (3, 5)
NOISE_SIGMA = 5
FIXED = 1 << 12  # one unit of the fixed-point coordinates


@dataclass(frozen=True)
class Scenes:
    """One part of the set. images (N, H, W, 3) uint8; masks (N, H, W) uint8 class indices; groups, one name a scene."""

    images: U8
    masks: U8
    groups: tuple[str, ...]


def _photos() -> list[I64]:
    """The two photographs, shrunk by block means, contrast lowered about mid-grey. Each (H, W, 3) int64."""
    from sklearn.datasets import load_sample_image

    shrunk = []
    for name in ("china.jpg", "flower.jpg"):
        photo = np.asarray(load_sample_image(name), dtype=np.int64)
        height, width = (side // PHOTO_SHRINK for side in photo.shape[:2])
        blocks = photo[: height * PHOTO_SHRINK, : width * PHOTO_SHRINK]
        blocks = blocks.reshape(height, PHOTO_SHRINK, width, PHOTO_SHRINK, 3)
        mean = blocks.sum(axis=(1, 3)) // (PHOTO_SHRINK * PHOTO_SHRINK)
        shrunk.append(128 + (mean - 128) * PHOTO_CONTRAST_PERCENT // 100)
    return shrunk


def turn_and_resize(
    glyph: I64,  # (8, 8), ink 0-16
    side_px: int,
    degrees: int,
) -> npt.NDArray[np.bool_]:
    """Where a turned, resized glyph has ink: (side_px, side_px) bool, by bilinear sampling in integers."""
    angle = np.deg2rad(degrees)
    cos, sin = (int(np.rint(f(angle) * FIXED)) for f in (np.cos, np.sin))
    centre = 2 * np.arange(side_px, dtype=np.int64) - (side_px - 1)  # twice the distance from the centre, in pixels
    y, x = centre[:, None], centre[None, :]
    n = glyph.shape[0]
    # source coordinate in FIXED units: (n / side) * R(x, y) / 2 + (n - 1) / 2
    source_x = (n * (cos * x + sin * y)) // (2 * side_px) + (n - 1) * FIXED // 2
    source_y = (n * (cos * y - sin * x)) // (2 * side_px) + (n - 1) * FIXED // 2
    padded = np.pad(glyph, 2)
    column, row = source_x // FIXED, source_y // FIXED
    dx, dy = source_x - column * FIXED, source_y - row * FIXED
    column, row = (np.clip(index + 2, 0, n + 2) for index in (column, row))
    ink = (
        padded[row, column] * (FIXED - dx) * (FIXED - dy)
        + padded[row, column + 1] * dx * (FIXED - dy)
        + padded[row + 1, column] * (FIXED - dx) * dy
        + padded[row + 1, column + 1] * dx * dy
    )
    return np.asarray(ink * 100 > INK_THRESHOLD_PERCENT * 16 * FIXED * FIXED)


def _noise(random: np.random.RandomState, shape: tuple[int, ...]) -> I64:
    """Near-normal integer noise of standard deviation NOISE_SIGMA: a sum of twelve uniform integers."""
    uniform = random.randint(0, 1001, size=(12, *shape)).sum(axis=0)
    return np.asarray((uniform - 6000) * NOISE_SIGMA // 1000, dtype=np.int64)


def _scene(random: np.random.RandomState, photos: list[I64], pool: dict[int, list[I64]]) -> tuple[U8, U8]:
    photo = photos[random.randint(len(photos))]
    top, left = (random.randint(0, side - SIDE_PX + 1) for side in photo.shape[:2])
    image = photo[top : top + SIDE_PX, left : left + SIDE_PX].copy()
    mask = np.zeros((SIDE_PX, SIDE_PX), dtype=np.uint8)
    taken = np.zeros((SIDE_PX, SIDE_PX), dtype=bool)
    weights = np.rint(1_000_000 * TAIL ** np.arange(10)).astype(np.int64).cumsum()
    for _ in range(random.randint(DIGITS_A_SCENE[0], DIGITS_A_SCENE[1] + 1)):
        digit = int(np.searchsorted(weights, random.randint(weights[-1]), side="right"))
        glyph = pool[digit][random.randint(len(pool[digit]))]
        side = random.randint(GLYPH_PX[0], GLYPH_PX[1] + 1)
        ink = turn_and_resize(glyph, side, random.randint(-MAX_TURN_DEGREES, MAX_TURN_DEGREES + 1))
        colour = random.randint(INK[0], INK[1] + 1) + random.randint(-10, 11, size=3)
        for _attempt in range(20):
            y, x = (random.randint(0, SIDE_PX - side + 1) for _ in "yx")
            place = (slice(y, y + side), slice(x, x + side))
            if not taken[place].any():
                image[place][ink] += colour
                mask[place][ink] = digit + 1
                taken[place] = True
                break
    image += _noise(random, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _part(
    random: np.random.RandomState, photos: list[I64], glyphs: dict[int, list[I64]], n_scenes: int, n_groups: int
) -> Scenes:
    images, masks, groups = [], [], []
    for group in range(n_groups):
        pool = {digit: found[group::n_groups] for digit, found in glyphs.items()}
        for _ in range(group, n_scenes, n_groups):
            image, mask = _scene(random, photos, pool)
            images.append(image)
            masks.append(mask)
            groups.append(f"writers-{group + 1:02d}")
    return Scenes(np.stack(images), np.stack(masks), tuple(groups))


def compose_scenes(seed: int = 0, n_train: int = N_TRAIN, n_test: int = N_TEST) -> dict[str, Scenes]:
    """The set, as {"train": Scenes, "test": Scenes}; the same bytes for a seed on every machine.

    >>> parts = compose_scenes(n_train=24, n_test=8)
    >>> parts["train"].images.shape
    (24, 32, 32, 3)
    """
    from sklearn.datasets import load_digits

    # NumPy promises never to change RandomState's stream (NEP 19); Generator's may change between releases.
    random = np.random.RandomState(seed)
    photos = _photos()
    found = load_digits()
    by_part: dict[str, dict[int, list[I64]]] = {"train": {}, "test": {}}
    for digit in range(10):
        own = found.images[found.target == digit].astype(np.int64)
        order = random.permutation(len(own))
        cut = int(len(own) * TRAIN_GLYPH_SHARE)
        by_part["train"][digit] = [own[i] for i in order[:cut]]
        by_part["test"][digit] = [own[i] for i in order[cut:]]
    return {
        "train": _part(random, photos, by_part["train"], n_train, N_TRAIN_GROUPS),
        "test": _part(random, photos, by_part["test"], n_test, N_TEST_GROUPS),
    }


PARTS: tuple[Part, ...] = ("train", "test")


class ScenesSource:
    """`digits`: composed once, then read from the cache."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    @property
    def facts(self) -> Facts:
        names = CLASS_NAMES
        return Facts(
            "digits", names, default_palette(len(names)), "none", "groups", reading=f"composed, seed {self._seed}"
        )

    def key(self) -> str:
        """The recipe stands for the scenes: its source text, the library that brings the glyphs, the seed."""
        recipe = f"{inspect.getsource(sys.modules[__name__])}\n{metadata.version('scikit-learn')}\n{self._seed}"
        return hashlib.sha256(recipe.encode()).hexdigest()

    def samples(self, notebook: Notebook) -> Iterator[Sample]:  # noqa: ARG002  (composed scenes have no faults)
        scenes = compose_scenes(self._seed)
        for part in PARTS:
            found = scenes[part]
            for i, (image, mask, group) in enumerate(zip(found.images, found.masks, found.groups, strict=True)):
                digest = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
                # groups carry their part's name: the parts share no glyph, so equal names must not look like a leak
                yield Sample(f"{part}/scene-{i:03d}", part, f"{part}-{group}", None, digest, image, mask)

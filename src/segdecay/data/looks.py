"""What an image looks like, in a few bytes, and which images look the same.

A look is a small grey picture. Two looks are near when the signs of their gradients (a difference hash over 8x8
places, in both directions) differ in at most MOST_BITS of 128 places and the small pictures correlate above
LEAST_CORRELATION: a copy that was compressed, resized or a little brightened is near, two flat or two merely similar
pictures are not. Pure arithmetic on pixels; knows nothing of files or data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]

SIDE = 16  # pixels of a look
PLACES = 8  # of a hash, along each side
MOST_BITS = 10  # of 2 * PLACES**2 that may differ
LEAST_CORRELATION = 0.985
LEAST_SPREAD = 6.0  # standard deviation in grey levels below which a look is flat, and like nothing
ROWS_AT_ONCE = 512


def look_of(
    image: U8,  # (H, W, B)
) -> bytes:
    """The first three bands as a grey picture of SIDE x SIDE pixels, by averaging."""
    bands = image[..., :3]
    grey = (
        bands[..., 0] if bands.shape[2] < 3 else np.asarray(Image.fromarray(np.ascontiguousarray(bands)).convert("L"))
    )
    small = Image.fromarray(np.ascontiguousarray(grey)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return small.tobytes()


def near_pairs(looks: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Every two images that look the same, as indices i < j.

    All pairs are compared, ROWS_AT_ONCE by all at a time: 10,000 images take about a second.
    """
    if len(looks) < 2:
        return
    pixels = np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(len(looks), SIDE, SIDE).astype(np.float32)
    spread = pixels.reshape(len(looks), -1).std(axis=1)
    kept = np.flatnonzero(spread >= LEAST_SPREAD)
    pixels, words = pixels[kept], _hashes(pixels[kept])
    flat = pixels.reshape(len(kept), -1)
    standard = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    for start in range(0, len(kept), ROWS_AT_ONCE):
        rows = words[start : start + ROWS_AT_ONCE]
        others = words[start:]
        differ = np.zeros((len(rows), len(others)), dtype=np.uint8)
        for word in range(words.shape[1]):
            differ += np.bitwise_count(rows[:, None, word] ^ others[None, :, word])
        left, right = np.nonzero(differ <= MOST_BITS)
        later = right > left
        left, right = left[later] + start, right[later] + start
        alike = (standard[left] * standard[right]).mean(axis=1) >= LEAST_CORRELATION
        yield from zip(kept[left[alike]].tolist(), kept[right[alike]].tolist(), strict=True)


def _hashes(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """(N, 2) signs of horizontal and of vertical gradients between neighbouring places."""
    step = SIDE // PLACES
    means = pixels.reshape(len(pixels), PLACES, step, PLACES, step).mean(axis=(2, 4))
    right = np.concatenate([means[:, :, 1:], means[:, :, :1]], axis=2) > means
    below = np.concatenate([means[:, 1:], means[:, :1]], axis=1) > means
    bits = np.stack([right, below], axis=1).reshape(len(pixels), 2, PLACES * PLACES)
    return np.packbits(bits, axis=2).view(np.uint64)[..., 0]

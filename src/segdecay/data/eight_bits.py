"""More than 8 bits to 8, as a data set says it, and where there is no data. Arrays in, arrays out; reads no file."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from segdecay.data.deep import BLOCK_VALUES, PERCENTILES, U8, Array, Bits, Depth, Raw, UnusableError


def to_8_bits(raw: Raw, depth: Depth) -> tuple[U8, Bits | None]:
    """The chosen bands (H, W, B) as uint8, and where there was no data: (H, W, B), or None when there was everywhere.

    A band and a few rows at a time, so that nothing but the result is held of a file that is mapped.

    Raises:
        UnusableError: more than 8 bits without a scale, or pixels without data of which nobody spoke.
    """
    values, chosen = raw.values, depth.chosen(raw.values.shape[2])
    empty = _without_data(raw, depth, chosen)
    is_plain = values.dtype in (np.bool_, np.uint8)
    if not is_plain and depth.scale is None:
        raise UnusableError("deep", *_unscaled(values[..., chosen], empty))
    pixels = np.empty((*values.shape[:2], len(chosen)), dtype=np.uint8)
    for place, band in enumerate(chosen):
        nothing = None if empty is None else empty[..., place]
        span = (0.0, 1.0) if depth.scale is None or is_plain else _span(values[..., band], nothing, depth.scale)
        for rows in _blocks(values.shape):
            part = values[rows, :, band]
            scaled = part if values.dtype == np.uint8 else part * np.uint8(255) if is_plain else _scaled(part, *span)
            pixels[rows, :, place] = scaled if nothing is None else np.where(nothing[rows], 0, scaled)
    return pixels, empty


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Rows of a band, so many that a block holds about a million values."""
    step = max(1, BLOCK_VALUES // shape[1])
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _without_data(raw: Raw, depth: Depth, chosen: list[int]) -> Bits | None:
    """Where the chosen bands hold none: (H, W, B), or None where they hold some everywhere."""
    values, shape = raw.values, raw.values.shape
    told = depth.nodata if depth.nodata is not None else raw.nodata
    is_told = told is not None and not math.isnan(told)
    if values.dtype.kind != "f" and not is_told:
        return None
    empty = np.zeros((*shape[:2], len(chosen)), dtype=np.bool_)
    n_broken = n_marked = 0
    for place, band in enumerate(chosen):
        for rows in _blocks(shape):
            part, nothing = values[rows, :, band], empty[rows, :, place]
            if values.dtype.kind == "f":
                nothing |= ~np.isfinite(part)
                n_broken += int(nothing.sum())
            if is_told:
                marked = np.asarray(part == told)
                n_marked += int(marked.sum())
                nothing |= marked
    if depth.nodata is None and (n_broken or n_marked):
        seen = [f"{100 * n_broken / empty.size:.1f} % NaN"] if n_broken else []
        seen += [f"nodata {told:g} in {100 * n_marked / empty.size:.1f} %"] if n_marked else []
        value = f"{told:g}" if is_told else "nan"
        fix = f"Set nodata: {value} (filled, and ignored in loss, metrics and statistics)."
        raise UnusableError("nodata", f"holds {', '.join(seen)}.", fix)
    return empty if n_broken or n_marked else None


def _unscaled(values: Array, empty: Bits | None) -> tuple[str, str]:
    """What would be lost, and what to set."""
    valid = values if empty is None else values[~empty]
    low, high = (valid.min(), valid.max()) if valid.size else (0, 0)
    lost = 100 * float(((valid < 0) | (valid > 255)).mean()) if valid.size else 0.0
    kind = "float" if values.dtype.kind == "f" else str(values.dtype)
    span = f"{low:g}–{high:g}"
    most = 65535 if values.dtype == np.uint16 else float(high)
    if kind == "float" and lost == 0:
        seen = f"is float, {span}: which values are black and white is not known."
    else:
        seen = f"is {kind}, {span}: reading it as 8 bit would clip {lost:.0f} %."
    return seen, f"Set scale: percentile, or scale: {{max: {most:g}}}."


def _span(band: Array, empty: Bits | None, scale: Literal["percentile"] | float) -> tuple[float, float]:
    """The values of a band (H, W) that become 0 and 255."""
    if scale != "percentile":
        return 0.0, float(scale)
    valid = (band if empty is None else band[~empty]).astype(np.float64).ravel()
    if not valid.size:
        return 0.0, 0.0
    low, high = np.percentile(valid, PERCENTILES, overwrite_input=True)
    return float(low), float(high)


def _scaled(part: Array, low: float, high: float) -> U8:
    wide = np.where(np.isfinite(part), part, 0).astype(np.float64)
    return np.clip(np.rint((wide - low) * (255 / (high - low) if high > low else 0)), 0, 255).astype(np.uint8)

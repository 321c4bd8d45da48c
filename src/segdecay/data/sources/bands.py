"""Bands of images over a whole set: one image alone does not tell which of them are meant. Knows counts; no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.data.checks import Fault
from segdecay.data.pictures import BAND_NAMES


@dataclass(frozen=True)
class BandsSeen:
    """The bands of one image. mode: Pillow's name for them; opaque: it has an alpha band that is 255 everywhere."""

    file: str
    n_bands: int
    mode: str
    opaque: bool


def check_bands(seen: Sequence[BandsSeen], chosen: tuple[int, ...] | None) -> list[Fault]:
    """A fault for every image whose bands differ from the others', or hold an alpha band that nobody spoke about."""
    faults = []
    if chosen is not None:
        for one in seen:
            if max(chosen) >= one.n_bands:
                text = f"has {_count(one)}; bands: {list(chosen)} asks for band {max(chosen)}."
                faults.append(
                    Fault("wrong", "bands_missing", one.file, text, f"Bands of this file are 0–{one.n_bands - 1}.")
                )
        return faults
    if not seen:
        return []
    most, files = Counter(one.n_bands for one in seen).most_common(1)[0]
    for one in seen:
        if one.n_bands != most:
            kept = list(range(min(one.n_bands, most)))
            fix = (
                f"Set bands: {kept}."
                if one.n_bands > most
                else f"Save it with {most} bands, or set bands: {kept} for all."
            )
            faults.append(
                Fault("wrong", "bands_differ", one.file, f"has {_count(one)}, the set has {most} ({files} files).", fix)
            )
        elif one.mode in {"LA", "RGBA"}:
            colours = list(range(one.n_bands - 1))
            text = f"has {_count(one)}{', opaque everywhere' if one.opaque else ''}. Alpha is never dropped silently."
            fix = f"Set bands: {colours} to leave it out, or bands: {[*colours, one.n_bands - 1]} to learn from it."
            faults.append(Fault("wrong", "alpha", one.file, text, fix))
    return faults


def _count(one: BandsSeen) -> str:
    name = f" ({BAND_NAMES[one.mode]})" if one.mode in BAND_NAMES else ""
    return f"{one.n_bands} band{'s' if one.n_bands > 1 else ''}{name}"

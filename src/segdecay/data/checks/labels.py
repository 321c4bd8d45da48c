"""Recognise the usual mistakes behind mask values or colours that belong to no class, and name the repair.

Works on counts of values after all masks were read, since one mask alone does not distinguish 0/255 from a stray value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdecay.data.checks.findings import Fault
from segdecay.data.images.label_maps import ValueTable
from segdecay.data.images.palette import Colour, colour_text

I64 = npt.NDArray[np.int64]

MANY_VALUES = 8  # from this number of values of no class, a mask counts as lossy, interpolated or numbered by object
SHOWN = 6
LEAST_MIXED = 3  # from this number of colours between stated ones, edges count as smoothed
MOSTLY_MIXED = 0.9  # share of the unclaimed pixels that must have such a colour
OFF_THE_WAY = 4.0  # largest distance in RGB from the straight line between two stated colours


@dataclass(frozen=True)
class MaskValues:
    """How often each of the 256 pixel values occurs in one mask. counts: (256,) int64."""

    file: str
    counts: I64
    lossy: bool  # the file is a JPEG


@dataclass(frozen=True)
class MaskPalette:
    """The colour of each used index of a palette file."""

    file: str
    colours: dict[int, Colour]


def check_values(
    masks: Sequence[MaskValues], table: ValueTable, classes: Sequence[str], ignored: Sequence[int]
) -> list[Fault]:
    """One fault for every mask that holds a value of no class."""
    if not masks:
        return []
    everywhere = np.sum([mask.counts for mask in masks], axis=0)
    seen = [value for value in np.flatnonzero(everywhere).tolist() if value not in ignored]
    faults = []
    for mask in masks:
        values = np.flatnonzero(mask.counts).tolist()
        strange = [value for value in values if not table.claimed[value]]
        if not strange:
            continue
        if set(values) <= {0, 255} and 255 in strange and 1 not in seen:
            faults.append(_binary(mask.file, values, classes))
        elif len(strange) >= MANY_VALUES and not mask.lossy and values == list(range(values[0], values[-1] + 1)):
            text = f"holds {values[0]}–{values[-1]} without a gap; classes are {_allowed(table, ignored)}."
            faults.append(
                Fault(
                    "wrong",
                    "object_numbers",
                    mask.file,
                    text,
                    "Are objects numbered? Save the class of each pixel instead.",
                )
            )
        elif len(strange) >= MANY_VALUES or mask.lossy:
            faults.append(_lossy(mask))
        else:
            faults.append(_out_of_range(mask, strange, _allowed(table, ignored), seen, classes))
    return faults


def _allowed(table: ValueTable, ignored: Sequence[int]) -> str:
    """The values that are claimed, as "0–4" or "0, 128, 255"."""
    claimed = [value for value in np.flatnonzero(table.claimed).tolist() if value not in ignored]
    if len(claimed) > 2 and claimed == list(range(claimed[0], claimed[-1] + 1)):
        return f"{claimed[0]}–{claimed[-1]}"
    return ", ".join(str(value) for value in claimed)


def _binary(file: str, values: list[int], classes: Sequence[str]) -> Fault:
    first, second = (*classes, "background", "foreground")[:2] if len(classes) >= 2 else ("background", "foreground")
    held, expected = (", ".join(str(value) for value in found) for found in (values, range(len(classes))))
    return Fault(
        "wrong",
        "mask_0_255",
        file,
        f"holds {{{held}}}, expected {{{expected}}}.",
        f"If 255 is the foreground: values: {{0: {first}, 255: {second}}}; if it means unlabelled: ignore: [255].",
    )


def _lossy(mask: MaskValues) -> Fault:
    anchors = sorted(np.argsort(-mask.counts, kind="stable")[:2].tolist())
    n = int((mask.counts > 0).sum())
    return Fault(
        "wrong",
        "lossy_mask",
        mask.file,
        f"holds {n} values around {{{anchors[0]}, {anchors[1]}}}: lossy or interpolated.",
        "Re-export as PNG, nearest neighbour.",
    )


def _out_of_range(mask: MaskValues, strange: list[int], allowed: str, seen: list[int], classes: Sequence[str]) -> Fault:
    shown = ", ".join(f"{value} ({mask.counts[value]} px)" for value in strange[:SHOWN])
    text = f"holds {shown}{' …' if len(strange) > SHOWN else ''}; classes are {allowed}."
    from_one = bool(seen) and seen[0] == 1 and seen[-1] == len(classes)
    mapping = ", ".join(f"{i + 1}: {name}" for i, name in enumerate(classes))
    fix = (
        f"Numbered from 1? Then set values: {{{mapping}}}." if from_one else "Numbered from 1?" if 0 not in seen else ""
    )
    fix += (
        f" Add the class, map it under values, or list it under ignore: [{', '.join(str(v) for v in strange[:SHOWN])}]."
    )
    return Fault("wrong", "label_out_of_range", mask.file, text, fix.strip())


def check_palettes(palettes: Sequence[MaskPalette]) -> list[Fault]:
    """One fault for every palette mask in which a used index has another colour than in a mask before it."""
    first: dict[int, tuple[Colour, str]] = {}
    faults = []
    for palette in palettes:
        clash = [
            index
            for index, colour in palette.colours.items()
            if first.setdefault(index, (colour, palette.file))[0] != colour
        ]
        if clash:
            colour, other = first[clash[0]]
            here = colour_text(palette.colours[clash[0]])
            text = (
                f"has index {clash[0]} as {here}, {other} as {colour_text(colour)}: palettes "
                "differ between files, so equal indices are not equal classes."
            )
            faults.append(
                Fault(
                    "wrong",
                    "palettes_differ",
                    palette.file,
                    text,
                    "Add colors: to dataset.yaml (a template: segdecay init).",
                )
            )
    return faults


def colour_fault(
    file: str, colours: dict[Colour, int], *, is_mapped: bool, lossy: bool, stated: Sequence[Colour] = ()
) -> Fault:
    """The fault of a mask in colours: there is no mapping, or `colours` (most frequent first) are not in it.

    stated: the colours of the mapping.
    """
    total = sum(colours.values())
    mixed = {} if lossy else _between(colours, stated)
    if mixed and sum(mixed.values()) >= MOSTLY_MIXED * total:
        return _anti_aliased(file, mixed)
    if lossy or len(colours) >= 256:
        text = f"holds {len(colours)} {'further ' if is_mapped else ''}colours: lossy or interpolated."
        return Fault("wrong", "lossy_mask", file, text, "Re-export as PNG, nearest neighbour.")
    named = list(colours.items())[:SHOWN]
    more = " …" if len(colours) > SHOWN else ""
    if is_mapped:
        text = f"holds {', '.join(f'{colour_text(c)} ({n} px)' for c, n in named)}{more}, which colors does not list."
        lines = ", ".join(f'"{colour_text(colour)}"' for colour, _ in named)
        fix = f"Add a line '{lines.split(', ')[0]}: CLASS' to colors, or set ignore: [{lines}]."
        return Fault("wrong", "colour_unknown", file, text, fix)
    shares = ", ".join(f"{colour_text(c)} {100 * n / total:.0f} %" for c, n in named)
    text = f"is RGB with {len(colours)} colour{'s' if len(colours) > 1 else ''}: {shares}{more}."
    fix = "Add colors: to dataset.yaml (a template: segdecay init)."
    if all(r == g == b for r, g, b in colours):
        fix = f"It is grey saved as RGB: save it as 8-bit grey. Or: {fix}"
    return Fault("wrong", "rgb_mask", file, text, fix)


def _between(colours: dict[Colour, int], stated: Sequence[Colour]) -> dict[Colour, int]:
    """The colours that lie on a straight line between two stated colours, ends excluded."""
    if len(stated) < 2 or len(colours) < LEAST_MIXED:
        return {}
    points, ends = np.array(list(colours), dtype=np.float64), np.array(stated, dtype=np.float64)
    near = np.zeros(len(points), dtype=bool)
    for one in range(len(ends)):
        for other in range(one):
            way = ends[other] - ends[one]
            share = (points - ends[one]) @ way / (way @ way)
            off = np.linalg.norm(points - ends[one] - share[:, None] * way, axis=1)
            near |= (share > 0) & (share < 1) & (off <= OFF_THE_WAY)
    return {colour: count for (colour, count), is_near in zip(colours.items(), near, strict=True) if is_near}


def _anti_aliased(file: str, mixed: dict[Colour, int]) -> Fault:
    named = ", ".join(f"{colour_text(colour)} ({n} px)" for colour, n in list(mixed.items())[:SHOWN])
    more = " …" if len(mixed) > SHOWN else ""
    text = f"holds {len(mixed)} colours between the stated ones, {sum(mixed.values())} px: {named}{more}: anti-aliased."
    fix = "Edges were smoothed when it was drawn or resized. Re-export without anti-aliasing, nearest neighbour."
    return Fault("wrong", "anti_aliased", file, text, fix)

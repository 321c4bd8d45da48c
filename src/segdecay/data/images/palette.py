"""Colours of classes: distinct for any number of classes, also for colour-blind people.

The first colour is dark, the next seven are those of Okabe and Ito (2008, "Color Universal Design"); further ones are
taken one by one from a lattice, each as far as possible from all before it under normal, protanopic and deuteranopic
vision (Machado, Oliveira and Fernandes 2009, full severity).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

HEX = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE)
TRIPLE = re.compile(r"\[?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\]?")
FIRST: tuple[Colour, ...] = (
    (24, 24, 32),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
SIGHTS = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
)
RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
LATTICE = (20, 60, 95, 130, 165, 200, 228, 255)


def parse_colour(text: Any) -> Colour:
    """(r, g, b) from "#rrggbb", "r,g,b" or [r, g, b].

    >>> parse_colour("#ff8000"), parse_colour([255, 128, 0])
    ((255, 128, 0), (255, 128, 0))

    Raises:
        ValueError: the text has another form.
    """
    plain = ",".join(str(part) for part in text) if isinstance(text, (list, tuple)) else str(text)
    if found := HEX.fullmatch(plain.strip()):
        r, g, b = (int(part, 16) for part in found.groups())
        return r, g, b
    found = TRIPLE.fullmatch(plain.strip())
    if found is None or max(int(part) for part in found.groups()) > 255:
        raise ValueError(f"'{text}' is not a colour; write '#rrggbb' or [r, g, b] with 0-255")
    r, g, b = (int(part) for part in found.groups())
    return r, g, b


def colour_text(colour: Colour) -> str:
    """A colour as "#rrggbb".

    >>> colour_text((255, 128, 0))
    '#ff8000'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _lab(colours: F64) -> F64:
    """CIE L*a*b* of sRGB colours as each of SIGHTS sees them: (sights, N, 3) from (N, 3) in 0-255."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.stack([np.clip(linear @ sight.T, 0, 1) for sight in SIGHTS])
    relative = (seen @ RGB_TO_XYZ.T) / RGB_TO_XYZ.sum(axis=1)
    root = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def distance(one: Colour, other: Colour) -> float:
    """Smallest L*a*b* distance of two colours over normal, protanopic and deuteranopic vision.

    >>> distance((0, 0, 0), (0, 0, 0)), distance((0, 0, 0), (255, 255, 255)) > 99
    (0.0, True)
    """
    lab = _lab(np.array([one, other], dtype=np.float64))
    return float(np.linalg.norm(lab[:, 0] - lab[:, 1], axis=-1).min())


@lru_cache(maxsize=8)
def default_palette(n_classes: int) -> tuple[Colour, ...]:
    """`n_classes` distinct colours, the first one dark; a longer palette begins with the shorter one.

    >>> default_palette(2)
    ((24, 24, 32), (230, 159, 0))
    """
    chosen = list(FIRST[:n_classes])
    if n_classes <= len(FIRST):
        return tuple(chosen)
    candidates = np.array([(r, g, b) for r in LATTICE for g in LATTICE for b in LATTICE], dtype=np.float64)
    lab, taken = _lab(candidates), _lab(np.array(chosen, dtype=np.float64))
    nearest = np.min([np.linalg.norm(lab - taken[:, [i]], axis=-1).min(axis=0) for i in range(len(chosen))], axis=0)
    while len(chosen) < n_classes:
        best = int(nearest.argmax())
        r, g, b = (int(value) for value in candidates[best])
        chosen.append((r, g, b))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[:, [best]], axis=-1).min(axis=0))
    return tuple(chosen)

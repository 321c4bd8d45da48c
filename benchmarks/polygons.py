"""Difference between our polygons, filled by pixel centres, and those of pycocotools, for random polygons.

python benchmarks/polygons.py        # a second
"""

from __future__ import annotations

import argparse

import numpy as np
from pycocotools import mask as oracle
from scipy import ndimage

from segdecay.data.images.rasterize import fill_polygon


def main() -> None:
    """Print the share of pixels that differ, among those inside either polygon, and how many are not on the outline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygons", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random = np.random.default_rng(asked.seed)
    inside = different = off = equal = 0
    for _ in range(asked.polygons):
        side = int(random.integers(5, 61))
        points = random.uniform(0, side, (int(random.integers(3, 9)), 2))
        ours = np.asarray(fill_polygon(points, (side, side)), dtype=bool)
        theirs = oracle.decode(oracle.merge(oracle.frPyObjects([points.ravel().tolist()], side, side))).astype(bool)
        apart = ours != theirs
        square = np.ones((3, 3))
        outline = ndimage.binary_dilation(theirs, square) & ~ndimage.binary_erosion(theirs, square)
        inside += int((ours | theirs).sum())
        different += int(apart.sum())
        off += int((apart & ~outline).sum())
        equal += not apart.any()
    share = f"{different / inside:.1%} of {inside} pixels differ, {off} of {different} off the outline"
    print(f"{asked.polygons} polygons, {equal} equal; {share}")


if __name__ == "__main__":
    main()

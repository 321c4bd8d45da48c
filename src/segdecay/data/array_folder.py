"""A folder of images and masks that `segdecay tune` reads, written from arrays one pair after the other."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import yaml
from PIL import Image

U8 = npt.NDArray[np.uint8]
IGNORED = 255  # value of unlabelled pixels in the masks


class ArrayFolder:
    """images/, masks/, groups.csv and dataset.yaml; complete after `close`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self._digits, self._rows = folder, len(str(count)), list[tuple[str, str]]()
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def add(
        self,
        image: U8,  # (H, W, B)
        mask: U8,  # (H, W) class indices, or IGNORED
        group: object = None,
    ) -> None:
        """The next pair; without a group the image is its own."""
        name = f"image-{len(self._rows):0{self._digits}d}"
        _write_image(self.folder / "images" / name, image)
        Image.fromarray(np.ascontiguousarray(mask)).save(self.folder / "masks" / f"{name}.png")
        self._rows.append((name, name if group is None else str(group)))

    def close(self, classes: Sequence[str]) -> Path:
        """Write the groups and the description; returns the folder."""
        with (self.folder / "groups.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["name", "group"])
            rows.writerows(self._rows)
        said = {"classes": list(classes), "ignore": [IGNORED]}
        text = yaml.safe_dump(said, allow_unicode=True)
        (self.folder / "dataset.yaml").write_text(text, encoding="utf-8")
        return self.folder


def _write_image(stem: Path, image: U8) -> None:
    """Write PNG if it can hold the bands, else TIFF."""
    if image.shape[2] == 1:
        Image.fromarray(image[..., 0]).save(f"{stem}.png")
    elif image.shape[2] == 3:
        Image.fromarray(np.ascontiguousarray(image)).save(f"{stem}.png")
    else:
        tifffile.imwrite(f"{stem}.tif", image, photometric="minisblack", planarconfig="contig")

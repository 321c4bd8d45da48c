"""A small data set on disk for the tests of data checks: write pairs, read findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import CheckReport, Finding
from segdecay.data.dataset import Dataset
from segdecay.data.loading import read_dataset

U8 = npt.NDArray[np.uint8]
RNG = np.random.default_rng(0)
HALF = np.repeat(np.array([[0, 1]], dtype=np.uint8), 4, axis=1).repeat(6, axis=0)  # (6, 8): left 0, right 1


class Folder:
    """A small data set on disk: a, b and c, 6 x 8 pixels, classes background and road."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        (root / "classes.txt").write_text("background\nroad\n")
        for name in "abc":
            self.image(name)
            self.mask(name, HALF)

    def image(self, name: str, array: U8 | None = None, **options: object) -> None:
        pixels = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8) if array is None else array
        Image.fromarray(pixels).save(self.root / "images" / f"{name}.png", **options)  # type: ignore[arg-type]

    def mask(self, name: str, array: npt.NDArray[np.generic], suffix: str = "png", **options: object) -> None:
        Image.fromarray(array).save(self.root / "masks" / f"{name}.{suffix}", **options)  # type: ignore[arg-type]

    def palette_mask(self, name: str, colours: list[int]) -> None:
        image = Image.new("P", HALF.shape[::-1])
        image.putdata(HALF.ravel().tolist())
        image.putpalette(colours)
        image.save(self.root / "masks" / f"{name}.png")

    def spec(self, text: str) -> None:
        (self.root / "dataset.yaml").write_text(text)

    def read(self) -> tuple[Dataset | None, CheckReport]:
        config = DataConfig.model_validate({"path": str(self.root)})
        return read_dataset(config, cache=self.root / "cache")

    def findings(self) -> dict[str, Finding]:
        return {finding.code: finding for finding in self.read()[1].findings}

    def dataset(self) -> Dataset:
        dataset, report = self.read()
        assert dataset is not None, report.findings
        return dataset

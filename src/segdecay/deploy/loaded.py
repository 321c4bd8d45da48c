"""A shipped model in Python: image in, classes out. Knows predictors and arrays; nothing of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.deploy.applying import Tiling, check_tiling_of, predict_mask, predicted_blocks
from segdecay.deploy.images import ArraySource, open_image
from segdecay.deploy.predictor import Predictor
from segdecay.deploy.tiles import OVERLAP
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A model ready to predict; `segdecay.load` gives one.

    Attributes:
        predictor: of one bundle or several, averaged.
    """

    predictor: Predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes, by index."""
        return self.predictor.classes

    def predict(
        self,
        image: Any,  # a path, or (H, W, B) or (H, W) uint8
        *,
        tile: int | None = None,
    ) -> U8:  # (H, W) class indices; () where images have one label
        """The class of every pixel, at the size of the image; or of the image, where images have one label.

        Args:
            image: a file, or an array of the bands that the model was trained on; (H, W) is one band.
            tile: pixels of a window; None cuts only large images.

        Raises:
            DataError: a file that cannot be read, another type than uint8, or other bands than the model's.
            ConfigError: a tile that does not fit the model.
        """
        found = predict_mask(self.predictor, self._pixels(image), self._tiling(tile))
        return np.asarray(found.reshape(()), np.uint8) if self.predictor.task == "classification" else found

    def probabilities(
        self,
        image: Any,  # as in `predict`
        *,
        tile: int | None = None,
    ) -> F32:  # (C, H, W), sums to 1 over C; (C, 1, 1) where images have one label
        """The probability of every class; raises as `predict`."""
        pixels, tiling = self._pixels(image), self._tiling(tile)
        if self.predictor.task == "classification":
            import torch

            whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            return np.asarray(self.predictor.probabilities(whole)[0].cpu().numpy(), np.float32)
        found = np.zeros((len(self.classes), *pixels.shape[:2]), np.float32)
        for block in predicted_blocks(self.predictor, ArraySource(pixels), tiling):
            rows, columns = block.values.shape[1:]
            found[:, block.top : block.top + rows, block.left : block.left + columns] = block.values.numpy()
        return found

    def _tiling(self, tile: int | None) -> Tiling:
        tiling = Tiling() if tile is None else Tiling(tile, min(OVERLAP, tile // 4 // 32 * 32))
        check_tiling_of(tiling, self.predictor)
        return tiling

    def _pixels(self, image: Any) -> U8:
        bands = self.predictor.bands
        if isinstance(image, (str, Path)):
            with open_image(Path(image), bands) as source:
                return np.array(source.rows(0, source.shape[0]))
        values = np.asarray(image)
        values = values[..., None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[2] != bands or values.dtype != np.uint8 or not values.size:
            raise DataError(
                f"predict takes a path or an array (H, W, {bands}) of uint8; saw {values.dtype} {np.shape(image)}. "
                "One image at a time, bands last, scaled as the training images were."
            )
        return np.array(values)

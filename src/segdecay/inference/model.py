"""Trained models in Python: `segdecay.load`, `predict`, `probabilities`."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from segdecay.errors import ConfigError, DataError, ModelError, RunError, gather
from segdecay.inference.apply import Tiling, check_tiling_of, predict_mask, predicted_blocks
from segdecay.inference.bundle import Bundle, load_bundle
from segdecay.inference.image_io import ArraySource, open_image
from segdecay.inference.predictor import Predictor, build_predictor, check_tta
from segdecay.inference.sliding_window import OVERLAP
from segdecay.runs.records import StrengthRecord, TrialRecord
from segdecay.search.ledger import Ledger, setting_name
from segdecay.utils.files import read_json

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A model ready to predict, from `segdecay.load`.

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
        """The class of every pixel, at the size of the image; or the label of the image.

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
            with open_image(Path(image), bands, self.predictor.depth, self.predictor.chosen_bands) as source:
                return np.array(source.rows(0, source.shape[0]))
        values = np.asarray(image)
        values = values[..., None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[2] != bands or values.dtype != np.uint8 or not values.size:
            raise DataError(
                f"predict takes a path or an array (H, W, {bands}) of uint8; saw {values.dtype} {np.shape(image)}. "
                "One image at a time, bands last, scaled as the training images were."
            )
        return np.array(values)


KEPT = "model.safetensors"  # in the folder of a trial that keeps its model


def load_predictor(
    runs: Sequence[Path],
    *,
    folds: bool = False,
    tta: str = "none",
    model: str | None = None,
    device: str = "cpu",
) -> Predictor:
    """The models of runs (or of bundle folders) as one.

    Args:
        runs: at least one.
        folds: take the models of every run's folds at its chosen strength, not the model of its bundle.
        tta: "none", "flips" or "d4".
        model: for bundles of a user model, the same package.module:build again.
        device: where to put them.

    Raises:
        RunError: a run without a finished model, or without models of its folds.
        ModelError: damaged, or models that do not agree.
        ConfigError: an unknown averaging.
    """
    gather(ConfigError, check_tta(tta))
    bundles = [load_bundle(run, model=model, device=device) for run in runs]
    if folds:
        bundles = [one for run, whole in zip(runs, bundles, strict=True) for one in _fold_bundles(run, whole)]
    return build_predictor(bundles, tta)


def _fold_bundles(run: Path, whole: Bundle) -> list[Bundle]:
    """Copies of the run's bundle with the weights and normalisation of every fold's trial at the chosen strength.

    Raises:
        RunError: the path is not a run of tune, or its trials kept no weights.
        ModelError: damaged weights.
    """
    try:
        strength = StrengthRecord.from_json(read_json(run / "verdict.json")["strength"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"--ensemble averages the models of folds; {run} is not a run of tune with a verdict. Give the run itself, "
            "or average whole runs with --with."
        ) from error
    ledger = Ledger(run)
    folder = run / "trials" / setting_name(strength.axis, strength.value)
    kept = [path.parent for path in sorted(folder.glob(f"*/{KEPT}"))]
    trials = [path.parent for path in sorted(folder.glob("*/trial.json"))]
    if not kept or len(kept) < len(trials):
        raise RunError(
            f"--ensemble averages the models of folds; {len(kept)} of {len(trials)} trials in {folder} kept their "
            "weights. Tune again into a new folder with --keep-fold-models, or average whole runs with --with."
        )
    found = []
    for trial in kept:
        record = ledger.record(trial)
        if record is not None:
            found.append(_fold_bundle(trial, record, whole))
    return found


def _fold_bundle(trial: Path, record: TrialRecord, whole: Bundle) -> Bundle:
    net = copy.deepcopy(whole.model)
    try:
        net.load_state_dict(load_tensors((trial / KEPT).read_bytes()))
        mean, deviation = tuple(record.extra["mean"]), tuple(record.extra["deviation"])
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{trial / KEPT} does not fit the model of its run: {error}. Remove {trial} and tune again."
        ) from error
    return replace(whole, model=net.eval(), mean=mean, deviation=deviation)


def weights_sha256(predictor: Predictor) -> list[str]:
    """One hash per model, over names, shapes and values of its tensors."""
    found = []
    for bundle in predictor.bundles:
        mark = hashlib.sha256()
        for name, tensor in bundle.model.state_dict().items():
            mark.update(json.dumps([name, list(tensor.shape)]).encode())
            mark.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        found.append(mark.hexdigest())
    return found


def made_by(predictor: Predictor, tiling: Tiling) -> dict[str, Any]:
    """Everything that determines predictions: models, averaging and tiles."""
    return {
        "models": weights_sha256(predictor),
        "tta": predictor.tta,
        "tile": tiling.tile,
        "overlap": tiling.overlap,
    }

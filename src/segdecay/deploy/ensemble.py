"""Models of one run or several as one predictor: the shipped one, or those of the folds.

Knows bundles and the ledger of a run; nothing of images.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from segdecay.deploy.applying import Tiling
from segdecay.deploy.bundle import Bundle, load_bundle
from segdecay.deploy.predictor import Predictor, build_predictor, check_tta
from segdecay.errors import ConfigError, ModelError, RunError, gather
from segdecay.records import CellRecord, Strength, read_json
from segdecay.selection.ledger import Ledger, setting_name

KEPT = "model.safetensors"  # what a cell that keeps its model leaves


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
        folds: take the models of every run's folds at its chosen strength, not the one that it ships.
        tta: "none", "flips" or "d4".
        model: for bundles of the user's own model, the same package.module:build again.
        device: where to put them.

    Raises:
        RunError: a run without a finished model, or without models of its folds; says what is there and what to do.
        ModelError: damaged, or models that do not agree.
        ConfigError: no such averaging.
    """
    gather(ConfigError, check_tta(tta))
    bundles = [load_bundle(run, model=model, device=device) for run in runs]
    if folds:
        bundles = [one for run, whole in zip(runs, bundles, strict=True) for one in _fold_bundles(run, whole)]
    return build_predictor(bundles, tta)


def _fold_bundles(run: Path, whole: Bundle) -> list[Bundle]:
    """The shipped bundle with the weights and normalisation of every fold's cell at the chosen strength.

    Raises:
        RunError: the path is no run of tune, or its cells kept no weights.
        ModelError: weights that are damaged.
    """
    try:
        strength = Strength.from_json(read_json(run / "verdict.json")["strength"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"--ensemble averages the models of folds; {run} is no run of tune with a verdict. Give the run itself, "
            "or average whole runs with --with."
        ) from error
    ledger = Ledger(run)
    folder = run / "cells" / setting_name(strength.axis, strength.value)
    kept = [path.parent for path in sorted(folder.glob(f"*/{KEPT}"))]
    cells = [path.parent for path in sorted(folder.glob("*/cell.json"))]
    if not kept or len(kept) < len(cells):
        raise RunError(
            f"--ensemble averages the models of folds; {len(kept)} of {len(cells)} cells in {folder} kept their "
            "weights. Tune again into a new folder with --keep-fold-models, or average whole runs with --with."
        )
    found = []
    for cell in kept:
        record = ledger.record(cell)
        if record is not None:
            found.append(_fold_bundle(cell, record, whole))
    return found


def _fold_bundle(cell: Path, record: CellRecord, whole: Bundle) -> Bundle:
    net = copy.deepcopy(whole.model)
    try:
        net.load_state_dict(load_tensors((cell / KEPT).read_bytes()))
        mean, deviation = tuple(record.extra["mean"]), tuple(record.extra["deviation"])
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{cell / KEPT} does not fit the model of its run: {error}. Remove {cell} and tune again."
        ) from error
    return replace(whole, model=net.eval(), mean=mean, deviation=deviation)


def weights_sha256(predictor: Predictor) -> list[str]:
    """One hash a model, over names, shapes and values of its tensors."""
    found = []
    for bundle in predictor.bundles:
        mark = hashlib.sha256()
        for name, tensor in bundle.model.state_dict().items():
            mark.update(json.dumps([name, list(tensor.shape)]).encode())
            mark.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        found.append(mark.hexdigest())
    return found


def made_by(predictor: Predictor, tiling: Tiling) -> dict[str, Any]:
    """What makes predictions the same: models, averaging and tiles."""
    return {
        "models": weights_sha256(predictor),
        "tta": predictor.tta,
        "tile": tiling.tile,
        "overlap": tiling.overlap,
    }

"""The bundle: a folder that ships a model without pickle, with all that prediction needs.

model.safetensors holds tensors, model.json the rest. A bundle never runs code of its own: a model of the user's is
named in it, and has to be named again by whoever loads it. Knows models and files; nothing of training data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from segdecay.config import ModelConfig
from segdecay.data.dataset import Dataset
from segdecay.errors import ModelError, RunError
from segdecay.models.zoo import PRESETS, build_model, logits_of
from segdecay.records import read_json, write_bytes, write_json

WEIGHTS, CARD = "model.safetensors", "model.json"
MOST_CLASSES, MOST_BANDS, MOST_CARD_BYTES = 255, 64, 4 << 20


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict, and what its numbers mean."""

    model: nn.Module
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    bands: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    size: tuple[int, int] | None  # H, W that images are resized to before the model; None: as they are
    made_by: Mapping[str, Any]

    def logits(
        self,
        images: Tensor,  # (N, B, H, W) uint8 or float 0 … 255
    ) -> Tensor:  # (N, C, H, W) float
        """Logits at the size of the input, eval mode."""
        device = next(self.model.parameters()).device
        values = images.to(device).float()
        height, width = values.shape[-2:]
        if self.size is not None and (height, width) != self.size:
            values = nn.functional.interpolate(values, self.size, mode="bilinear", antialias=True, align_corners=False)
        shape = (1, self.bands, 1, 1)
        mean, deviation = (torch.tensor(v, device=device).view(shape) for v in (self.mean, self.deviation))
        with torch.inference_mode():
            logits = logits_of(self.model, (values - mean) / deviation)
            if logits.shape[-2:] != (height, width):
                logits = nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits


def write_bundle(
    folder: Path,
    weights: bytes,  # the content of a safetensors file
    *,
    dataset: Dataset,
    model: ModelConfig,
    mean: list[float],
    deviation: list[float],
    size: tuple[int, int] | None,
    made_by: Mapping[str, Any],
) -> None:
    """Write weights, then the card that names their hash: a bundle is whole when its card is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, weights)
    card = {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "classes": dataset.classes,
        "palette": dataset.palette,
        "bands": dataset.bands,
        "mean": mean,
        "deviation": deviation,
        "size": size,
        # the weights are the bundle's own: nothing is fetched and no other file is read when it is loaded
        "model": {**model.model_dump(mode="json"), "pretrained": False, "weights": None},
        "made_by": made_by,
    }
    write_json(folder / CARD, card)


def find_bundle(path: Path) -> Path:
    """The bundle's folder, given it or its run.

    Raises:
        RunError: there is none.
    """
    for folder in (path, path / "model"):
        if (folder / CARD).is_file():
            return folder
    if (path / "run.yaml").is_file():
        raise RunError(f"{path} is not finished: it has no model yet. Run the command that made it again; it goes on.")
    raise RunError(f"{path} is neither a run nor a model: {path / CARD} does not exist.")


def _read_card(path: Path) -> dict[str, Any]:
    """The checked content of model.json."""
    try:
        if path.stat().st_size > MOST_CARD_BYTES:
            raise ModelError(f"{path} is larger than {MOST_CARD_BYTES} bytes: not a card of ours.")
        card = read_json(path)
        faults = []
        if not 2 <= len(card["classes"]) <= MOST_CLASSES or not all(isinstance(n, str) for n in card["classes"]):
            faults.append(f"classes: 2 to {MOST_CLASSES} names")
        if not isinstance(card["bands"], int) or not 1 <= card["bands"] <= MOST_BANDS:
            faults.append(f"bands: 1 to {MOST_BANDS}")
        elif not len(card["mean"]) == len(card["deviation"]) == card["bands"] or min(card["deviation"]) <= 0:
            faults.append("mean and deviation: one positive number a band")
        if len(card["palette"]) != len(card["classes"]):
            faults.append("palette: one colour a class")
        if faults:
            raise ModelError(f"{path} is not a card of ours; expected {'; '.join(faults)}.")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: {type(error).__name__}: {error}. Make the bundle again.") from error
    return card


def load_bundle(path: Path, *, model: str | None = None, device: str = "cpu") -> Bundle:
    """Load a bundle from its folder or its run.

    Args:
        path: the bundle or the run that holds it.
        model: for a bundle of the user's own model, the same package.module:build again.
        device: where to put it.

    Raises:
        RunError: no bundle there.
        ModelError: damaged, or its own model is not named by the caller.
    """
    folder = find_bundle(path)
    card = _read_card(folder / CARD)
    try:
        config = ModelConfig.model_validate(card["model"])
        content = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is damaged: {error}. Make the bundle again.") from error
    if hashlib.sha256(content).hexdigest() != card["weights_sha256"]:
        raise ModelError(f"{folder / WEIGHTS} is damaged: its hash is not the one in {CARD}. Make the bundle again.")
    if config.name not in PRESETS and not config.name.startswith("smp:") and model != config.name:
        message = (
            f"{folder} was made with a model of your own, {config.name}, and a bundle brings no code. "
            f"Name it again to run it: --model {config.name}"
        )
        raise ModelError(message)
    config = config.model_copy(update={"pretrained": False, "weights": None})
    net = build_model(config, in_channels=card["bands"], classes=len(card["classes"]))
    try:
        net.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit the model in {CARD}: {error}") from error
    return Bundle(
        model=net.eval().to(device),
        classes=tuple(card["classes"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in card["palette"]),
        bands=card["bands"],
        mean=tuple(card["mean"]),
        deviation=tuple(card["deviation"]),
        size=None if card["size"] is None else (int(card["size"][0]), int(card["size"][1])),
        made_by=card["made_by"],
    )

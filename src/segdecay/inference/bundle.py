"""The bundle: a folder with a trained model and everything that prediction needs, without pickle.

model.safetensors holds tensors, model.json the rest (card.py), README.md a description. A bundle runs no code: a user
model is only named in it, and the user has to name it again to load it. All content is validated before memory is
allocated for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from segdecay.config.schema import ModelConfig, Task
from segdecay.data.images.bit_depth import PLAIN, Depth, depth_from_json
from segdecay.errors import ModelError, RunError, gather
from segdecay.inference.card import SCHEMA, Card, model_of, read_card, read_part
from segdecay.inference.model_card import model_card
from segdecay.models.zoo import build_model, check_model_task, is_own, logits_of
from segdecay.runs.folder import no_model_text
from segdecay.utils.files import read_json, write_bytes, write_json

WEIGHTS, CARD, README = "model.safetensors", "model.json", "README.md"
MOST_WEIGHTS_BYTES = 4 << 30
SHOWN = 3  # tensors named in an error


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict, with its classes, bands and normalisation."""

    model: nn.Module
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    bands: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    size: tuple[int, int] | None  # H, W that images are resized to before the model; None: as they are
    made_by: Mapping[str, object]
    card: Card | None = field(default=None, repr=False)
    task: Task = "segmentation"
    depth: Depth = PLAIN  # how values of files become 8 bits
    chosen_bands: tuple[int, ...] | None = None  # of the files; None: all

    def logits(
        self,
        images: Tensor,  # (N, B, H, W) uint8 or float 0 … 255
    ) -> Tensor:  # (N, C, H, W) float, or (N, C, 1, 1) where images have one label
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
            if self.task == "segmentation" and logits.shape[-2:] != (height, width):
                logits = nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits


def write_bundle(folder: Path, weights: bytes, card: Card) -> None:
    """Write weights (the content of a safetensors file), README.md, then the card, which holds the hash of the weights.

    The card comes last, since it marks the bundle complete. Its hash and schema are set here, and its model is set to
    take the weights from the bundle, so that loading neither downloads nor reads other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = {**card.model, "pretrained": False, "weights": None}
    digest = hashlib.sha256(weights).hexdigest()
    card = card.model_copy(update={"weights_sha256": digest, "schema_version": SCHEMA, "model": model})
    write_bytes(folder / WEIGHTS, weights)
    write_bytes(folder / README, model_card(card).encode())
    write_json(folder / CARD, card.model_dump(mode="json"))


def find_bundle(path: Path) -> Path:
    """The bundle's folder, given it or its run.

    Raises:
        RunError: there is no bundle.
    """
    for folder in (path, path / "model"):
        if (folder / CARD).is_file():
            return folder
    if (path / "run.yaml").is_file():
        raise RunError(_unfinished(path))
    raise RunError(f"{path} is neither a run nor a model: {path / CARD} does not exist.")


def _unfinished(run: Path) -> str:
    """Why a run has no model: its verdict recommends none, or it is not finished, with the command that resumes it."""
    try:
        verdict = read_json(run / "verdict.json")
        if verdict["kind"] == "undertrained":
            return no_model_text(run, str(verdict["sentence"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    done = len(list(run.glob("trials/*/*/trial.json")))
    try:
        environment = read_json(run / "environment.json")
        total, command = int(environment["trials"]), str(environment["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{run} is not finished: it has no model yet. Run the same command again to resume it."
    return f"{run} is not finished: {done} of at most {total} trials done, no model yet. To resume, run: {command}"


def load_bundle(path: Path, *, model: str | None = None, device: str = "cpu") -> Bundle:
    """Load a bundle from its folder or its run.

    Args:
        path: the bundle or the run that holds it.
        model: for a bundle of a user model, the same package.module:build again.
        device: where to put it.

    Raises:
        RunError: no bundle there.
        ModelError: damaged, hostile, of a newer schema, or a user model that the caller does not name.
    """
    folder = find_bundle(path)
    card = read_card(folder / CARD)
    config = model_of(card, folder / CARD)
    content = read_part(folder / WEIGHTS, MOST_WEIGHTS_BYTES)
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS} is damaged: its hash is not the one in {CARD}. Make the bundle again.")
    is_ours = not is_own(config.name)
    gather(ModelError, check_model_task(config.name, card.task), headline="")
    if not is_ours and model != config.name:
        message = (
            f"{folder} was made with a user model, {config.name}, and a bundle holds no code. "
            f"Give the model again: --model {config.name}"
        )
        raise ModelError(message)
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS} is damaged: {error}. Make the bundle again.") from error
    if is_ours:  # the card may describe a huge model: compare before memory is allocated
        with torch.device("meta"):
            _refuse_misfit(_build(config, card), tensors, folder)
    net = _build(config, card)
    _refuse_misfit(net, tensors, folder)
    net.load_state_dict(tensors)
    return Bundle(
        model=net.eval().to(device),
        classes=card.classes,
        palette=card.palette,
        bands=card.bands,
        mean=card.mean,
        deviation=card.deviation,
        size=card.size,
        made_by=card.made_by,
        card=card,
        task=card.task,
        depth=depth_from_json(vars(card)),
        chosen_bands=card.chosen_bands,
    )


def _build(config: ModelConfig, card: Card) -> nn.Module:
    return build_model(config, in_channels=card.bands, classes=len(card.classes))


def _refuse_misfit(net: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Names, shapes and types must be the model's, and every value a number.

    Raises:
        ModelError: they differ.
    """
    expected = net.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} is not a tensor of the model" for name in tensors if name not in expected]
    for name, tensor in tensors.items():
        own = expected.get(name)
        if own is not None and (own.shape != tensor.shape or own.dtype != tensor.dtype):
            faults.append(f"{name} is {_kind(tensor)}, the model has {_kind(own)}")
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            faults.append(f"{name} holds values that are not finite")
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ModelError(f"{folder / WEIGHTS} does not fit the model in {CARD}: {'; '.join(faults[:SHOWN])}{more}.")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape)) or 'scalar'}"

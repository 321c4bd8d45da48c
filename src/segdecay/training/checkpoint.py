"""The checkpoint of an unfinished trial: a safetensors file of tensors, with all other values as JSON; no pickle.

It is written under a temporary name, synced and renamed, so that a kill leaves the old state or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from segdecay.decay import Handle
from segdecay.errors import DecayError, RunError
from segdecay.utils.files import write_bytes

FILE = "state.safetensors"
REGULARIZER = "regularizer"  # in the JSON: the state of the regularizer, its tensors replaced by their names
OPTIMIZER = "optimizer"  # the same for the state of every parameter, and the numbers of its groups
KEY = "progress"  # one metadata key with sorted JSON, since the order of several keys varies between processes


def pack_tensors(tensors: dict[str, Tensor], progress: dict[str, Any]) -> bytes:
    """Tensors and plain values as the bytes of one safetensors file."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content: bytes = save(plain, {KEY: json.dumps(progress, sort_keys=True)})
    return content


def write_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, handle: Handle, progress: dict[str, Any]
) -> None:
    """Write model, optimizer, regularizer state and progress to `folder`/state.safetensors."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    states = {str(index): state for index, state in optimizer.state_dict()["state"].items()}
    progress = {
        **progress,
        REGULARIZER: _lift(handle.state_dict(), REGULARIZER, tensors),
        OPTIMIZER: {"state": _lift(states, OPTIMIZER, tensors), "groups": _plain_of_groups(optimizer)},
    }
    # cloned, since tensors that share memory (tied weights) cannot be saved as views of each other
    tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / FILE, pack_tensors(tensors, progress))


def checkpoint_setting(folder: Path) -> str | None:
    """The setting of a checkpoint; None if it cannot be read."""
    try:
        with safe_open(folder / FILE, framework="pt") as kept:
            found = json.loads((kept.metadata() or {})[KEY])["setting"]
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError):
        return None
    return str(found)


def validate_weights(path: Path) -> None:
    """Open a safetensors file, which checks its length against its header.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove its folder; the same command trains it again.") from error


def read_checkpoint(
    folder: Path, model: nn.Module, parts_at: Callable[[dict[str, Any]], tuple[torch.optim.Optimizer, Handle]]
) -> dict[str, Any] | None:
    """Load a checkpoint into model, optimizer and regularizer, in place; None if there is no usable one.

    `parts_at` takes the progress, once the model's weights are loaded, and returns the optimizer and handle of that
    stage. With a damaged file the trial has to start again; build the model again for this, since it may hold a part of
    the file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as kept:
            tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - not a mapping
            progress: dict[str, Any] = json.loads((kept.metadata() or {})[KEY])
        regularizer = _lower(progress.pop(REGULARIZER), tensors)
        kept_optimizer = progress.pop(OPTIMIZER)
        states = _lower(kept_optimizer["state"], tensors)
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
        return None
    own = model.state_dict()
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
        return None
    model.load_state_dict(weights)
    optimizer, handle = parts_at(progress)
    try:
        handle.load_state_dict(regularizer)
    except DecayError:
        return None
    groups = [
        {**now, **then}
        for now, then in zip(optimizer.state_dict()["param_groups"], kept_optimizer["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": {int(index): one for index, one in states.items()}, "param_groups": groups})
    _take_layout_of_parameters_(optimizer)
    return progress


def _plain_of_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The numbers and flags of the groups, among which some optimizers count their steps."""
    return [
        {key: value for key, value in group.items() if isinstance(value, (bool, int, float))}
        for group in optimizer.param_groups
    ]


def _lift(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Plain values with their tensors moved to `tensors` and replaced by names."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {key: _lift(item, f"{path}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lift(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
    return value


def _lower(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_lift`."""
    if isinstance(value, dict):
        name = value.get("tensor")
        if len(value) == 1 and isinstance(name, str) and name in tensors:
            return tensors[name]
        return {key: _lower(item, tensors) for key, item in value.items()}
    return [_lower(item, tensors) for item in value] if isinstance(value, list) else value


def _take_layout_of_parameters_(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded state the memory layout of its parameter, since fused kernels iterate over both in memory order."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

"""Reads weights from a user's file: tensors only, without running code of the file."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from segdecay.errors import ModelError


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth file read with `weights_only=True`.

    Raises:
        ModelError: the file is missing or damaged, or holds objects other than tensors.
    """
    if not path.is_file():
        raise ModelError(f"The weights file {path} does not exist.")
    if path.stat().st_size == 0:
        raise ModelError(f"The weights file {path} is empty.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(_unreadable(path, error)) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds a {type(state).__name__}, not a mapping of names to tensors.")
    return state


def load_weights(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load a local file into `model` in place; returns the names of tensors that keep their random values.

    Names may have a "module." or "_orig_mod." prefix, or be those of the encoder alone. Tensors of another shape are
    not loaded (a head for other classes); at least half of the model or its encoder must fit.

    Raises:
        ModelError: the file cannot be read, or its names do not fit (the differences are shown).
    """
    found = fitting(model, path)
    model.load_state_dict(found, strict=False)
    return tuple(name for name in model.state_dict() if name not in found)


def _unreadable(path: Path, error: Exception) -> str:
    """The reason, without torch's advice on how to run the file's code."""
    if path.suffix == ".safetensors":
        return f"{path} cannot be read as safetensors: {error}."
    other = re.search(r"GLOBAL (\S+)", str(error))
    holds = f"holds Python objects ({other[1]})" if other else "cannot be read: it is damaged or not a file of weights"
    return (
        f"{path} {holds}. Only tensors and their names are read, since a pickled object can run arbitrary "
        "code. Save only the weights where the file was made: torch.save(model.state_dict(), 'weights.pth')."
    )


def fitting(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors of a file that fit a model, under its names.

    Raises:
        ModelError: as `load_weights`.
    """
    state = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in read_state(path).items()}
    own = model.state_dict()
    candidates = [state, {f"encoder.{name}": value for name, value in state.items()}]

    def matching(candidate: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in candidate.items() if name in own and own[name].shape == value.shape}

    best = max((matching(candidate) for candidate in candidates), key=len)
    if len(best) * 2 < min(len(state), len(own)):
        missing = ", ".join([name for name in own if name not in best][:5])
        unused = ", ".join([name for name in state if name not in best][:5])
        message = (
            f"{path} does not fit the model: {len(best)} of {len(own)} tensors match by name and shape. "
            f"Only in the model: {missing} …; only in the file (or of another shape): {unused} …"
        )
        raise ModelError(message)
    return best

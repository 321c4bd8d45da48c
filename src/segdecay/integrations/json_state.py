"""Plain values and tensors as JSON and back, bit for bit. Knows tensors only."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from segdecay.errors import DecayError

MARK = "__safetensors__"


def to_json(value: Any) -> Any:
    """Mappings with text keys, sequences, numbers, text, None and tensors as what JSON can hold.

    Raises:
        DecayError: anything else.

    Example:
        >>> import torch
        >>> from_json(to_json({"steps": 3, "kappa": torch.tensor([0.5])}))
        {'steps': 3, 'kappa': tensor([0.5000])}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return {MARK: base64.b64encode(save({"tensor": value.detach().cpu().contiguous()})).decode("ascii")}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(one) for one in value]
    raise DecayError(f"A policy's state holds a {type(value).__name__}; only plain values and tensors can be saved.")


def from_json(value: Any) -> Any:
    """The inverse of `to_json`; tuples come back as lists, tensors on the CPU."""
    if isinstance(value, dict):
        if value.keys() == {MARK}:
            return load(base64.b64decode(value[MARK]))["tensor"]
        return {key: from_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return value

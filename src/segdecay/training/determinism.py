"""Layers whose CUDA kernels do not repeat a result to the bit.

Source: the documentation of torch.use_deterministic_algorithms, whose list a test compares with this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

Asks = Callable[[tuple[Any, ...], Mapping[str, Any]], bool]


def _always(_args: tuple[Any, ...], _options: Mapping[str, Any]) -> bool:
    return True


def _argument(place: int, name: str, wanted: Callable[[Any], bool]) -> Asks:
    """Whether an argument, by place or by name, has such a value; an argument that is left out has not."""

    def asks(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
        value = args[place] if len(args) > place else options.get(name)
        return value is not None and wanted(value)

    return asks


# forward operation: how torch's documentation calls it, and for which arguments this holds
WITHOUT: dict[str, tuple[str, Asks]] = {
    "avg_pool3d": ("AvgPool3d", _always),
    "_adaptive_avg_pool2d": ("AdaptiveAvgPool2d", _always),
    "_adaptive_avg_pool3d": ("AdaptiveAvgPool3d", _always),
    "adaptive_max_pool2d": ("AdaptiveMaxPool2d", _always),
    "fractional_max_pool2d": ("FractionalMaxPool2d", _always),
    "fractional_max_pool3d": ("FractionalMaxPool3d", _always),
    "max_unpool2d": ("MaxUnpool2d", _always),  # and MaxUnpool1d
    "max_unpool3d": ("MaxUnpool3d", _always),
    "upsample_linear1d": ("interpolate, linear", _always),
    "upsample_bilinear2d": ("interpolate, bilinear", _always),
    "_upsample_bilinear2d_aa": ("interpolate, bilinear", _always),
    "upsample_bicubic2d": ("interpolate, bicubic", _always),
    "_upsample_bicubic2d_aa": ("interpolate, bicubic", _always),
    "upsample_trilinear3d": ("interpolate, trilinear", _always),
    "reflection_pad1d": ("ReflectionPad1d", _always),
    "reflection_pad2d": ("ReflectionPad2d", _always),
    "reflection_pad3d": ("ReflectionPad3d", _always),
    "nll_loss2d_forward": ("NLLLoss", _argument(3, "reduction", bool)),  # without a reduction it repeats
    "_ctc_loss": ("CTCLoss", _always),
    "_embedding_bag": ("EmbeddingBag", _argument(5, "mode", lambda mode: mode == 2)),  # max
    "put": ("put_", _always),
    "put_": ("put_", _always),
    "histc": ("histc", _always),
    "bincount": ("bincount", _argument(1, "weights", lambda _weights: True)),
    "median": ("median", _argument(1, "dim", lambda _dim: True)),
    "grid_sampler_2d": ("grid_sample", _always),
    "grid_sampler_3d": ("grid_sample", _always),
    "scatter_reduce": ("scatter_reduce", _argument(4, "reduce", lambda how: how == "prod")),
    "resize_": ("resize_", _argument(0, "self", lambda tensor: tensor.is_quantized)),
}


@dataclass(frozen=True)
class Layer:
    """A layer, by its name in the model, and what in it has no deterministic CUDA kernel."""

    name: str
    operation: str  # as torch's documentation calls it

    def __str__(self) -> str:
        return f"{self.name} ({self.operation})"


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracker = tracker
        self.found: dict[Layer, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        entry = WITHOUT.get(func.overloadpacket.__name__)
        if entry is not None and entry[1](args, kwargs):
            innermost = max(self._tracker.parents, key=lambda name: (name != "Global", name.count("."), name))
            path = innermost.partition(".")[2]
            self.found[Layer(path or "the model's own forward", entry[0])] = None
        return func(*args, **kwargs)


def layers_without(
    model: nn.Module,
    images: Tensor,  # (N, B, H, W) on the device of the model
) -> tuple[Layer, ...]:
    """The layers of one forward pass that have no deterministic CUDA kernel, in the order in which they are called.

    On a GPU with deterministic algorithms switched on, torch replaces some of them (bilinear `interpolate`), which are
    then not listed.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(2))
    >>> [str(layer) for layer in layers_without(net, torch.zeros(1, 1, 4, 4))]
    ['1 (AdaptiveAvgPool2d)']
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with ModuleTracker() as tracker, _Recorder(tracker) as recorder:
            model(images)
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
    return tuple(recorder.found)

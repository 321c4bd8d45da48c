"""Models by name: the built-in networks, segmentation-models-pytorch with timm encoders, and user models."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdecay.config.schema import ModelConfig, Task
from segdecay.errors import ModelError, did_you_mean, unknown
from segdecay.models.small_cnn import SmallCNN
from segdecay.models.unet import UNet
from segdecay.models.weights import fitting, load_weights

PRESETS = {"unet-tiny": (12, 3), "unet-small": (16, 4)}  # width, depth
CLASSIFIERS: dict[str, Callable[[int, int], nn.Module]] = {"small-cnn": SmallCNN}  # one label an image


def smp_architectures() -> dict[str, Any]:
    """The architectures of segmentation-models-pytorch by their lower-case names."""
    import segmentation_models_pytorch as smp

    names = [
        "Unet",
        "UnetPlusPlus",
        "MAnet",
        "Linknet",
        "FPN",
        "PSPNet",
        "DeepLabV3",
        "DeepLabV3Plus",
        "PAN",
        "UPerNet",
        "Segformer",
        "DPT",
    ]
    return {name.lower(): getattr(smp, name) for name in names if hasattr(smp, name)}


def check_model_name(name: str) -> list[str]:
    """Faults of a model's name; empty when it can be built."""
    if name in PRESETS or name in CLASSIFIERS:
        return []
    if name.startswith("smp:"):
        found = smp_architectures()
        word = name.removeprefix("smp:").lower()
        return [] if word in found else [unknown("smp architecture", word, found)]
    if ":" in name:
        return []
    names = [*PRESETS, *CLASSIFIERS]
    allowed = f"{', '.join(names)}, smp:ARCHITECTURE, or package.module:build for a model of yours"
    return [f"Unknown model '{name}'; allowed: {allowed}.{did_you_mean(name, names)}"]


def is_own(name: str) -> bool:
    """Whether a model's name is package.module:build, a user function."""
    return ":" in name and not name.startswith("smp:")


def check_model_task(name: str, task: Task) -> list[str]:
    """Faults of a model for a task: a network for masks on images with labels, or the reverse.

    The output of a user model is checked when the model is first run.
    """
    if is_own(name) or check_model_name(name):
        return []
    if task == "classification" and name not in CLASSIFIERS:
        own = "your own package.module:build that returns (N, classes) logits"
        seen = f"model.name={name} gives a mask, but these data have one label per image."
        return [f"{seen} Use --model {', '.join(CLASSIFIERS)}, or {own}."]
    if task == "segmentation" and name in CLASSIFIERS:
        seen = f"model.name={name} gives one label per image, but these data have masks."
        return [f"{seen} Use --model {', '.join(PRESETS)}, smp:ARCHITECTURE, or your own package.module:build."]
    return []


def _build_smp(config: ModelConfig, in_channels: int, classes: int) -> nn.Module:
    build = smp_architectures()[config.name.removeprefix("smp:").lower()]
    source = "imagenet" if config.pretrained else None
    try:
        model: nn.Module = build(
            encoder_name=config.encoder, encoder_weights=source, in_channels=in_channels, classes=classes
        )
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        message = f"{config.name} with encoder '{config.encoder}' cannot be built: {error}"
        raise ModelError(message) from error
    except OSError as error:
        message = (
            f"The pretrained weights of '{config.encoder}' cannot be fetched: {error}. Without network access set "
            "model.pretrained=false, or model.weights to a local file."
        )
        raise ModelError(message) from error
    return model


def import_build(name: str, option: str = "--model") -> Callable[..., Any]:
    """The function package.module:build, from the current folder or an installed package.

    Args:
        name: the module, a colon, the function.
        option: the option in which the user gave it, for errors.

    Raises:
        ModelError: the name has another form, the module cannot be imported, or the function does not exist.
    """
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise ModelError(f"{option} takes package.module:build, for example train:build; saw '{name}'.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ModelError(f"{option} {name}: {module_name} cannot be imported from {here}: {kind}{error}") from error
    build: Any = getattr(module, function_name, None)
    if not callable(build):
        near = did_you_mean(function_name, [word for word, value in vars(module).items() if callable(value)])
        raise ModelError(f"{option} {name}: {module_name} has no function '{function_name}'.{near}")
    function: Callable[..., Any] = build
    return function


def _build_user_model(config: ModelConfig, in_channels: int, classes: int) -> nn.Module:
    build = import_build(config.name)
    try:
        model = build(in_channels=in_channels, classes=classes)
    except TypeError as error:
        message = f"--model {config.name}: called as build(in_channels={in_channels}, classes={classes}): {error}"
        raise ModelError(message) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"--model {config.name} returned a {type(model).__name__}; a torch.nn.Module is needed.")
    return model


def build_model(config: ModelConfig, *, in_channels: int, classes: int) -> nn.Module:
    """A fresh model that maps (N, in_channels, H, W) floats to (N, classes, H, W) logits (through `logits_of`).

    Classifiers give (N, classes, 1, 1).

    Random weights come from torch's global generator, which the caller seeds.

    Raises:
        ModelError: the name or the encoder does not exist, or the weights cannot be read or do not fit.
    """
    faults = check_model_name(config.name)
    if faults:
        raise ModelError(faults[0])
    if config.name in PRESETS:
        width, depth = PRESETS[config.name]
        model: nn.Module = UNet(
            in_channels,
            classes,
            width=config.width or width,
            depth=config.depth or depth,
            norm=config.norm,
            dropout=config.dropout,
        )
    elif config.name in CLASSIFIERS:
        model = CLASSIFIERS[config.name](in_channels, classes)
    elif config.name.startswith("smp:"):
        model = _build_smp(config, in_channels, classes)
    else:
        model = _build_user_model(config, in_channels, classes)
    if config.weights is not None:
        load_weights(model, Path(config.weights))
    return model


def input_stride(model: nn.Module) -> int:
    """The number of which both sides of an input must be multiples; 1 if the model takes any size."""
    own = getattr(model, "input_stride", None)  # a user model may declare it
    encoder = getattr(model, "encoder", None)
    stride = own if own is not None else getattr(encoder, "output_stride", 1)
    return max(int(stride), 1) if isinstance(stride, int) else 1


def padding_stride(model: nn.Module) -> int:
    """The number to whose multiples `logits_of` pads: decoders of smp need 32, whatever the encoder declares."""
    return max(input_stride(model), 32) if hasattr(model, "segmentation_head") else input_stride(model)


def logits_of(
    model: nn.Module,
    images: Tensor,  # (N, B, H, W) float, normalised, any H and W
) -> Tensor:  # (N, classes, H, W), or (N, classes, 1, 1) where images have one label each
    """Apply a model to images of any size: pad by replication to its stride, crop the logits back.

    Raises:
        ModelError: the model does not return a tensor.
    """
    height, width = images.shape[-2:]
    stride = padding_stride(model)
    pad_y, pad_x = -height % stride, -width % stride
    if pad_y or pad_x:
        images = F.pad(images, (0, pad_x, 0, pad_y), mode="replicate")
    # channels last makes convolutions on a CPU about a fifth faster (docs/log.md)
    logits: object = model(images.contiguous(memory_format=torch.channels_last))
    if not isinstance(logits, Tensor):
        held = f" of {', '.join(map(str, logits))}" if isinstance(logits, Mapping) else ""
        raise ModelError(
            f"The model returned a {type(logits).__name__}{held} for {len(images)} images; one tensor of logits "
            "(N, classes, H, W) is needed. Wrap the model in a module whose forward returns only this tensor."
        )
    return logits[:, :, None, None] if logits.ndim == 2 else logits[..., :height, :width]


def fresh_names(config: ModelConfig, model: nn.Module) -> tuple[str, ...]:
    """Tensors of a built model with random initial values: all except those from a file or the hub's encoder.

    Raises:
        ModelError: as `load_weights`.
    """
    given: set[str] = set()
    if config.name.startswith("smp:") and config.pretrained:
        given |= {name for name in model.state_dict() if name.startswith("encoder.")}
    if config.weights is not None:
        given |= set(fitting(model, Path(config.weights)))
    return tuple(name for name in model.state_dict() if name not in given)

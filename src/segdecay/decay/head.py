"""Find the head of a model: the layer that computes the logits."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from torch import nn

from segdecay.errors import DecayError, did_you_mean

# Attributes of the last layer in segmentation-models-pytorch, torchvision, timm, transformers and mmsegmentation.
# Only exact names match, since timm's `conv_head` is followed by a norm layer and is not the head.
HEAD_NAMES = frozenset(
    {
        "head",
        "heads",
        "segmentation_head",
        "classification_head",
        "regression_head",
        "seg_head",
        "mask_head",
        "cls_head",
        "lm_head",
        "head_dist",
        "decode_head",
        "auxiliary_head",
        "aux_head",
        "classifier",
        "aux_classifier",
        "low_classifier",
        "high_classifier",
        "fc",
        "fc_out",
        "logits",
        "cls_logits",
        "bbox_reg",
        "bbox_ctrness",
        "conv_seg",
        "roi_heads",
        "box_predictor",
        "mask_predictor",
        "keypoint_predictor",
        "cls_score",
        "bbox_pred",
    }
)
# Used only if none of the above exists: in some networks a `final_conv` comes before the head.
LAST_NAMES = frozenset(
    {
        "final",
        "final_conv",
        "final_layer",
        "last_layer",
        "outc",
        "outconv",
        "out_conv",
        "output_layer",
        "predictor",
    }
)
WEIGHT_TYPES = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
WRAPPERS = ("_orig_mod", "_original_module", "_forward_module", "_checkpoint_wrapped_module")
WEIGHT_WORDS = ("conv", "linear", "dense")  # in the class name of a layer that torch does not know


@dataclass(frozen=True)
class Head:
    """The modules whose weights are the head, by bare name, and the reason."""

    paths: tuple[str, ...]
    reason: str

    def holds(self, name: str) -> bool:
        """Whether a parameter with this bare name belongs to the head.

        >>> Head(("fc",), "").holds("fc.weight"), Head(("fc",), "").holds("fc2.weight")
        (True, False)
        """
        return any(not path or name.startswith(f"{path}.") for path in self.paths)


def bare_name(name: str) -> str:
    """A module's or parameter's name without the parts that compiling or checkpointing insert.

    >>> bare_name("encoder._orig_mod.0.weight")
    'encoder.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def is_weight_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or linear layer, by its type or by the name of its class."""
    if isinstance(module, WEIGHT_TYPES):
        return True
    says_weight = any(word in type(module).__name__.lower() for word in WEIGHT_WORDS)
    return says_weight and any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))


def find_head(model: nn.Module, name: str | None = None) -> Head:
    """The head by name, else by its usual attribute, else the convolution or linear layer registered last.

    Args:
        model: the bare model.
        name: a module's name, or a glob over whole module names; all weights inside are the head.

    Raises:
        DecayError: no module has this name, or no head was found.

    Example:
        >>> find_head(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))).reason
        "last convolution or linear layer by registration order: '2'"
    """
    if name is not None:
        return _named_head(model, name)
    found = _by_attribute(model, "", HEAD_NAMES) or _by_attribute(model, "", LAST_NAMES)
    if found:
        return Head(tuple(found), f"last layer under {', '.join(repr(path) for path in found)}")
    last = _last_weight_layer(model, "")
    if last:
        return Head(tuple(last), f"last convolution or linear layer by registration order: {last[0]!r}")
    raise DecayError(
        f"No head was found in {type(model).__name__}: it has no convolution or linear layer and none of the usual "
        f"attributes (head, segmentation_head, classifier, fc, …). Name it: head='module.name', or give a rule such as "
        f"rules={{'module.name.*': 'head'}}."
    )


def _named_head(model: nn.Module, name: str) -> Head:
    modules = [bare_name(key) for key, module in model.named_modules() if key and _has_parameters(module)]
    wanted = tuple(key for key in modules if fnmatch.fnmatchcase(key, name))
    if not wanted:
        raise DecayError(
            f"head={name!r} names no module with parameters in {type(model).__name__}.{did_you_mean(name, modules)} "
            f"Top-level modules: {', '.join(key for key in modules if '.' not in key) or 'none'}."
        )
    return Head(wanted, f"under head={name!r}")


def _by_attribute(module: nn.Module, prefix: str, names: frozenset[str]) -> list[str]:
    """The last layers of children with a head's name; a module with a single child is searched inside."""
    children = {name: child for name, child in module.named_children() if _has_parameters(child)}
    found: list[str] = []
    for name, child in children.items():
        if name in names:
            path = f"{prefix}{name}"
            found += _by_attribute(child, f"{path}.", names) or _last_weight_layer(child, path)
    if not found and len(children) == 1:
        ((name, child),) = children.items()
        return _by_attribute(child, f"{prefix}{name}.", names)
    return [bare_name(path) for path in found]


def _last_weight_layer(module: nn.Module, path: str) -> list[str]:
    layers = [name for name, layer in module.named_modules() if is_weight_layer(layer)]
    return [bare_name(".".join(part for part in (path, layers[-1]) if part))] if layers else []


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())

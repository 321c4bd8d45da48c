"""Outputs and targets to call a loss with when there are no data: the usual shapes, or those that are asked for.

Knows shapes; nothing of models, losses or penalties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCH, SIDE = 2, 16  # the side is above the 11 pixels of SSIM's window
SEED = 0


@dataclass(frozen=True)
class Sample:
    """An output (scores or probabilities, with gradients) and a target, and what they are in words."""

    output: Any
    target: Any
    words: str

    def doubled(self) -> Sample:
        """The same images twice: a mean over the batch does not change."""
        return Sample(_twice(self.output), _twice(self.target), self.words)


@dataclass(frozen=True)
class _Maker:
    classes: int
    device: torch.device
    dtype: torch.dtype

    def scores(self, shape: Sequence[int]) -> Tensor:
        draw = torch.Generator().manual_seed(SEED)
        return torch.randn(*shape, generator=draw).to(self.device, self.dtype).requires_grad_()

    def probabilities(self, shape: Sequence[int]) -> Tensor:
        return self.scores(shape).detach().sigmoid().requires_grad_()

    def labels(self, shape: Sequence[int]) -> Tensor:
        count = int(torch.tensor(shape).prod()) if shape else 1
        return (torch.arange(count) % self.classes).reshape(tuple(shape)).to(self.device)

    def shares(self, shape: Sequence[int]) -> Tensor:
        count = int(torch.tensor(shape).prod()) if shape else 1
        return (torch.arange(count) % 2).reshape(tuple(shape)).to(self.device, self.dtype)


def samples(
    classes: int,  # that the model tells apart
    device: torch.device,
    dtype: torch.dtype,
    output: Any = None,  # a shape, a tensor, or a mapping or list of them
    target: Any = None,
) -> list[Sample]:
    """What a loss may be called with, most usual first. Random numbers come from a generator of its own."""
    make = _Maker(max(classes, 2), device, dtype)
    pixels, single = (BATCH, classes, SIDE, SIDE), (BATCH, 1, SIDE, SIDE)
    if output is None:
        outputs: list[Any] = [pixels, (BATCH, classes)] + ([single] if classes > 1 else [])
    else:
        outputs = [output]
    found = []
    for fill_output, kind in ((make.scores, ""), (make.probabilities, " between 0 and 1")):
        for shape in outputs:
            for target_kind, wanted in _targets(shape, target):
                fill = make.labels if target_kind == "class indices" else make.shares
                words = f"output {_words(shape)}{kind}, target {_words(wanted)} of {target_kind}"
                found.append(Sample(_fill(shape, fill_output), _fill(wanted, fill), words))
    return found


def _targets(output: Any, target: Any) -> list[tuple[str, Any]]:
    if target is not None:
        kinds = ["0 and 1", "class indices"] if target == output else ["class indices", "0 and 1"]
        return [(kind, target) for kind in kinds]
    if not _is_shape(output):
        return [("0 and 1", output)]
    labels = [("class indices", (output[0], *output[2:]))] if len(output) > 1 else []
    return [*labels, ("0 and 1", tuple(output))]


def _is_shape(tree: Any) -> bool:
    return isinstance(tree, Sequence) and not isinstance(tree, str) and all(isinstance(side, int) for side in tree)


def _fill(tree: Any, fill: Any) -> Any:
    """The tree with tensors in place of shapes; tensors and everything else as they are."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if _is_shape(tree):
        return fill(tree)
    if isinstance(tree, Mapping):
        return {key: _fill(value, fill) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_fill(value, fill) for value in tree]
    return tree


def _twice(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        doubled = torch.cat([tree.detach(), tree.detach()]) if tree.ndim else tree.detach()
        return doubled.requires_grad_(tree.requires_grad)
    if isinstance(tree, Mapping):
        return {key: _twice(value) for key, value in tree.items()}
    return [_twice(value) for value in tree] if isinstance(tree, list) else tree


def _words(tree: Any) -> str:
    if isinstance(tree, Tensor):
        return f"of {tuple(tree.shape)}"
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key}: {_words(value)}" for key, value in tree.items()) + "}"
    return str(tuple(tree)) if _is_shape(tree) else str(tree)

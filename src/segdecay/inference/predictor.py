"""Probabilities of images from one model or several, optionally averaged over mirrorings and turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from segdecay.config.schema import Task
from segdecay.data.images.bit_depth import Depth
from segdecay.errors import ConfigError, ModelError, gather, unknown
from segdecay.inference.bundle import Bundle
from segdecay.inference.sliding_window import STRIDE
from segdecay.models.unet import UNet
from segdecay.models.zoo import input_stride

Turn = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Symmetry:
    """A mirroring or turn of (…, H, W), with its inverse."""

    there: Turn
    back: Turn
    exchanges_sides: bool = False


def _flip(*axes: int) -> Symmetry:
    def turn(values: Tensor) -> Tensor:
        return values.flip(axes) if axes else values

    return Symmetry(turn, turn)


def _rotation(quarters: int, *, mirrored: bool) -> Symmetry:
    def there(values: Tensor) -> Tensor:
        return torch.rot90(values.flip(-1) if mirrored else values, quarters, (-2, -1))

    def back(values: Tensor) -> Tensor:
        upright = torch.rot90(values, -quarters, (-2, -1))
        return upright.flip(-1) if mirrored else upright

    return Symmetry(there, back, exchanges_sides=quarters % 2 == 1)


SYMMETRIES: dict[str, tuple[Symmetry, ...]] = {
    "none": (_flip(),),
    "flips": (_flip(), _flip(-1), _flip(-2), _flip(-2, -1)),
    "d4": tuple(_rotation(quarters, mirrored=mirrored) for mirrored in (False, True) for quarters in range(4)),
}


def check_tta(name: str) -> list[str]:
    """Faults of the name of an averaging."""
    return [] if name in SYMMETRIES else [f"--tta: {unknown('averaging', name, SYMMETRIES)}"]


@dataclass(frozen=True)
class Predictor:
    """Models with the same bands and classes, whose probabilities are averaged.

    Attributes:
        bundles: at least one; built by `build_predictor`, which checks that they agree.
        tta: "none", "flips" (4 mirrorings) or "d4" (8 mirrorings and turns), averaged over probabilities.
    """

    bundles: tuple[Bundle, ...]
    tta: str = "none"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.bundles[0].classes

    @property
    def task(self) -> Task:
        """Whether it gives masks or one label per image."""
        return self.bundles[0].task

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        return self.bundles[0].palette

    @property
    def bands(self) -> int:
        return self.bundles[0].bands

    @property
    def depth(self) -> Depth:
        """The conversion of values of files to 8 bits."""
        return self.bundles[0].depth

    @property
    def chosen_bands(self) -> tuple[int, ...] | None:
        return self.bundles[0].chosen_bands

    @property
    def size(self) -> tuple[int, int] | None:
        """H, W to which every image is resized, or None."""
        return self.bundles[0].size

    @property
    def device(self) -> torch.device:
        return next(self.bundles[0].model.parameters()).device

    @cached_property
    def stride(self) -> int:
        """Windows that start at its multiples are pooled over the same pixels as the whole image."""
        models = [bundle.model for bundle in self.bundles]
        own = [2**model.depth if isinstance(model, UNet) else input_stride(model) for model in models]
        return math.lcm(STRIDE, *own)

    @torch.inference_mode()
    def probabilities(
        self,
        images: Tensor,  # (N, B, H, W) uint8 or float 0 … 255
    ) -> Tensor:  # (N, C, H, W) float32, sums to 1 over C; (N, C, 1, 1) where images have one label
        """Mean of the softmax over models and symmetries, on the models' device.

        Raises:
            ModelError: a model cannot be applied to such images.
        """
        symmetries = SYMMETRIES[self.tta]
        total: Tensor | None = None
        for bundle in self.bundles:
            sideways = bundle if bundle.size is None else replace(bundle, size=(bundle.size[1], bundle.size[0]))
            for symmetry in symmetries:
                seen = sideways if symmetry.exchanges_sides else bundle
                found = symmetry.back(_logits(seen, symmetry.there(images)).float().softmax(dim=1))
                total = found if total is None else total + found
        if total is None:
            raise ModelError("A predictor needs at least one model; saw an empty list.")
        return total / (len(self.bundles) * len(symmetries))


def _logits(bundle: Bundle, images: Tensor) -> Tensor:
    try:
        return bundle.logits(images)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = "x".join(str(side) for side in images.shape[-2:])
        raise ModelError(f"The model cannot be applied to an image of {shape} pixels: {error}") from error


def build_predictor(bundles: Sequence[Bundle], tta: str = "none") -> Predictor:
    """A predictor of one or several bundles.

    Raises:
        ConfigError: an unknown averaging.
        ModelError: bundles differ in classes, bands or size; all differences are listed.
    """
    gather(ConfigError, check_tta(tta))
    faults = [
        f"{what}: {getattr(bundles[0], what)} in the first, {getattr(bundle, what)} in model {number}"
        for number, bundle in enumerate(bundles[1:], 2)
        for what in ("task", "classes", "bands", "size", "depth", "chosen_bands")
        if repr(getattr(bundle, what)) != repr(getattr(bundles[0], what))  # a nodata of NaN equals nothing
    ]
    gather(ModelError, faults, headline="Only models that agree can be averaged:" if faults else "")
    return Predictor(tuple(bundles), tta)

"""Augment the images and masks of a whole batch together, with random numbers from one generator.

Flips copy pixels exactly. Rotation, scale and shift are one resampling of the image (bilinear) and of its mask
(nearest), mirrored at the borders, so every mask pixel keeps a class or IGNORE. Brightness and contrast change images
only. A label of the whole image, a mask of one pixel, is not changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segdecay.config.schema import AugmentConfig
from segdecay.data.dataset import IGNORE

DRAWS = 8  # random numbers per image, always drawn, so that no setting changes the numbers of another


@dataclass(frozen=True)
class Changes:
    """The random numbers of a batch, in 0-1; empty tensors where no change is on."""

    values: Tensor  # (N, DRAWS): two flips, rotation, scale, shift in x and y, brightness, contrast
    padding: Tensor  # (N, 2): top and left of the window; (0, 2) without padding


def draw_changes(images: int, config: AugmentConfig, *, flip: str, generator: torch.Generator) -> Changes:
    """The random numbers for a batch of so many images.

    flip: "none", "horizontal" or "both", as the data set allows; a `config.flip` other than "data" overrides it.
    generator: on the CPU; the only source of randomness.
    """
    is_on = config.degrees or config.scale or config.shift or config.brightness or config.contrast or config.pad
    count = images if is_on or _mirrored(config, flip) != "none" else 0
    values = torch.rand(count, DRAWS, generator=generator)
    # drawn separately, so that padding does not change the other random numbers
    return Changes(values, torch.rand(count if config.pad else 0, 2, generator=generator))


def _mirrored(config: AugmentConfig, flip: str) -> str:
    return flip if config.flip == "data" else config.flip


def apply_changes(
    images: Tensor,  # (N, B, H, W) float, 0-255
    masks: Tensor,  # (N, H, W) int64, class indices or IGNORE; (N, 1, 1) for labels of images
    changes: Changes,  # on the device of the images
    *,
    config: AugmentConfig,
    flip: str,
) -> tuple[Tensor, Tensor]:
    """Images and masks, each pair changed by the same draw; the same tensors if every change is off.

    >>> still = AugmentConfig(flip="none", degrees=0, scale=0, shift=0, brightness=0, contrast=0)
    >>> image, mask = torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> nothing = draw_changes(1, still, flip="both", generator=torch.Generator())
    >>> apply_changes(image, mask, nothing, config=still, flip="both")[0] is image
    True
    """
    draw = changes.values
    if not len(draw):
        return images, masks
    mirrored = _mirrored(config, flip)
    if mirrored in {"horizontal", "both"}:
        images, masks = _flip(images, masks, draw[:, 0] < 0.5, axis=-1)
    if mirrored == "both":
        images, masks = _flip(images, masks, draw[:, 1] < 0.5, axis=-2)
    if config.degrees or config.scale or config.shift:
        images, masks = _affine(images, masks, _matrices(draw[:, 2:6], config, *images.shape[-2:]))
    if config.brightness or config.contrast:
        images = _colour(images, draw[:, 6], draw[:, 7], config)
    if config.pad:
        images, masks = _pad_and_crop(images, masks, changes.padding, config.pad)
    return images, masks


def augment(
    images: Tensor, masks: Tensor, *, config: AugmentConfig, flip: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images and masks as `apply_changes` gives them, by the numbers of `draw_changes`."""
    changes = draw_changes(len(images), config, flip=flip, generator=generator)
    return apply_changes(images, masks, changes, config=config, flip=flip)


def _pad_and_crop(
    images: Tensor,
    masks: Tensor,
    draw: Tensor,  # (N, 2) in 0-1: top and left of the window
    pad: int,
) -> tuple[Tensor, Tensor]:
    """A window of the images' size from images with a black border; the border of a mask is IGNORE."""
    corners = (draw * (2 * pad + 1)).long().clamp_max(2 * pad).to(images.device)
    is_label = masks.shape[-2:] != images.shape[-2:]
    moved = _windows(F.pad(images, (pad, pad, pad, pad)), corners, *images.shape[-2:])
    if is_label:
        return moved, masks
    padded = F.pad(masks[:, None], (pad, pad, pad, pad), value=IGNORE)
    return moved, _windows(padded, corners, *images.shape[-2:])[:, 0]


def _windows(
    values: Tensor,  # (N, B, H, W)
    corners: Tensor,  # (N, 2) int64
    height: int,
    width: int,
) -> Tensor:  # (N, B, height, width)
    def steps(start: Tensor, side: int) -> Tensor:
        return start[:, None] + torch.arange(side, device=start.device)

    image = torch.arange(len(values), device=values.device)[:, None, None, None]
    band = torch.arange(values.shape[1], device=values.device)[None, :, None, None]
    rows, columns = steps(corners[:, 0], height)[:, None, :, None], steps(corners[:, 1], width)[:, None, None, :]
    return values[image, band, rows, columns]


def _flip(
    images: Tensor,
    masks: Tensor,
    chosen: Tensor,  # (N,) bool
    axis: int,
) -> tuple[Tensor, Tensor]:
    chosen = chosen.to(images.device)
    flipped = torch.where(chosen[:, None, None, None], images.flip(axis), images)
    return flipped, torch.where(chosen[:, None, None], masks.flip(axis), masks)


def _matrices(
    draw: Tensor,  # (N, 4) in 0-1: rotation, scale, shift in x, shift in y
    config: AugmentConfig,
    height: int,
    width: int,
) -> Tensor:
    """Output to input coordinates, both from -1 to 1: (N, 2, 3). Rotation keeps right angles at any aspect ratio."""
    centred = 2 * draw - 1
    angle = centred[:, 0] * math.radians(config.degrees)
    size = 1 + centred[:, 1] * config.scale
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    shift_x, shift_y = 2 * centred[:, 2] * config.shift, 2 * centred[:, 3] * config.shift
    rows = [cos, -sin * (height / width), shift_x, sin * (width / height), cos, shift_y]
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)


def _affine(images: Tensor, masks: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    n, _, height, width = images.shape
    theta = matrices.to(images.device, torch.float32)
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="reflection", align_corners=False
    )
    if masks.shape[-2:] != images.shape[-2:]:
        return moved, masks
    labels = masks[:, None].to(torch.float32)  # exact for the integers 0-255
    labels = F.grid_sample(labels, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    return moved, labels[:, 0].round().to(masks.dtype)


def _colour(
    images: Tensor,
    brightness: Tensor,  # (N,) in 0-1
    contrast: Tensor,  # (N,) in 0-1
    config: AugmentConfig,
) -> Tensor:
    """Contrast about the mean of each image, then brightness, clipped to 0-255."""
    shape = (-1, 1, 1, 1)
    factor = (1 + (2 * contrast - 1) * config.contrast).reshape(shape).to(images.device, images.dtype)
    offset = ((2 * brightness - 1) * config.brightness * 255).reshape(shape).to(images.device, images.dtype)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * factor + mean + offset).clamp(0, 255)

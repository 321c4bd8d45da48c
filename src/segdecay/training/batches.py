"""Training batches: images, windows, pasted instances, augmentation.

Every draw is a function of (seed, fold, epoch, batch), so no random state has to be saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from segdecay.config.schema import AugmentConfig
from segdecay.data.dataset import Dataset, class_pixels
from segdecay.data.on_device import DatasetOnDevice, to_device
from segdecay.data.transforms.augment import Changes, apply_changes, draw_changes
from segdecay.data.transforms.copy_paste import Instances, find_instances, paste_, rare_classes
from segdecay.data.transforms.crops import ClassPlaces, crop_size, does_nothing, draw_by_class, find_places, take_batch
from segdecay.data.transforms.user import UserTransform, check_repeatable
from segdecay.errors import ConfigError, unknown
from segdecay.models.zoo import import_build

TRIED_IMAGES = 16  # on which a user's transform is tried before any training

CPU = torch.device("cpu")


def derive_seed(*parts: int | str) -> int:
    """A seed from 0 to 2**62 - 1 that depends only on the parts.

    >>> derive_seed(0, "init") == derive_seed(0, "init"), derive_seed(0, "init") == derive_seed(1, "init")
    (True, False)
    """
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@dataclass(frozen=True)
class Draws:
    """Data for class-aware crops and copy-paste, and the user's transform; empty if they are off."""

    places: ClassPlaces | None = None
    instances: Instances = field(default_factory=dict)
    transform: UserTransform | None = None


def pasted_classes(config: AugmentConfig, dataset: Dataset, train: Sequence[int]) -> tuple[int, ...]:
    """The classes whose instances are pasted: the configured ones, or the rare ones; never the largest."""
    pixels = class_pixels(dataset, tuple(train)).sum(axis=0)
    if not config.copy_paste_classes:
        return rare_classes(pixels)
    names = set(config.copy_paste_classes)
    return tuple(
        label for label, name in enumerate(dataset.classes) if name in names and label != int(np.argmax(pixels))
    )


def build_draws(
    config: AugmentConfig,
    dataset: Dataset,
    train: Sequence[int],
    *,
    seed: int,
    fold: int,
    transform: UserTransform | None = None,
) -> Draws:
    """One pass over the training masks for each option that is on.

    transform: a callable that was given in Python; None: the one that the configuration names, if it does.
    """
    if transform is None and config.transform is not None:
        transform = named_transform(config.transform)
    instances: Instances = {}
    if config.copy_paste:
        random = np.random.default_rng(derive_seed(seed, fold, "instances"))
        labels = pasted_classes(config, dataset, train)
        instances = find_instances(dataset, train, labels, least_px=config.copy_paste_least_px, random=random)
    return Draws(find_places(dataset, train) if config.class_crops else None, instances, transform)


def check_transform(
    config: AugmentConfig, dataset: Dataset, train: Sequence[int], transform: UserTransform | None
) -> list[str]:
    """Faults of a user's transform on some training images; None: of the one that the configuration names, if it does.

    Raises:
        DataError: it raised, or changed what it may not.
        ConfigError, ModelError: as `named_transform`.
    """
    if transform is None and config.transform is None:
        return []
    tried = transform or named_transform(config.transform or "")
    crop = crop_size(dataset, train, config)
    images, masks = take_batch(dataset, train[:TRIED_IMAGES], crop=crop, generator=generator("transform"))
    return check_repeatable(tried, images, masks)


@cache
def named_transform(name: str) -> UserTransform:
    """The transform package.module:name, imported as a user's model is.

    Raises:
        ConfigError: the name is that of a callable that was given in Python.
        ModelError: it cannot be imported.
    """
    if ":" not in name:
        raise ConfigError(
            f"augment.transform={name} is a callable that was given in Python as transform=. Give it again, or "
            "package.module:name."
        )
    return UserTransform(import_build(name, "--transform"), name)


def check_draws(config: AugmentConfig, dataset: Dataset, train: Sequence[int], draws: Draws) -> list[str]:
    """Faults of class-aware crops and copy-paste that would have no effect, or a harmful one, and of a transform.

    Raises:
        DataError: the transform raised, or changed what it may not.
    """
    faults = [
        f"augment.copy_paste_classes: {unknown('class', name, dataset.classes)}"
        for name in config.copy_paste_classes
        if name not in dataset.classes
    ]
    crop = crop_size(dataset, train, config)
    if draws.places is not None and does_nothing(dataset, train, draws.places, crop):
        faults.append(
            f"augment.class_crops={config.class_crops:g} has no effect: images are taken whole, and each of the "
            f"{len(train)} training images holds every class. Set augment.crop to a window smaller than the images, or "
            "augment.class_crops=0."
        )
    if not faults:
        faults += check_transform(config, dataset, train, draws.transform)
    if not config.copy_paste or faults:
        return faults
    largest = dataset.classes[int(class_pixels(dataset, tuple(train)).sum(axis=0).argmax())]
    if largest in config.copy_paste_classes:
        faults.append(
            f"augment.copy_paste_classes names {largest}, the largest class; pasted, it would hide the others. "
            "Leave it out."
        )
    elif not draws.instances:
        wanted = (
            ", ".join(dataset.classes[label] for label in pasted_classes(config, dataset, train)) or "no class is rare"
        )
        faults.append(
            f"augment.copy_paste={config.copy_paste:g} has no effect: no component of a class to paste ({wanted}) has "
            f"at least {config.copy_paste_least_px} px and at most a quarter of its image. Name other classes in "
            "augment.copy_paste_classes, lower augment.copy_paste_least_px, or set augment.copy_paste=0."
        )
    return faults


def training_batch(
    config: AugmentConfig,
    dataset: Dataset,
    train: Sequence[int],
    indices: Sequence[int],
    draws: Draws,
    *,
    drawn_from: tuple[int, int],  # seed, fold
    at: tuple[int, ...],  # epoch, batch; and the process, where several share a batch
    device: torch.device = CPU,
    stored: DatasetOnDevice | None = None,  # on `device`; not with pasted instances, which are cut out on the host
) -> tuple[Tensor, Tensor]:
    """Images (N, B, H, W) float, 0-255, and masks (N, H, W) int64: drawn, cropped, with pasted instances, changed by
    the user's transform, augmented.

    Each step has a separate generator, so that switching one on does not change the draws of the others. All draws are
    made on the CPU, so that they are the same for every device.
    """
    crop = crop_size(dataset, train, config)
    taken, places = [int(index) for index in indices], None
    if draws.places is not None:
        by_class = generator(*drawn_from, "class crops", *at)
        taken, places = draw_by_class(
            dataset, taken, draws.places, share=config.class_crops, crop=crop, generator=by_class
        )
    draw = generator(*drawn_from, "augment", *at)
    if stored is not None:
        images, masks = stored.take_batch(taken, crop=crop, generator=draw, places=places)
    else:
        images, masks = take_batch(dataset, taken, crop=crop, generator=draw, places=places)
        if draws.instances:
            flip = dataset.flip if config.flip == "data" else config.flip
            by_paste = generator(*drawn_from, "copy-paste", *at)
            paste_(
                images, masks, taken, dataset, draws.instances, share=config.copy_paste, flip=flip, generator=by_paste
            )
        if draws.transform is not None:
            seeds = [derive_seed(*drawn_from, "transform", *at, number) for number in range(len(images))]
            images, masks = draws.transform.apply(images, masks, seeds)
        images, masks = to_device(images, device), to_device(masks, device)
    changes = draw_changes(len(taken), config, flip=dataset.flip, generator=draw)
    if device.type != "cpu":
        changes = Changes(to_device(changes.values, device), to_device(changes.padding, device))
    return apply_changes(images.to(torch.float32), masks, changes, config=config, flip=dataset.flip)

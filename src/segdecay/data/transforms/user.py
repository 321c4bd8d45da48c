"""A transform of the user's, on every training image: called with its own seed, and held to what it may change.

It gets one window at a time, before the changes of `augment.*`, as `transform(image=..., mask=...)`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segdecay.data.dataset import IGNORE
from segdecay.errors import DataError

U8 = npt.NDArray[np.uint8]
SHOWN = 5  # values named in an error


@dataclass(frozen=True)
class UserTransform:
    """A callable that takes image and mask by these names and returns both, as a mapping or a pair.

    Attributes:
        function: the callable; for labels of whole images it takes and returns the image alone.
        name: for messages and run.yaml.
    """

    function: Callable[..., Any]
    name: str

    def apply(
        self,
        images: Tensor,  # (N, B, H, W) uint8
        masks: Tensor,  # (N, H, W) int64, class indices or IGNORE; (N, 1, 1) for labels of images
        seeds: Sequence[int],  # one for each image
    ) -> tuple[Tensor, Tensor]:
        """Images (N, B, H, W) uint8 and masks (N, H, W) int64, each changed under its own seed.

        Raises:
            DataError: the callable raised, or changed what it may not: size, type, or the values of a mask.

        Example:
            >>> flip = UserTransform(lambda image, mask: (image[:, ::-1], mask[:, ::-1]), "flip")
            >>> image, mask = torch.arange(2, dtype=torch.uint8).view(1, 1, 1, 2), torch.tensor([[[0, 1]]])
            >>> [one.tolist() for one in flip.apply(image, mask, [0])]
            [[[[[1, 0]]]], [[[1, 0]]]]
        """
        pairs = [
            self._one(image, mask, seed)
            for image, mask, seed in zip(images.permute(0, 2, 3, 1).numpy(), masks.numpy(), seeds, strict=True)
        ]
        whole = np.ascontiguousarray(np.stack([image for image, _ in pairs]).transpose(0, 3, 1, 2))
        return torch.from_numpy(whole), torch.from_numpy(np.stack([mask for _, mask in pairs]).astype(np.int64))

    def _one(self, image: U8, mask: npt.NDArray[np.int64], seed: int) -> tuple[U8, U8]:
        labels = mask.astype(np.uint8)
        is_label = labels.shape != image.shape[:2]
        given: dict[str, Any] = {"image": np.ascontiguousarray(image)}
        if not is_label:
            given["mask"] = labels.copy()
        with seeded(self.function, seed) as more:
            try:
                found = self.function(**given, **more)
            except Exception as error:
                raise DataError(f"{self.name} raised {type(error).__name__}: {error}") from error
        changed, new = self._parts(found, labels, is_label=is_label)
        faults = [*check_image(changed, image.shape), *check_mask(new, labels)]
        if faults:
            raise DataError("\n".join([f"{self.name} changes what a transform may not change:", *faults]))
        return np.asarray(changed), np.asarray(new)

    def _parts(self, found: Any, labels: U8, *, is_label: bool) -> tuple[Any, Any]:
        """Image and mask of what the callable returned."""
        if isinstance(found, Mapping):
            image, mask = found.get("image"), labels if is_label else found.get("mask")
        elif is_label and not isinstance(found, tuple):
            image, mask = found, labels
        elif isinstance(found, tuple) and len(found) == 2:
            image, mask = found[0], labels if is_label else found[1]
        else:
            image = mask = None
        if image is None or mask is None:
            seen = f"a mapping of {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
            raise DataError(
                f"{self.name} returned {seen}; a pair (image, mask) or a mapping with 'image' and 'mask' is needed."
            )
        return _array(image), _array(mask)


def _array(value: Any) -> Any:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def check_image(image: Any, shape: tuple[int, ...]) -> list[str]:
    """Faults of a transformed image.

    >>> check_image(np.zeros((4, 4, 3), np.uint8), (4, 4, 3)), len(check_image(np.zeros((4, 4, 3)), (4, 4, 3)))
    ([], 1)
    """
    faults = []
    if image.shape != shape:
        order = " Bands stay last: leave ToTensorV2 and the like out." if image.shape == shape[2:] + shape[:2] else ""
        faults.append(
            f"- the image was {shape}, now it is {image.shape}; the size must stay, as augment.crop sets it.{order}"
        )
    if image.dtype != np.uint8:
        faults.append(
            f"- the image was uint8, now it is {image.dtype}; leave normalisation and conversion out, which segdecay "
            "does itself."
        )
    return faults


def check_mask(mask: Any, before: U8) -> list[str]:
    """Faults of a transformed mask: another size, or values that it did not hold.

    >>> check_mask(np.array([[0, 2]]), np.array([[0, 2]], np.uint8))
    []
    >>> check_mask(np.array([[0, 1]]), np.array([[0, 2]], np.uint8))[0][:52]
    '- the mask held 0, 2, now it holds 1, too: interpola'
    """
    if mask.shape != before.shape:
        return [f"- the mask was {before.shape}, now it is {mask.shape}; the size must stay, as augment.crop sets it."]
    if mask.dtype.kind not in "iub" and not (mask.dtype.kind == "f" and bool((mask == np.rint(mask)).all())):
        return [f"- the mask was uint8, now it is {mask.dtype} with fractions: resample it by the nearest pixel."]
    held = np.zeros(IGNORE + 1, dtype=bool)
    held[before.ravel()] = held[IGNORE] = True
    values = mask.astype(np.int64)
    strange = np.unique(values[(values < 0) | (values > IGNORE) | ~held[np.clip(values, 0, IGNORE)]])
    if not len(strange):
        return []
    was = ", ".join(str(value) for value in np.unique(before)[:SHOWN])
    now = ", ".join(str(value) for value in strange[:SHOWN])
    fault = (
        f"- the mask held {was}, now it holds {now}, too: interpolated values, or a border that was filled. Resample "
        f"masks by the nearest pixel, and fill with {IGNORE}, which no loss counts (fill_mask in albumentations)."
    )
    return [fault]


@contextmanager
def seeded(function: Any, seed: int) -> Iterator[dict[str, int]]:
    """Every generator that a transform may draw from starts at the seed; ours go on afterwards as if nothing happened.

    Yields the seed as a keyword, where the callable has a parameter of that name.
    """
    small = seed % 2**32
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002 - the global one
    random.seed(small)
    np.random.seed(small)  # noqa: NPY002
    torch.random.set_rng_state(torch.Generator().manual_seed(small).get_state())
    if callable(getattr(function, "set_random_seed", None)):  # albumentations draws from generators of its own
        function.set_random_seed(small)
    try:
        yield {"seed": small} if _takes_seed(function) else {}
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.random.set_rng_state(before[2])


def _takes_seed(function: Any) -> bool:
    try:
        return "seed" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a compiled function
        return False


def check_repeatable(transform: UserTransform, images: Tensor, masks: Tensor) -> list[str]:
    """Whether the same seeds give the same images again, whatever was drawn in between.

    Raises:
        DataError: as `UserTransform.apply`.
    """
    seeds = range(len(images))
    first = transform.apply(images, masks, seeds)
    transform.apply(images, masks, [seed + len(images) for seed in seeds])
    again = transform.apply(images, masks, seeds)
    if all(torch.equal(one, other) for one, other in zip(first, again, strict=True)):
        return []
    fault = (
        f"{transform.name} gives other images under the same seed, so no training could be repeated or resumed. Draw "
        "from random, numpy.random or torch inside of it, or give it a parameter `seed` and draw from that."
    )
    return [fault]


def transform_name(transform: Any) -> str:
    """The name of a transform in run.yaml: that of its function, or its class with a hash of its settings.

    >>> transform_name(np.flipud)
    'numpy.flipud'
    """
    if inspect.isroutine(transform) or inspect.isclass(transform):
        return f"{transform.__module__}.{transform.__qualname__}"
    kind = type(transform)
    try:
        settings = json.dumps(transform.to_dict(), sort_keys=True, default=str)  # of albumentations
    except Exception:  # noqa: BLE001 - whatever a foreign object raises, or it has no such method
        settings = repr(transform)
    is_told = " at 0x" not in settings
    mark = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return f"{kind.__module__}.{kind.__qualname__}" + (f" {mark}" if is_told else "")

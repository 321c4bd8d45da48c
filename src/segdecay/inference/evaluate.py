"""Evaluation of a predictor on the images of a data set, against their masks or labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdecay.data.dataset import Dataset
from segdecay.errors import ConfigError, DataError, RunError, gather, unknown
from segdecay.inference.apply import Tiling, check_tiling_of, predict_mask
from segdecay.inference.bundle import Bundle
from segdecay.inference.card import HASH_DIGITS
from segdecay.inference.card import Card as BundleCard
from segdecay.inference.image_io import reading_in_words
from segdecay.inference.model import weights_sha256
from segdecay.inference.predictor import Predictor
from segdecay.inference.scores import (
    Resampling,
    accuracies,
    accuracy_of,
    class_scores,
    image_mious,
    overall_scores,
)
from segdecay.metrics.bootstrap import known_groups, resampled_by
from segdecay.metrics.boundary import BoundaryCounts, image_boundaries, write_boundaries
from segdecay.metrics.confusion import image_confusions, write_confusions
from segdecay.metrics.counts import I64
from segdecay.runs.evaluation import EvaluatedData, EvaluatedImage, EvaluatedModel, Evaluation
from segdecay.utils.files import write_json

CARD, MATRICES, BOUNDARIES = "evaluation.json", "confusion.npz", "boundary.npz"
PARTS = {"test": ("test",), "val": ("val",), "train": ("train",), "all": ("train", "val", "test")}


@dataclass(frozen=True)
class Inquiry:
    """The request: the part to score, tiles, intervals."""

    run: str
    path: str
    part: str | None = None  # None: test if there is one, else all
    tiling: Tiling = field(default_factory=Tiling)
    size: tuple[int, int] | None = None  # that images and masks were resized to
    confidence: float = 0.95
    resamples: int = 2000
    command: str = ""  # as typed, to repeat the evaluation


@dataclass(frozen=True)
class Kept:
    """Counts of every scored image, for the files next to evaluation.json."""

    confusions: I64  # (N, C, C)
    boundary: BoundaryCounts


def part_of(dataset: Dataset, name: str | None) -> tuple[str, tuple[int, ...]]:
    """The part to score and its images.

    Raises:
        ConfigError: an unknown part, or one without images.
    """
    if name is not None and name not in PARTS:
        raise ConfigError(f"--part: {unknown('part', name, PARTS)}")
    taken = name or ("test" if dataset.part("test") else "all")
    indices = dataset.part(*PARTS[taken])
    if not indices:
        counts = ", ".join(f"{part} {len(dataset.part(part))}" for part in ("train", "val", "test"))
        raise ConfigError(f"--part {taken}: {dataset.name} has no image in it ({counts}).")
    return taken, indices


def check_fit(predictor: Predictor, dataset: Dataset) -> list[str]:
    """Faults of a data set for a model: task, classes, bands, conversion to 8 bits."""
    faults = []
    if predictor.task != dataset.task:
        kinds = {"segmentation": "masks", "classification": "one label per image"}
        faults.append(f"The model gives {kinds[predictor.task]}; {dataset.name} has {kinds[dataset.task]}.")
    if tuple(predictor.classes) != tuple(dataset.classes):
        faults.append(
            f"The classes differ. The model's: {', '.join(predictor.classes)}. {dataset.name}'s: "
            f"{', '.join(dataset.classes)}. Give the data the model's classes, in this order."
        )
    if predictor.bands != dataset.bands:
        faults.append(f"{dataset.name} has {dataset.bands} band(s), the model needs {predictor.bands}.")
    own, other = (
        repr((replace(one.depth, grey_as_rgb=False, exif="apply"), one.chosen_bands))  # which changes no decoded image
        for one in (predictor, dataset)
    )
    if own != other and not faults:
        faults.append(
            f"{dataset.name} is not read like the training data of the model: "
            f"{reading_in_words(dataset.depth, dataset.chosen_bands)} in its dataset.yaml, for the model "
            f"{reading_in_words(predictor.depth, predictor.chosen_bands)}. Use the model's values there."
        )
    return faults


def trained_on(card: BundleCard | None, dataset: Dataset, fingerprint: str) -> frozenset[int]:
    """Images that a model was trained on, as far as its card shows: by its list, or by the parts of the same data.

    fingerprint: of the data set as the model's training read it.
    """
    known = None if card is None else card.trained_on
    if known is None:
        return frozenset()
    if known.hashes:
        hashes = set(known.hashes)
        return frozenset(i for i, item in enumerate(dataset.items) if item.sha256[:HASH_DIGITS] in hashes)
    if known.fingerprint != fingerprint:
        return frozenset()
    train, pool = dataset.part("train"), dataset.part("train", "val")
    return frozenset(train if known.images == len(train) else pool)


def _warnings(dataset: Dataset, indices: Sequence[int], seen: frozenset[int]) -> list[str]:
    found = []
    direct = [index for index in indices if index in seen]
    if direct:
        found.append(
            f"{len(direct)} of {len(indices)} images were used to train the model: their scores do not hold for new "
            "images."
        )
    groups = {dataset.items[index].group for index in seen}
    related = [i for i in indices if i not in seen and dataset.items[i].group in groups]
    if related:
        found.append(
            f"{len(related)} of {len(indices)} images belong to groups of training images: scores of new groups may be "
            "lower."
        )
    return found


def counts_of(
    predictor: Predictor,
    dataset: Dataset,
    indices: Sequence[int],
    tiling: Tiling,
    on_image: Callable[[int], None] = lambda _done: None,
) -> Kept:
    """Confusion matrices (N, C, C) and boundary counts of images, in their order."""
    classes = len(dataset.classes)
    found, edges = np.zeros((len(indices), classes, classes), np.int64), []
    for place, index in enumerate(indices):
        predicted, truth = predict_mask(predictor, dataset.image(index), tiling)[None], dataset.mask(index)[None].copy()
        found[place] = image_confusions(torch.from_numpy(predicted), torch.from_numpy(truth), classes)[0].numpy()
        edges.append(image_boundaries(predicted, truth, classes))
        on_image(1)
    return Kept(found, BoundaryCounts.joined(edges, classes))


def _made_by(bundle: Bundle) -> dict[str, Any]:
    """The facts about a model's training, with the version of segdecay."""
    version = {} if bundle.card is None else {"segdecay": bundle.card.made_with.get("segdecay", "unknown")}
    return {**bundle.made_by, **version}


def _summary(
    predictor: Predictor,
    dataset: Dataset,
    inquiry: Inquiry,
    part: str,
    indices: Sequence[int],
    kept: Kept,
    seen: frozenset[int],
    seconds: float,
) -> Evaluation:
    """The evaluation record of the matrices."""
    items = [dataset.items[index] for index in indices]
    groups = [item.group for item in items]
    rows = [
        EvaluatedImage(item.name, item.group, item.part, item.height, item.width, miou, index in seen)
        for index, item, miou in zip(indices, items, image_mious(kept.confusions, dataset.excluded), strict=True)
    ]
    by = Resampling(groups, inquiry.confidence, inquiry.resamples, dataset.excluded)
    return Evaluation(
        run=inquiry.run,
        data=EvaluatedData(
            inquiry.path, dataset.name, dataset.fingerprint, part, images=len(indices), groups=len(set(groups))
        ),
        model=EvaluatedModel(tuple(weights_sha256(predictor)), _made_by(predictor.bundles[0])),
        how={
            "tta": predictor.tta,
            "tile": inquiry.tiling.tile,
            "overlap": inquiry.tiling.overlap,
            "models": len(predictor.bundles),
            "size": inquiry.size,
            "command": inquiry.command,
        },
        confidence=inquiry.confidence,
        resamples=inquiry.resamples,
        resampled_by=resampled_by(known_groups([groups])),
        task=dataset.task,
        exclude_from_mean=dataset.exclude_from_mean,
        accuracy=accuracy_of(kept.confusions),
        **accuracies(kept.confusions, by, dataset.task),
        classes=class_scores(kept.confusions, kept.boundary, dataset.classes, dataset.palette, by),
        confusion=tuple(tuple(int(count) for count in row) for row in kept.confusions.sum(axis=0)),
        images=tuple(rows),
        trained_on=sum(row.trained_on for row in rows),
        warnings=tuple(_warnings(dataset, indices, seen)),
        seconds=seconds,
        **overall_scores(kept.confusions, kept.boundary, by),
    )


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    inquiry: Inquiry,
    *,
    fingerprint: str | None = None,
    on_image: Callable[[int], None] = lambda _done: None,
) -> tuple[Evaluation, Kept]:
    """Score a predictor on a part of a data set; returns the record of evaluation.json, and counts of every image.

    Args:
        predictor: of the same classes and bands.
        dataset: with masks.
        inquiry: the part to score and the options.
        fingerprint: of the data as read for the training, if at another size; None: that of the data set.
        on_image: called after every image.

    Raises:
        DataError: classes or bands differ from the model's; both are shown.
        ConfigError: a part or tiles that do not exist.
        ModelError: the model cannot be applied to an image.
    """
    gather(DataError, check_fit(predictor, dataset))
    if dataset.task == "classification" and inquiry.tiling.tile is not None:
        raise ConfigError(f"--tile {inquiry.tiling.tile}: this model labels whole images; leave it out.")
    check_tiling_of(inquiry.tiling, predictor)
    part, indices = part_of(dataset, inquiry.part)
    start = time.monotonic()
    kept = counts_of(predictor, dataset, indices, inquiry.tiling, on_image)
    seconds = time.monotonic() - start
    seen: frozenset[int] = frozenset().union(
        *(trained_on(bundle.card, dataset, fingerprint or dataset.fingerprint) for bundle in predictor.bundles)
    )
    evaluation = _summary(predictor, dataset, inquiry, part, indices, kept, seen, seconds)
    return evaluation, kept


def check_evaluation_out(out: Path) -> None:
    """Refuse an output folder with other content than an evaluation.

    Raises:
        RunError: a file, or a folder with other files and no evaluation.json.
    """
    if out.is_file():
        raise RunError(f"{out} is a file; --out takes a folder.")
    others = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if others and CARD not in others:
        raise RunError(f"{out} holds other files ({', '.join(others[:3])}), and no {CARD}. Choose another --out.")


def write_evaluation(out: Path, evaluation: Evaluation, kept: Kept) -> None:
    """Write the counts of every image, then evaluation.json, which marks the evaluation complete."""
    out.mkdir(parents=True, exist_ok=True)
    (out / CARD).unlink(missing_ok=True)
    write_confusions(out / MATRICES, kept.confusions)
    write_boundaries(out / BOUNDARIES, kept.boundary)
    write_json(out / CARD, evaluation)

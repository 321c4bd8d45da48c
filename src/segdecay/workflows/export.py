"""What a finished training says of itself in its bundle: the card, from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from segdecay.config.schema import RunConfig, Task
from segdecay.data import Dataset
from segdecay.data.images.bit_depth import depth_to_json
from segdecay.inference.card import HASH_DIGITS, MOST_HASHES, SCHEMA, Card, CardScores, ClassScore, Search, TrainedOn
from segdecay.runs.folder import package_versions
from segdecay.runs.records import Scores, TrialRecord
from segdecay.runs.verdict import Verdict
from segdecay.training.class_weights import loss_in_words
from segdecay.training.setup import model_at


def card_of(
    config: RunConfig, dataset: Dataset, record: TrialRecord, data: Mapping[str, Any], verdict: Verdict | None
) -> Card:
    """The card of a final training.

    Args:
        config: what was asked for.
        dataset: what it was trained on.
        record: the training; its validation is of the test part after a search, and of val after a single training.
        data: the content of the run's data.json.
        verdict: what the search concluded, where there was one.
    """
    scored_on = _scored_on(dataset, verdict)
    scored = record.validation if scored_on else None
    return Card(
        schema_version=SCHEMA,
        task=dataset.task,
        weights_sha256="0" * 64,  # set when the weights are written
        classes=dataset.classes,
        palette=dataset.palette,
        bands=dataset.bands,
        mean=tuple(record.extra["mean"]),
        deviation=tuple(record.extra["deviation"]),
        size=config.data.size,
        **depth_to_json(dataset.depth),
        chosen_bands=dataset.chosen_bands,
        model=model_at(config, record.strength.value).model_dump(mode="json"),
        made_by={
            "regularizer": config.decay.regularizer,
            "strength": record.strength.to_json(),
            "epochs": record.epochs,
            "loss": loss_in_words(config.loss),
        },
        trained_on=TrainedOn(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            images=record.parts[0],
            parts=data["images"],
            hashes=_hashes(dataset, verdict),
        ),
        search=None if verdict is None else _search(verdict),
        scores=tuple(_class_scores(data["class_rows"], verdict, scored, dataset.task)),
        scored_on=scored_on,
        miou=None if scored is None or dataset.task == "classification" else scored.miou,
        balanced_accuracy=None if scored is None or dataset.task == "segmentation" else scored.balanced_accuracy,
        exclude_from_mean=dataset.exclude_from_mean,
        made_with=package_versions(),
    )


def _hashes(dataset: Dataset, verdict: Verdict | None) -> tuple[str, ...]:
    """Of the images that the weights were trained on, so that an evaluation can tell them."""
    trained = dataset.part("train", "val") if verdict is not None else dataset.part("train")
    if len(trained) > MOST_HASHES:
        return ()
    return tuple(dataset.items[index].sha256[:HASH_DIGITS] for index in trained)


def _scored_on(dataset: Dataset, verdict: Verdict | None) -> Literal["test", "val"] | None:
    """The part that a final training never saw and was scored on once."""
    if verdict is not None:
        return "test" if dataset.part("test") else None
    return "val" if dataset.part("val") else None


def _search(verdict: Verdict) -> Search:
    honest = verdict.honest
    return Search.model_validate(
        {
            "kind": verdict.kind,
            "sentence": verdict.sentence,
            "criterion": verdict.criterion,
            "cautions": tuple(one.sentence for one in verdict.cautions),
            "confidence": verdict.evidence["confidence"],
            "selection": CardScores(mean=verdict.selection.mean, interval=verdict.selection.interval),
            "honest": None
            if honest is None
            else CardScores(mean=honest["mean"], interval=tuple(honest["interval"]), method=honest["method"]),
        }
    )


def _class_scores(
    rows: Sequence[Mapping[str, Any]], verdict: Verdict | None, scored: Scores | None, task: Task
) -> Sequence[ClassScore]:
    """One row a class: over the folds at what was taken, and of the weights themselves where they were scored."""
    found = []
    for index, row in enumerate(rows):
        folds: dict[str, Any] = {}
        if verdict is not None:
            own = verdict.classes[index]
            folds = (
                {"folds": own.zero, "interval": own.zero_interval}
                if verdict.strength.is_none
                else {"folds": own.chosen, "interval": own.chosen_interval}
            )
        own_score = None if scored is None else (scored.recall if task == "classification" else scored.iou)[index]
        known = None if own_score is None or own_score != own_score else own_score
        found.append(ClassScore(name=row["name"], pixels=row["pixels"], images=row["images"], scored=known, **folds))
    return found

"""The decision of a search as the record that verdict.json holds. Knows studies and records; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segdecay.records import Verdict
from segdecay.selection.evidence import MIOU
from segdecay.selection.racing import Searched
from segdecay.selection.verdict import STATISTIC, Decision
from segdecay.selection.words import sentence_of
from segdecay.training.own import policy_of

if TYPE_CHECKING:
    from segdecay.selection.study import Study


def verdict_of(study: Study, searched: Searched, decision: Decision) -> Verdict:
    """The decision as the record that verdict.json holds."""
    config, settings = study.config, decision.settings
    records = [
        record
        for value in searched.blocks
        for task in study.tasks(value)
        if (record := study.ledger.record(task.folder)) is not None
    ]
    difference = decision.best_difference
    return Verdict(
        kind=decision.kind,
        criterion="miou" if decision.criterion == MIOU else decision.criterion.name,
        policy=policy_of(config),
        strength=settings[decision.taken].strength,
        one_se=settings[decision.one_se].strength,
        selection=decision.selection,
        zero={
            "mean": decision.zero.mean,
            "standard_error": decision.zero.standard_error,
            "difference_interval": None if difference is None else difference.interval,
        },
        settings=settings,
        classes=decision.classes,
        seeds=config.search.seeds,
        honest=decision.honest,
        test=None,
        cost={
            "cells": len(records),
            "epochs": sum(record.epochs for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
        },
        indistinguishable=decision.indistinguishable,
        evidence={
            "statistic": STATISTIC,
            "resampled": decision.resampled,
            "intervals_of": decision.intervals_of,
            "rule": config.search.rule,
            "confidence": config.search.confidence,
            "resamples": config.search.resamples,
            "folds": decision.n_folds,
            "fold_method": study.folds.method,
            "strengths_looked_at": decision.looked_at,
            "cells_of_plan": searched.cells,
            "best": settings[decision.best].strength,
            "best_difference": difference,
        },
        sentence=sentence_of(decision, study.dataset.classes),
        paste="",
        task=study.dataset.task,
    )

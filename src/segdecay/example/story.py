"""The worked example from its data to its page: three parts, each said in two or three lines before it runs.

Knows the main path and what the parts left on disk; the same call on the same folder goes on.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from segdecay.config import RunConfig
from segdecay.data import Dataset, load_dataset
from segdecay.data.sources.cifar10 import find_cifar
from segdecay.deploy.bundle import load_bundle
from segdecay.errors import DataError, RunError
from segdecay.example.article import article_lines, run_article
from segdecay.example.comparing import CONFIDENCE, accuracy_of, class_results, difference_of
from segdecay.example.download import SOURCE
from segdecay.example.recipe import (
    BATCH,
    LAMBDA,
    LEARNING_RATE,
    MECHANISM,
    PAD_PX,
    recipe_config,
    search_config,
    total_decay_if_decoupled,
)
from segdecay.execution import Execution
from segdecay.records import CellRecord, read_json, write_json
from segdecay.report import build_report
from segdecay.runs import open_run
from segdecay.steps import Watcher, say_all
from segdecay.training.metrics import I64, read_confusions, write_confusions
from segdecay.training.scoring import score_images
from segdecay.training.setup import count_steps
from segdecay.workflow import Tuned, train, tune

VERB = "example"


@dataclass(frozen=True)
class Asked:
    """What is asked for. data: the folder of CIFAR-10."""

    data: Path
    epochs: int
    seed: int
    folds: int | None = None


@dataclass(frozen=True)
class Told:
    """What `tell_example` returns; `facts` is the content of example.json."""

    folder: Path
    facts: dict[str, Any]
    searched: Tuned
    report: Path


def tell_example(asked: Asked, out: Path, execution: Execution, watcher: Watcher) -> Told:
    """Run what is left of the three parts, compare, and write the page.

    Raises:
        SegdecayError: anything a user can act on; finished parts are kept.
    """
    if find_cifar(asked.data) is None:
        raise DataError(_no_cifar(asked.data))
    recipe = recipe_config(asked.data, epochs=asked.epochs, seed=asked.seed)
    dataset, _ = load_dataset(recipe.data, cache=execution.cache, cache_limit=execution.cache_limit)
    if not dataset.part("test"):
        raise DataError(f"{asked.data} has no test_batch: both recipes are compared on it. Add the file.")
    with open_run(out, recipe, VERB):
        say_all(_opening(dataset, asked), watcher)
        right, record = _tell_recipe(recipe, dataset, out / "recipe", execution, watcher)
        clean, augmented, article = _tell_article(recipe, dataset, out / "article", watcher)
        say_all(_third(), watcher)
        config = search_config(asked.data, epochs=asked.epochs, seed=asked.seed, folds=asked.folds)
        searched = tune(config, out / "search", execution, watcher)
        facts = {
            "kind": VERB,
            "name": "cifar10",
            "command": execution.command,
            "asked": {"epochs": asked.epochs, "seed": asked.seed, "batch_size": BATCH, "learning_rate": LEARNING_RATE},
            "data": _data_facts(dataset, asked),
            "confidence": CONFIDENCE,
            "recipe": _recipe_facts(recipe, dataset, record, right),
            "article": article | _article_facts(dataset, clean, augmented),
            "difference": asdict(difference_of(right, clean)),
            "classes": [
                {"name": name, **asdict(difference_of(right, clean, index))}
                for index, name in enumerate(dataset.classes)
                if right[:, index].any()
            ],
            "search": _search_facts(searched),
        }
        write_json(out / "example.json", facts)
        return Told(out, facts, searched, build_report(out))


def _no_cifar(folder: Path) -> str:
    return (
        f"{folder} holds no CIFAR-10. It is handed out at {SOURCE}; unpack the binary version and give the folder by "
        "--data, or fetch it with --download."
    )


def _opening(dataset: Dataset, asked: Asked) -> list[str]:
    train_images, test_images, classes = len(dataset.part("train")), len(dataset.part("test")), len(dataset.classes)
    return [
        f"CIFAR-10: {train_images} training and {test_images} test images of 32x32 pixels, {classes} classes.",
        f"A small network: convolutions of 16 and 32 channels, linear layers of 128 and {classes}.",
        f"{asked.epochs} epochs, batches of {BATCH}, Adam {LEARNING_RATE:g}.",
    ]


def _tell_recipe(
    config: RunConfig, dataset: Dataset, folder: Path, execution: Execution, watcher: Watcher
) -> tuple[I64, CellRecord]:
    """Part 1: the matrices of the test images, and the record of the training."""
    steps = count_steps(config, len(dataset.part("train")))
    say_all(
        [
            "",
            f"1. The recipe done right: λ = {LAMBDA:g} as {MECHANISM}; biases are spared.",
            f"   Flips and crops from a border of {PAD_PX} pixels change training images only; test images stay clean.",
            f"   In AdamW the same number would be D = Σηλ = {total_decay_if_decoupled(steps):.2g} over {steps} steps:",
            "   no decay. Through Adam's gradient it acts, and D predicts nothing.",
        ],
        watcher,
    )
    trained = train(config, folder, execution, watcher)
    bundle = load_bundle(trained.run)
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1) for values in (bundle.mean, bundle.deviation))
    scored = score_images(
        bundle.model,
        dataset,
        dataset.part("test"),
        mean=mean,
        deviation=deviation,
        weight=None,
        batch_size=BATCH,
    )
    return scored.confusions, trained.record


def _tell_article(
    config: RunConfig, dataset: Dataset, folder: Path, watcher: Watcher
) -> tuple[I64, I64, dict[str, Any]]:
    """Part 2: matrices of clean and of augmented test images, and what is known beside them."""
    say_all(
        [
            "",
            f"2. The same network as articles write it: Adam(weight_decay={LAMBDA:g}), in the loss {LAMBDA:g} times",
            "   the norms (not squared) of all parameters, biases included; test images pass through the augmentation",
            "   of training. The audit reads this very code:",
        ],
        watcher,
    )
    card = folder / "article.json"
    if not card.exists():
        folder.mkdir(exist_ok=True)
        start = time.monotonic()
        found = run_article(config, dataset)
        write_confusions(folder / "clean.npz", found.clean)
        write_confusions(folder / "augmented.npz", found.augmented)
        written = {
            "lines": article_lines(),
            "audit": found.audit,
            "losses": found.losses,
            "train_accuracy": _share(found.train),
            "seconds": round(time.monotonic() - start, 2),
        }
        write_json(card, written)
    try:
        facts: dict[str, Any] = read_json(card)
        clean, augmented = read_confusions(folder / "clean.npz"), read_confusions(folder / "augmented.npz")
        findings = facts["audit"]["findings"]
        say_all([f"   {one['level']}: {one['code']}: {one['message']}" for one in findings], watcher)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{card} is damaged: {error}. Remove {folder} and run the same command again.") from error
    facts.pop("schema_version", None)
    return clean, augmented, facts


def _third() -> list[str]:
    return [
        "",
        "3. λ by cross-validation: the first recipe, its λ left open. Every λ trains on the same folds, the test part",
        "   is not looked at before the verdict, and every λ is compared with no decay first of all.",
    ]


def _share(matrices: I64) -> float:
    return float(matrices.diagonal(axis1=1, axis2=2).sum() / max(1, matrices.sum()))


def _data_facts(dataset: Dataset, asked: Asked) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "path": str(asked.data),
        "fingerprint": dataset.fingerprint,
        "train": len(dataset.part("train")),
        "test": len(dataset.part("test")),
        "classes": dataset.classes,
        "palette": dataset.palette,
    }


def _recipe_facts(config: RunConfig, dataset: Dataset, record: CellRecord, right: I64) -> dict[str, Any]:
    steps = count_steps(config, len(dataset.part("train")))
    train_scores = record.train
    recall = () if train_scores is None else zip(train_scores.recall, train_scores.support, strict=True)
    known = [(value, count) for value, count in recall if count]
    return {
        "mechanism": MECHANISM,
        "lambda": LAMBDA,
        "steps": steps,
        "total_decay_if_decoupled": total_decay_if_decoupled(steps),
        "accuracy": asdict(accuracy_of(right)),
        "train_accuracy": sum(v * n for v, n in known) / sum(n for _, n in known) if known else None,
        "classes": [asdict(row) for row in class_results(right, dataset.classes)],
        "seconds": round(record.seconds, 2),
    }


def _article_facts(dataset: Dataset, clean: I64, augmented: I64) -> dict[str, Any]:
    return {
        "accuracy": asdict(accuracy_of(clean)),
        "reported": asdict(accuracy_of(augmented)),
        "reported_minus_clean": asdict(difference_of(augmented, clean)),
        "classes": [asdict(row) for row in class_results(clean, dataset.classes)],
    }


def _search_facts(searched: Tuned) -> dict[str, Any]:
    verdict = searched.verdict
    return {
        "run": searched.run.name,
        "kind": verdict.kind,
        "sentence": verdict.sentence,
        "strength": verdict.strength,
        "criterion": verdict.criterion,
        "test": verdict.test,
        "cost": verdict.cost,
    }

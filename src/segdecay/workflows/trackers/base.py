"""What a tracker is told of a run, read from its folder: names, parameters, scores, curves, result, pages."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segdecay.runs.comparison import Comparison
from segdecay.runs.read import read_record, read_values
from segdecay.runs.records import Scores, TrialRecord, trial_from_json
from segdecay.runs.verdict import Verdict
from segdecay.search.sentences import verdict_title
from segdecay.utils.files import read_json
from segdecay.utils.yaml import read_yaml

Row = dict[str, float]
PLACES = ("trials/*/*", "points/*/*", "nested/*/*/*/*", "holdout/*/*/*", "refit/*")
OF_EPOCHS = ("epoch", "stage", "diagnostics", "validation_iou", "seconds")  # not curves, or written in another form
MEANS = {"miou": "mIoU", "worst": "worst class", "weighted": "weighted IoU", "boundary_miou": "boundary mIoU"}


@dataclass(frozen=True)
class TrackedRun:
    """A run: its folder and name, the command that made it, and every key of run.yaml as text."""

    folder: Path
    name: str
    command: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class TrackedTrial:
    """A training that ended.

    Attributes:
        key: its folder inside the run, as in "trials/total_decay=4/0-0".
        name: in words, as in "total_decay=4 fold 1".
        status, reason: how it ended.
        parameters: setting, strength, fold and seed.
        scores: of validation and training images; only known numbers.
        curve: by epoch, from 1.
    """

    key: str
    name: str
    status: str
    reason: str
    parameters: Mapping[str, str | float]
    scores: Row
    curve: Mapping[int, Row]


@dataclass(frozen=True)
class TrackedResult:
    """The result of a run: title, sentences in Markdown, numbers, and the files to keep with it."""

    title: str
    text: str
    numbers: Row
    files: tuple[Path, ...]


class Tracker(Protocol):
    """Where a run is logged. All methods are called in one thread, in this order."""

    def begin(self, run: TrackedRun, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Start logging. kept: what the last call returned, when the run was logged before; empty at first."""

    def trial(self, trial: TrackedTrial, *, again: bool) -> None:
        """Log a training that ended. again: it was logged before and trained anew since."""

    def end(self, result: TrackedResult | None) -> None:
        """Log the result; None: the run was interrupted."""


def finished_folders(run: Path) -> list[Path]:
    """The folders of trainings that ended, the oldest first."""
    found = [path for place in PLACES for path in run.glob(f"{place}/trial.json")]
    return [path.parent for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, str(path)))]


def read_tracked_run(run: Path) -> TrackedRun:
    """What identifies a run that has begun.

    Raises:
        RunError, ConfigError: run.yaml or environment.json is missing or damaged.
    """
    values = read_yaml(run / "run.yaml")
    environment = run / "environment.json"
    command = str(read_values(environment).get("command", "")) if environment.is_file() else ""
    return TrackedRun(run, run.resolve().name, command, {key: _text(value) for key, value in _leaves(values)})


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_trial(run: Path, folder: Path) -> TrackedTrial:
    """A training that ended, from its folder.

    Raises:
        RunError, ValueError, KeyError: one of its files is damaged.
    """
    record = trial_from_json(read_json(folder / "trial.json"))
    classes = tuple(read_values(run / "data.json")["classes"])
    scores = {f"{part}/{name}": value for part, found in parts_of(record) for name, value in numbers_of(found, classes)}
    strength = record.strength
    known = {"D": strength.total_decay, "lambda": strength.lambda_, "tau_epochs": strength.timescale_epochs}
    return TrackedTrial(
        key=folder.relative_to(run).as_posix(),
        name=_name(record, folder.relative_to(run)),
        status=record.status,
        reason=record.reason or "",
        parameters={
            "setting": record.setting,
            **({} if strength.axis in ("total_decay", "lambda") else {strength.axis: strength.value}),
            **{name: value for name, value in known.items() if value is not None},
            "fold": record.fold + 1,
            "seed": record.seed,
        },
        scores={**scores, "seconds": record.seconds},
        curve=dict(_curve(folder / "curve.jsonl", classes)),
    )


def parts_of(record: TrialRecord) -> list[tuple[str, Scores]]:
    """The scores that a training has, by part."""
    parts = (("validation", record.validation), ("train", record.train))
    return [(name, scores) for name, scores in parts if scores is not None]


def numbers_of(scores: Scores, classes: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Known numbers by name: means over classes, the loss, and the score of every class."""
    for key, label in MEANS.items():
        value = getattr(scores, key)
        if math.isfinite(value):
            yield label, value
    if math.isfinite(scores.balanced_accuracy):
        yield "balanced accuracy", scores.balanced_accuracy
    if math.isfinite(scores.loss):
        yield "loss", scores.loss
    for name, value in zip(classes, scores.iou, strict=False):
        if math.isfinite(value):
            yield f"IoU/{name}", value


def _name(record: TrialRecord, place: Path) -> str:
    if place.parts[0] == "refit":
        return f"refit {place.name}, {record.setting}"
    above = {"nested": "/".join(place.parts[:2]) + "/", "holdout": "holdout/"}.get(place.parts[0], "")
    seed = f" seed {record.seed}" if record.seed else ""
    return f"{above}{place.parent.name} fold {record.fold + 1}{seed}"


def _curve(path: Path, classes: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        row = {f"curve/{key}": value for key, value in values.items() if key not in OF_EPOCHS and is_number(value)}
        by_class = zip(classes, values.get("validation_iou") or (), strict=False)
        row |= {f"curve/validation_IoU/{name}": value for name, value in by_class if is_number(value)}
        yield int(values["epoch"]), row | dict(_diagnostics(values.get("diagnostics") or {}))


def is_number(value: Any) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _diagnostics(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers of parameter groups and of the head; those of single layers stay in the report."""
    for part, name, keys in (("groups", "group", ("norm", "ratio", "zeros")), ("head", "name", ("spearman",))):
        for one in values.get(part) or ():
            for key in keys:
                if is_number(one.get(key)):
                    yield f"diagnostics/{one[name]}/{key}", float(one[key])
    if is_number(values.get("penalty_share")):
        yield "diagnostics/penalty_share", float(values["penalty_share"])


def read_result(run: Path) -> TrackedResult | None:
    """The result of a finished run; None while it has none.

    Raises:
        RunError: one of its files is damaged.
    """
    files = tuple(path for name in ("verdict.json", "comparison.json", "report.html") if (path := run / name).is_file())
    if (run / "verdict.json").is_file():
        found = read_record(run / "verdict.json", Verdict)
        return TrackedResult(_title(found), _of_verdict(found), _numbers_of_verdict(found), files)
    if (run / "comparison.json").is_file():
        arms = read_record(run / "comparison.json", Comparison)
        means = {f"arm/{arm.name}": arm.mean for arm in arms.arms if is_number(arm.mean)}
        return TrackedResult("Comparison", arms.sentence, means, files)
    if (run / "refit" / "chosen" / "trial.json").is_file() and (run / "report.html").is_file():
        trained = read_trial(run, run / "refit" / "chosen")
        return TrackedResult(
            "Training", f"{trained.parameters['setting']}: {trained.status}.", dict(trained.scores), files
        )
    return None


def _title(verdict: Verdict) -> str:
    none = verdict.none.strength.value if verdict.none is not None else None
    return verdict_title(verdict.kind, verdict.strength.axis, none)


def _of_verdict(verdict: Verdict) -> str:
    """The verdict in Markdown: sentence, cautions, and a table of strengths."""
    lines = [f"**{_title(verdict)}.** {verdict.sentence}", ""]
    lines += [f"- caution ({one.figure}): {one.sentence}" for one in verdict.cautions]
    lines += ["", f"| strength | {verdict.criterion_name} | difference from no decay | folds |", "|---|---|---|---|"]
    for item in verdict.settings:
        difference = None if item.difference is None else item.difference.mean
        folds = sum(one is not None for one in item.folds)
        lines.append(f"| {item.strength.value:g} | {_shown(item.mean)} | {_shown(difference, '+')} | {folds} |")
    return "\n".join(lines)


def _shown(value: float | None, sign: str = "") -> str:
    return "n/a" if value is None else format(value, f"{sign}.3f")


def _numbers_of_verdict(verdict: Verdict) -> Row:
    strength, test = verdict.strength, verdict.test
    found = {
        "result/score": verdict.selection.mean,
        "result/score_without_decay": verdict.zero.mean,
        "result/score_bias_corrected": (verdict.honest or {}).get("mean"),
        "result/test_score": None if test is None else test.chosen.score,
        "result/test_score_without_decay": None if test is None else test.zero.score,
        f"result/{strength.axis}": strength.value,
        "result/lambda": strength.lambda_,
        "result/trials": verdict.cost.trials,
        "result/seconds": verdict.cost.seconds,
    }
    return {name: float(value) for name, value in found.items() if value is not None and is_number(value)}

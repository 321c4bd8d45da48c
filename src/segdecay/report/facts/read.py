"""Reads the folder of a run into `segdecay.report.facts.run.Run`.

A missing or damaged file is a RunError that names it and lists every fault in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.config.schema import DecayConfig
from segdecay.data.records import DataRecord, FoldsRecord
from segdecay.errors import ConfigError, RunError, gather
from segdecay.report.facts.run import CurveRow, Extras, Run, Training, of_verdict, read_kept
from segdecay.runs.example import Example
from segdecay.runs.examples import Examples
from segdecay.runs.facts import Environment, PartitionRecord
from segdecay.runs.joint import JointSearch
from segdecay.runs.read import check_record, parse_values, read_record, read_text, read_values
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.runs.verdict import Verdict
from segdecay.training.dead_classes import Death
from segdecay.utils.yaml import read_yaml


def read_run(folder: Path) -> Run:
    """The facts of a finished run of `tune` or `train`.

    Raises:
        RunError: the folder is not a run, is not finished, or a file in it is missing or damaged.
    """
    if not (folder / "run.yaml").is_file():
        raise RunError(f"{folder} is not the folder of a run: it holds no run.yaml. Give the folder named after --out.")
    environment = read_record(folder / "environment.json", Environment)
    trials = tuple(_trial(path) for path in _paths(folder / "trials"))
    if (folder / "verdict.json").exists():
        return _search(folder, environment, trials)
    asked = _asked(folder)
    if asked.get("command") != "train":
        raise RunError(_unfinished(folder, environment, trials, asked))
    return _training(folder, environment, trials, asked)


def read_verdict(folder: Path) -> Verdict:
    """The verdict of a run, alone; what `score_svg` draws.

    Raises:
        RunError: verdict.json is missing or damaged.
    """
    return read_record(folder / "verdict.json", Verdict)


@dataclass(frozen=True)
class Alarm:
    """What `extra` of a trial says of classes that died."""

    died: tuple[Death, ...] = ()


def _paths(trials: Path) -> list[Path]:
    return sorted(trials.glob("*/*/trial.json"))


def _trial(path: Path) -> TrialRecord:
    values = read_values(path)
    try:
        record = trial_from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__} {error}.") from error
    check_record(record.extra, Alarm, f"{path}, extra")
    return check_record(record.__dict__ | {"strength": record.strength.__dict__}, TrialRecord, str(path))


def _curve(path: Path) -> tuple[CurveRow, ...]:
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    return tuple(
        check_record(parse_values(line, f"{path}, line {row}"), CurveRow, f"{path}, line {row}")
        for row, line in enumerate(lines, start=1)
    )


def _search(folder: Path, environment: Environment, trials: tuple[TrialRecord, ...]) -> Run:
    verdict = read_verdict(folder)
    data = read_record(folder / "data.json", DataRecord)
    _same_classes(folder, data, verdict)
    none = verdict.none.strength.value if verdict.none else None
    compared = verdict.compared.strength.value if verdict.compared else None
    kept = read_kept([(path.parent, _trial(path)) for path in _paths(folder / "trials")], len(data.classes))
    return Run(
        folder=folder,
        data=data,
        partition=read_record(folder / "partition.json", PartitionRecord),
        environment=environment,
        regularizer=verdict.regularizer,
        verdict=verdict,
        folds=read_record(folder / "folds.json", FoldsRecord),
        zero=_trainings(folder, lambda trial: trial.strength.value == none),
        compared=_trainings(folder, lambda trial: trial.strength.value == compared),
        trials=trials,
        examples=read_record(folder / "examples" / "examples.json", Examples),
        kept=of_verdict(kept, verdict),
        optimizer=_optimizer(_asked(folder)),
        joint=read_record(search, JointSearch) if (search := folder / "search.json").exists() else None,
        example=read_record(told, Example) if (told := folder / "example.json").exists() else None,
    )


def _same_classes(folder: Path, data: DataRecord, verdict: Verdict) -> None:
    """Rows of different files are set side by side; refuse when they do not belong together."""
    size = len(data.classes)
    lengths = {"data.json: palette": len(data.palette), "verdict.json: classes": len(verdict.classes)}
    for setting in verdict.settings:
        if setting.classes:
            lengths[f"verdict.json: classes of setting {setting.strength.value:g}"] = len(setting.classes)
    faults = [f"{name} has {length} entries" for name, length in lengths.items() if length != size]
    gather(RunError, faults, f"{folder} is damaged: data.json names {size} classes, but")


def _trainings(folder: Path, wanted: Callable[[TrialRecord], bool]) -> tuple[Training, ...]:
    """The wanted trials with their curves."""
    found = []
    for path in _paths(folder / "trials"):
        record = _trial(path)
        if wanted(record):
            label = f"fold {record.fold + 1}, seed {record.seed}"
            found.append(_with_curve(label, record, path))
    return tuple(found)


def _with_curve(label: str, record: TrialRecord, path: Path) -> Training:
    curve = _curve(path.with_name("curve.jsonl"))
    return Training(label, record, curve, check_record(record.extra, Extras, f"{path}, extra"))


def _asked(folder: Path) -> dict[str, Any]:
    """What run.yaml holds: the configuration and, under "command", which command made the run."""
    try:
        return read_yaml(folder / "run.yaml")
    except ConfigError as error:
        raise RunError(str(error)) from error


def _section(asked: dict[str, Any], name: str) -> dict[str, Any]:
    section = asked.get(name)
    return section if isinstance(section, dict) else {}


def _optimizer(asked: dict[str, Any]) -> str:
    name = _section(asked, "optimizer").get("name")
    return name if isinstance(name, str) and not _section(asked, "user").get("function") else ""


def _unfinished(folder: Path, environment: Environment, trials: tuple[TrialRecord, ...], asked: dict[str, Any]) -> str:
    search = _section(asked, "search")
    grid, seeds, folds = search.get("grid"), search.get("seeds", [0]), search.get("folds")
    planned = ""
    if isinstance(grid, list) and isinstance(seeds, list) and isinstance(folds, int):
        planned = f" of {len(grid) * len(seeds) * folds}"
    done = f"{len(trials)}{planned} trial{'' if len(trials) == 1 and not planned else 's'} done"
    return f"{folder} has no verdict yet ({done}). To go on where it stopped, run: {environment.command}"


def _training(folder: Path, environment: Environment, trials: tuple[TrialRecord, ...], asked: dict[str, Any]) -> Run:
    """A run of `train`: its training lies where a search keeps the refit."""
    path = folder / "refit" / "chosen" / "trial.json"
    if not path.is_file():
        message = f"{folder} holds no finished training. To go on where it stopped, run: {environment.command}"
        raise RunError(message)
    data, record = read_record(folder / "data.json", DataRecord), _trial(path)
    return Run(
        folder=folder,
        data=data,
        partition=read_record(folder / "partition.json", PartitionRecord),
        environment=environment,
        regularizer=str(_section(asked, "decay").get("regularizer", DecayConfig.model_fields["regularizer"].default)),
        verdict=None,
        folds=None,
        zero=(),
        compared=(_with_curve("training", record, path),),
        trials=trials,
        kept=read_kept([(path.parent, record)], len(data.classes)),
    )

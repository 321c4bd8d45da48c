"""The state of a run from its folder, as plain values for the page: trials, race, curves, time left, result.

Only files are read, none is locked, so the folder may lie on a mounted disk. A file that is just being written, or is
damaged, is named and left out until it can be read.
"""

from __future__ import annotations

import json
import math
import statistics
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segdecay.config.schema import RunConfig, parse_config
from segdecay.errors import RunError, SegdecayError
from segdecay.metrics.criteria import Criterion, build_criterion
from segdecay.runs.comparison import Comparison
from segdecay.runs.facts import Environment
from segdecay.runs.folder import LEASE
from segdecay.runs.lock import WATCH_S, may_live, read_holder
from segdecay.runs.race import RaceRecord
from segdecay.runs.read import read_record, read_values
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.runs.verdict import Verdict
from segdecay.search.sentences import verdict_title
from segdecay.utils.files import read_json
from segdecay.utils.yaml import read_yaml

PLACES = ("trials/*/*", "points/*/*", "refit/*")
CHECKPOINT = Path("checkpoint", "state.safetensors")
MOST_HEADER = 64 * 2**20  # bytes of a checkpoint's header, which holds the curve so far


@dataclass(frozen=True)
class Row:
    """One training, finished or running."""

    setting: str
    fold: int  # from 1; 0 for a final training
    seed: int
    place: str  # its folder inside the run
    status: str  # "finished", "diverged", "failed", "running" or "stopped"
    reason: str = ""
    score: float | None = None
    train: float | None = None
    strength: float | None = None
    lambda_: float | None = None
    seconds: float = 0.0
    epoch: int = 0
    curve: tuple[tuple[int, float | None, float | None], ...] = ()  # epoch, loss, validation score


@dataclass
class Pulse:
    """Whether a process works on a run: the counter in its lease changes, or its process lives on this machine."""

    run: Path
    clock: Callable[[], float] = time.monotonic
    _last: tuple[str, int] | None = None
    _changed: float = 0.0

    def is_alive(self) -> bool:
        """Look at the lease once more."""
        holder = read_holder(self.run / LEASE)
        if holder is None or not may_live(holder):
            return False
        if (holder.token, holder.count) != self._last:
            self._last, self._changed = (holder.token, holder.count), self.clock()
        return self.clock() - self._changed < WATCH_S


@dataclass
class RunReader:
    """Reads the state of one run again and again; finished trials are read once."""

    run: Path
    pulse: Pulse = field(init=False)
    _kept: dict[Path, tuple[tuple[int, int], Row]] = field(default_factory=dict)
    _faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.run.is_dir():
            raise RunError(f"{self.run} is no folder. Give the folder of a run, named after --out.")
        if not (self.run / "run.yaml").is_file():
            raise RunError(
                f"{self.run} is not the folder of a run: it holds no run.yaml. A search writes it when its data are "
                "read; start `segdecay watch` then."
            )
        self.pulse = Pulse(self.run)

    def state(self) -> dict[str, Any]:
        """All that the page shows.

        Raises:
            RunError: run.yaml cannot be read.
        """
        self._faults = []
        card = read_yaml(self.run / "run.yaml")
        verb = str(card.pop("command", ""))
        card.pop("compare", None)
        config = self._tried(lambda: parse_config(card))
        is_alive = self.pulse.is_alive()
        rows = self._rows(config, is_alive)
        environment = self._record("environment.json", Environment)
        race = self._record("race.json", RaceRecord)
        result = self._result(verb)
        counted = [row for row in rows if row.fold > 0 and row.status != "running"]
        running = [row for row in rows if row.status == "running"]
        most = race.most if race is not None else environment.trials if environment is not None else 0
        epochs = 0 if config is None else config.training.epochs + config.balancing.epochs
        return {
            "name": self.run.resolve().name,
            "command": verb,
            "typed": "" if environment is None else environment.command,
            "status": _status(is_alive, result),
            "started": "" if environment is None else environment.started,
            "criterion": self._criterion_name(config),
            "epochs": epochs,
            "finished": len(counted),
            "least": 0 if race is None else race.least,
            "most": most,
            "left_s": _left(counted, running, most, epochs, environment) if is_alive and result is None else None,
            "settings": settings_of(counted, race, {row.setting for row in running if row.fold > 0}),
            "race": None if race is None else _race_sentence(race, result),
            "rows": [_plain(row) for row in rows],
            "result": result,
            "has_report": (self.run / "report.html").is_file(),
            "faults": self._faults,
        }

    def _rows(self, config: RunConfig | None, is_alive: bool) -> list[Row]:
        """The trainings, the latest first; running ones before all."""
        folders = [folder for place in PLACES for folder in self.run.glob(place) if folder.is_dir()]
        criterion = self._tried(lambda: self._criterion(config))
        found: list[tuple[bool, int, Row]] = []
        for folder in sorted(set(folders)):
            path = folder / "trial.json"
            try:
                stamp = path.stat()
            except OSError:
                row = self._running(folder, is_alive)
                found.append((row.status == "running", 0, row))
                continue
            kept = self._kept.get(path)
            if kept is None or kept[0] != (stamp.st_mtime_ns, stamp.st_size):
                made = self._tried(lambda path=path: self._finished(path, criterion))  # type: ignore[misc]
                if made is None:
                    continue
                kept = self._kept[path] = ((stamp.st_mtime_ns, stamp.st_size), made)
            found.append((False, stamp.st_mtime_ns, kept[1]))
        return [row for _, _, row in sorted(found, key=lambda one: (not one[0], -one[1], one[2].place))]

    def _finished(self, path: Path, criterion: Criterion | None) -> Row:
        record = trial_from_json(read_json(path))
        curve = path.with_name("curve.jsonl")
        lines = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()] if curve.is_file() else []
        return Row(
            setting=path.parent.parent.name if record.fold >= 0 else record.setting,
            fold=record.fold + 1,
            seed=record.seed,
            place=path.parent.relative_to(self.run).as_posix(),
            status=record.status,
            reason=record.reason or "",
            score=_score(record, "validation", criterion),
            train=_score(record, "train", criterion),
            strength=record.strength.value if math.isfinite(record.strength.value) else None,
            lambda_=record.strength.lambda_,
            seconds=record.seconds,
            epoch=record.epochs,
            curve=_curve(lines),
        )

    def _running(self, folder: Path, is_alive: bool) -> Row:
        """A training that has not ended: its checkpoint tells how far it is."""
        progress = read_progress(folder / CHECKPOINT)
        lines = progress.get("curve") or []
        is_refit = folder.parent.name == "refit"
        fold, _, seed = folder.name.partition("-")
        return Row(
            setting=str(progress.get("setting") or folder.name) if is_refit else folder.parent.name,
            fold=0 if is_refit or not fold.isdigit() else int(fold) + 1,
            seed=int(seed) if seed.isdigit() else 0,
            place=folder.relative_to(self.run).as_posix(),
            status="running" if is_alive and not (folder / "failed.txt").is_file() else "stopped",
            seconds=float(progress.get("seconds") or 0.0),
            epoch=int(progress.get("epoch") or 0),
            curve=_curve(lines),
        )

    def _criterion(self, config: RunConfig | None) -> Criterion | None:
        path = self.run / "data.json"
        if config is None or not path.is_file():
            return None
        data = read_values(path)
        return build_criterion(
            config.search, tuple(data["classes"]), data["task"], tuple(data.get("exclude_from_mean", ()))
        )

    def _criterion_name(self, config: RunConfig | None) -> str:
        found = self._tried(lambda: self._criterion(config))
        return "score" if found is None else found.name

    def _result(self, verb: str) -> dict[str, str] | None:
        if (self.run / "verdict.json").is_file():
            verdict = self._record("verdict.json", Verdict)
            if verdict is None:
                return None
            none = verdict.none.strength.value if verdict.none is not None else None
            return {
                "title": verdict_title(verdict.kind, verdict.strength.axis, none),
                "sentence": verdict.sentence,
                "kind": verdict.kind,
            }
        if (self.run / "comparison.json").is_file():
            comparison = self._record("comparison.json", Comparison)
            return None if comparison is None else {"title": "Compared", "sentence": comparison.sentence, "kind": ""}
        if verb == "train" and (self.run / "report.html").is_file():
            return {"title": "Trained", "sentence": "", "kind": ""}
        return None

    def _record(self, name: str, kind: type[Any]) -> Any:
        path = self.run / name
        return self._tried(lambda: read_record(path, kind)) if path.is_file() else None

    def _tried(self, read: Callable[[], Any]) -> Any:
        """What a reader returns; None, and its fault for the page, where a file cannot be read now."""
        try:
            return read()
        except (SegdecayError, OSError, ValueError, KeyError, TypeError) as error:
            said = f"{type(error).__name__}: {error}" if not isinstance(error, SegdecayError) else str(error)
            if said not in self._faults:
                self._faults.append(said.splitlines()[0])
            return None


def read_progress(path: Path) -> dict[str, Any]:
    """The progress in the header of a checkpoint, without its tensors; empty where it cannot be read now."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MOST_HEADER:
                return {}
            header = json.loads(file.read(length))
        found: dict[str, Any] = json.loads(header["__metadata__"]["progress"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return {}
    return found


def _curve(lines: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, float | None, float | None], ...]:
    def known(value: Any) -> float | None:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def score(line: Mapping[str, Any]) -> float | None:
        return known(line.get("validation_balanced_accuracy", line.get("validation_miou")))

    return tuple((int(line["epoch"]), known(line.get("loss")), score(line)) for line in lines)


def _score(record: TrialRecord, part: str, criterion: Criterion | None) -> float | None:
    scores = record.validation if part == "validation" else record.train
    if scores is None:
        return None
    value = scores.miou if criterion is None else criterion.of_record(scores)
    return value if math.isfinite(value) else None


def _plain(row: Row) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in asdict(row).items()}


def _status(is_alive: bool, result: Mapping[str, str] | None) -> str:
    if is_alive:
        return "running" if result is None else "finishing"
    return "stopped" if result is None else "finished"


def settings_of(rows: Sequence[Row], race: RaceRecord | None, running: Collection[str] = ()) -> list[dict[str, Any]]:
    """Every setting with the scores of its folds, its mean, and where it stands in the race.

    >>> row = Row("total_decay=4", 1, 0, "trials/total_decay=4/0-0", "finished", score=0.5)
    >>> settings_of([row], None)[0]["mean"], settings_of([], None, ["total_decay=4"])[0]["standing"]
    (0.5, 'running')
    """
    names = list(race.settings) if race is not None else []
    names += [row.setting for row in sorted(rows, key=lambda row: _order(row.strength)) if row.setting not in names]
    names += sorted(set(running) - set(names))
    found = []
    for name in dict.fromkeys(names):
        own = [row for row in rows if row.setting == name]
        scores = [row.score for row in own if row.score is not None]
        found.append(
            {
                "name": name,
                "lambda": own[0].lambda_ if own else None,
                "folds": [[row.fold, row.score] for row in sorted(own, key=lambda row: row.fold)],
                "mean": statistics.fmean(scores) if scores else None,
                "standing": _standing(name, own, race, is_running=name in running),
            }
        )
    return found


def _order(strength: float | None) -> float:
    return -1.0 if strength is None else strength


def _standing(name: str, own: Sequence[Row], race: RaceRecord | None, *, is_running: bool) -> str:
    lost = next((row for row in own if row.status in ("diverged", "failed")), None)
    if lost is not None:
        return f"{lost.status}: {lost.reason}"
    if race is None or not own:
        return "running" if is_running and not own else "" if race is None else "not tried"
    if name in race.dropped:
        return race.dropped[name].removeprefix("race: ")
    if name == race.leader:
        return "leads"
    return "in the race" if name in race.finalists else "its folds are not complete"


def _race_sentence(race: RaceRecord, result: Mapping[str, str] | None) -> str:
    done = f"{race.trials} of {race.least} to {race.most} trials of the race are finished"
    if result is not None:
        return f"The race is over after {race.trials} trials."
    leads = "" if race.leader is None else f" {race.leader} leads"
    others = max(0, len(race.finalists) - 1)
    return f"{done};{leads or ' no setting leads yet'}, {others} other{'' if others == 1 else 's'} still in."


def _left(
    done: Sequence[Row], running: Sequence[Row], most: int, epochs: int, environment: Environment | None
) -> float | None:
    """Seconds until the last trial at most, from the median of the finished ones; None before the first."""
    took = [row.seconds for row in done if row.seconds > 0]
    if not took or not most:
        return None
    one = statistics.median(took)
    started = sum(min(1.0, row.epoch / epochs) for row in running if row.fold > 0) if epochs else 0.0
    workers = max(1, environment.workers if environment is not None else 1)
    return max(0.0, (most - len(done) - started) * one / min(workers, max(1, most - len(done))))

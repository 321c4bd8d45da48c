"""Logs a run to a tracker while it goes on: a thread of its own reads the finished records, so a slow or dead tracker
holds nothing up.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segdecay.utils.files import read_json, write_json
from segdecay.workflows.callbacks import CallbackWatcher
from segdecay.workflows.request import Trackers
from segdecay.workflows.steps import Watcher
from segdecay.workflows.trackers.base import Tracker, finished_folders, read_result, read_tracked_run, read_trial
from segdecay.workflows.trackers.mlflow import MLflow
from segdecay.workflows.trackers.tensorboard import TensorBoard

CLASSES: dict[str, Callable[[str | None], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
STATE = "tracked"  # folder of a run: which trials each tracker has
SILENT_S = 20.0  # without an answer at the end of a run; the rest is logged by the next call
STOPPED_S = 3.0  # the same where the run was interrupted


class Tracking:
    """A callback that has finished trainings logged to one tracker, in a thread of its own.

    The first failure of the tracker is told by one warning, and nothing more is logged in this call.
    """

    def __init__(self, name: str, place: str | None, run: Path, warn: Callable[[str], None]) -> None:
        self._name, self._place, self._run, self._warn = name, place, run, warn
        self._events: queue.SimpleQueue[Path | bool] = queue.SimpleQueue()  # a bool ends: whether the run is finished
        self._failed = threading.Event()
        self._failure, self._is_told = "", False
        self._moved = time.monotonic()  # of the last answer of the tracker
        self._left = 0
        self._thread: threading.Thread | None = None

    def on_trial_start(self, _trial: Any) -> None:
        """Begin with the first training."""
        self._begin()
        self._tell()

    def on_trial_end(self, trial: Any, record: Any) -> None:
        """Have a training logged, unless it failed without a record."""
        if record is not None:
            self._begin()
            self._left += 1
            self._events.put(trial.folder)
        self._tell()

    def close(self, *, is_finished: bool) -> None:
        """Wait until all is logged, as long as the tracker answers."""
        if is_finished:
            self._begin()  # a run whose trainings were all finished before
        if self._thread is None:
            return
        self._events.put(is_finished)
        bound, self._moved = SILENT_S if is_finished else STOPPED_S, time.monotonic()
        while self._thread.is_alive() and time.monotonic() - self._moved < bound:
            self._thread.join(timeout=0.1)
        if self._thread.is_alive():
            self._fail(f"no answer for {bound:g} s")
        self._tell()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"segdecay-{self._name}", daemon=True)
            self._thread.start()

    def _tell(self) -> None:
        """Warn once, in the caller's thread."""
        if self._failed.is_set() and not self._is_told:
            self._is_told = True
            self._warn(
                f"tracker {self._name}: {self._failure}. The search goes on, and nothing more is logged there; the "
                "same call logs what is missing."
            )

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._failed.set()

    def _work(self) -> None:
        """The body of the thread."""
        try:
            self._log_all(CLASSES[self._name](self._place))
        except Exception as error:  # noqa: BLE001 - whatever a foreign client raises
            said = str(error).strip().splitlines()
            self._fail(f"{said[0].rstrip('.') if said else type(error).__name__}")

    def _log_all(self, tracker: Tracker) -> None:
        path = self._run / STATE / f"{self._name}.json"
        state = _state_of(path, self._place)
        begun = tracker.begin(read_tracked_run(self._run), state["begun"])
        if begun != state["begun"]:
            state = {"place": self._place, "begun": begun, "trials": {}}
        path.parent.mkdir(exist_ok=True)
        write_json(path, state)

        def log(folder: Path) -> None:
            key, mark = folder.relative_to(self._run).as_posix(), mark_of(folder)
            if state["trials"].get(key) != mark and not self._failed.is_set():
                tracker.trial(read_trial(self._run, folder), again=key in state["trials"])
                state["trials"][key] = mark
                write_json(path, state)
            self._moved = time.monotonic()

        for folder in finished_folders(self._run):
            log(folder)
        while isinstance(told := self._events.get(), Path):
            log(told)
        if told:  # trainings of which no event came, such as copies of a joint search
            for folder in finished_folders(self._run):
                log(folder)
        tracker.end(read_result(self._run) if told else None)


def _state_of(path: Path, place: str | None) -> dict[str, Any]:
    """What was logged to this place before; nothing where the file is missing or damaged."""
    fresh: dict[str, Any] = {"place": place, "begun": {}, "trials": {}}
    try:
        kept = read_json(path)
    except (OSError, ValueError):
        return fresh
    fits = kept.get("place") == place and all(isinstance(kept.get(key), dict) for key in ("begun", "trials"))
    return {key: kept[key] for key in fresh} if fits else fresh


def mark_of(folder: Path) -> str:
    """What tells the record of a training from that of another one in the same folder."""
    return hashlib.sha256((folder / "trial.json").read_bytes()).hexdigest()[:16]


@contextmanager
def followed(
    watcher: Watcher, run: Path, trackers: Trackers, warn: Callable[[str], None], callbacks: Sequence[Any] = ()
) -> Iterator[CallbackWatcher]:
    """A watcher that tells callbacks and trackers of a run while the block works on it, and passes everything on.

    At the end it waits until all is logged, or a tracker has failed.
    """
    found = [Tracking(name, place, run, warn) for name, place in trackers]
    try:
        yield CallbackWatcher(watcher, [*callbacks, *found] if isinstance(callbacks, (list, tuple)) else callbacks)
    except BaseException:
        for one in found:
            one.close(is_finished=False)
        raise
    for one in found:
        one.close(is_finished=True)

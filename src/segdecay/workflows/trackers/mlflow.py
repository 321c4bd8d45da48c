"""MLflow: one run for a search, one nested run for every trial, the verdict and the report as artefacts."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segdecay.errors import RunError, need
from segdecay.workflows.trackers.base import Row, TrackedResult, TrackedRun, TrackedTrial

EXPERIMENT = "segdecay"
BATCH = 1000  # metrics in one request, MLflow's limit; parameters 100
PARAMETERS, LONGEST = 100, 500  # in a request; characters of a value that every server takes
ANSWER_S = 5.0
NOT_TAKEN = re.compile(r"[^\w\-. /]", flags=re.ASCII)
STATES = {"finished": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


class MLflow:
    """Logs by MLflow's client, which neither starts nor ends a run that the user has open.

    place: the URI of a server, of a database, or a folder; None: MLflow's own, $MLFLOW_TRACKING_URI or its default.
    """

    def __init__(self, place: str | None) -> None:
        need("mlflow", extra="mlflow")
        refuse_silent(place or os.environ.get("MLFLOW_TRACKING_URI", ""))
        from mlflow import MlflowClient

        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is the command's
        self._client = MlflowClient(tracking_uri=_uri(place))
        self._parent = self._experiment = ""
        self._is_alone = False  # one training: its curve is that of the run

    def begin(self, run: TrackedRun, kept: Mapping[str, Any]) -> dict[str, Any]:
        """As `Tracker.begin`; goes on with the run that was begun before, where the server still has it."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        self._is_alone = run.parameters.get("command") == "train"
        self._parent = self._same_run(kept.get("run"))
        if self._parent:
            self._client.update_run(self._parent, status="RUNNING")
            self._forget("attributes.status = 'RUNNING'")  # in their middle this process was killed
        else:
            tags = {"segdecay.command": run.command, "segdecay.folder": str(run.folder.resolve())}
            self._parent = self._client.create_run(self._experiment, run_name=run.name, tags=tags).info.run_id
            self._log(self._parent, run.parameters, {})
        return {"run": self._parent}

    def _same_run(self, run_id: Any) -> str:
        from mlflow.exceptions import MlflowException

        if not run_id:
            return ""
        try:
            found = self._client.get_run(str(run_id))
        except MlflowException:
            return ""  # another server, or the run was removed there
        return str(run_id) if found.info.lifecycle_stage == "active" else ""

    def _forget(self, which: str) -> None:
        """Remove nested runs that are logged again."""
        text = f"tags.`mlflow.parentRunId` = '{self._parent}' and {which}"
        for one in self._client.search_runs([self._experiment], text, max_results=1000):
            self._client.delete_run(one.info.run_id)

    def trial(self, trial: TrackedTrial, *, again: bool) -> None:
        """As `Tracker.trial`."""
        if again and not self._is_alone:
            self._forget(f"tags.`segdecay.trial` = '{trial.key}'")
        tags = {"mlflow.parentRunId": self._parent, "segdecay.trial": trial.key, "segdecay.status": trial.status}
        if trial.reason:
            tags["mlflow.note.content"] = trial.reason
        if self._is_alone:
            run_id = self._parent
        else:
            run_id = self._client.create_run(self._experiment, run_name=trial.name, tags=tags).info.run_id
        last = max(trial.curve, default=0)
        self._log(run_id, trial.parameters, {**trial.curve, last: {**trial.curve.get(last, {}), **trial.scores}})
        if not self._is_alone:
            self._client.set_terminated(run_id, STATES.get(trial.status, "FAILED"))

    def end(self, result: TrackedResult | None) -> None:
        """As `Tracker.end`."""
        if result is None:
            self._client.set_terminated(self._parent, "KILLED")
            return
        if not self._is_alone:
            self._log(self._parent, {}, {0: result.numbers})
        self._client.set_tag(self._parent, "mlflow.note.content", result.text)
        self._client.set_tag(self._parent, "segdecay.verdict", result.title)
        for path in result.files:
            self._client.log_artifact(self._parent, str(path))
        self._client.set_terminated(self._parent, "FINISHED")

    def _log(self, run_id: str, parameters: Mapping[str, str | float], rows: Mapping[int, Row]) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(taken(name), value, now, step) for step, row in rows.items() for name, value in row.items()]
        given = [Param(taken(name), str(value)[:LONGEST]) for name, value in parameters.items()]
        for part in _parts(given, PARAMETERS):
            self._client.log_batch(run_id, params=part)
        for part in _parts(metrics, BATCH):
            self._client.log_batch(run_id, metrics=part)


def taken(name: str) -> str:
    """A name that MLflow takes: other characters become an underscore.

    >>> taken("validation/IoU/road, wet (%)")
    'validation/IoU/road_ wet ___'
    """
    return NOT_TAKEN.sub("_", name)


def refuse_silent(place: str) -> None:
    """Refuse a server to which no connection can be made; MLflow's client would try for minutes.

    Raises:
        RunError: it does not answer.
    """
    found = urlsplit(place)
    if found.scheme not in ("http", "https") or not found.hostname:
        return
    try:
        port = found.port or {"http": 80, "https": 443}[found.scheme]
        with socket.create_connection((found.hostname, port), timeout=ANSWER_S):
            return
    except OSError as error:
        raise RunError(f"{place} does not answer ({error.strerror or error})") from error


def _uri(place: str | None) -> str | None:
    """A folder as a URI; anything else as it is."""
    if place is None or re.match(r"[a-z][a-z0-9+]*:", place) or place == "databricks":
        return place
    return Path(place).absolute().as_uri()


def _parts(values: list[Any], size: int) -> Iterable[list[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))

"""Runs are logged to TensorBoard and MLflow; a tracker that fails is told once and changes nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shapes import write_shapes

import segdecay
from segdecay.errors import ConfigError
from segdecay.workflows.trackers import tracking

AXIS = segdecay.Axis("smoothing", [0.1])
IMAGES = segdecay.UserData([f"image {number}" for number in range(9)], ["road, wet", "rest"])
TRAIN: dict[str, Any] = {
    "epochs": 2, "set": {"model.width": 4, "model.depth": 2, "training.batch_size": 4}, "strength": 2.0, "workers": 0,
    "device": "cpu", "quiet": True,
}  # fmt: skip
TRIALS = 9  # no smoothing, 0.1, and one beyond the strongest, on three folds
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),  # of MLflow and what it imports
    pytest.mark.filterwarnings("ignore:.*:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _mlflow_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry, no store outside of the test's folder, and no long retries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


def pretend(setting: segdecay.Setting, fold: segdecay.UserFold, seed: int) -> Any:
    """Trains nothing: better with smoothing."""
    right = 60 + (10 if setting.value == 0.1 else 0) + fold.number + seed
    return [[[right, 100 - right], [100 - right, right]] for _ in fold.validation]


def search(out: Path, track: str | None, *callbacks: Any) -> segdecay.Tuned:
    few: dict[str, Any] = {"search.resamples": 200}
    return segdecay.tune(
        IMAGES, train=pretend, axis=AXIS, folds=3, race=False, out=out, set=few, workers=0, quiet=True, track=track,
        callbacks=list(callbacks),
    )  # fmt: skip


def events_of(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def nested_runs(uri: str) -> tuple[list[Any], list[Any]]:
    """The runs of searches, and the nested runs, at a store of MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("segdecay")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def test_tensorboard_has_a_folder_a_trial_and_the_verdict(tmp_path: Path) -> None:
    done = search(tmp_path / "run", "tensorboard")
    folder = done.run / "tensorboard"
    trials = sorted(path.name for path in folder.iterdir() if "fold" in path.name)
    assert trials == sorted(f"smoothing={value} fold {fold}" for value in ("0", "0.1", "0.4") for fold in (1, 2, 3))
    scores = events_of(folder / "smoothing=0.1 fold 1").Scalars("score/validation/mIoU")
    record = json.loads((done.run / "trials" / "smoothing=0.1" / "0-0" / "trial.json").read_text(encoding="utf-8"))
    assert [one.value for one in scores] == pytest.approx([record["validation"]["miou"]])
    result = events_of(folder / "result")
    assert done.verdict.sentence in result.Tensors("verdict/text_summary")[0].tensor_proto.string_val[0].decode()
    assert result.Scalars("result/score")[0].value == pytest.approx(done.verdict.selection.mean)


def test_tensorboard_has_the_curves_of_a_training(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=8)
    done = segdecay.train(data, out=tmp_path / "run", track=f"tensorboard:{tmp_path / 'events'}", **TRAIN)
    (folder,) = [path for path in (tmp_path / "events" / "run").iterdir() if path.name.startswith("refit")]
    events = events_of(folder)
    curve = [row["loss"] for row in rows_of(done.run / "refit" / "chosen" / "curve.jsonl")]
    assert [one.value for one in events.Scalars("curve/loss")] == pytest.approx(curve)
    assert [one.step for one in events.Scalars("curve/loss")] == [1, 2]
    assert "diagnostics/body/norm" in events.Tags()["scalars"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_same_call_again_logs_nothing_twice(tmp_path: Path) -> None:
    done = search(tmp_path / "run", "tensorboard")
    files = sorted(path for path in (done.run / "tensorboard").rglob("*tfevents*") if "fold" in path.parent.name)
    search(tmp_path / "run", "tensorboard")
    assert files == sorted(
        path for path in (done.run / "tensorboard").rglob("*tfevents*") if "fold" in path.parent.name
    )


# --- MLflow -----------------------------------------------------------------------------------------------------------


def test_mlflow_has_one_run_with_nested_trials_and_the_page(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = tmp_path / "mlruns"
    done = search(tmp_path / "run", f"mlflow:{store}")
    (parent,), nested = nested_runs(store.as_uri())
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.folds"] == "3"
    assert parent.data.metrics["result/score"] == pytest.approx(done.verdict.selection.mean)
    assert done.verdict.sentence in parent.data.tags["mlflow.note.content"]
    names = {item.path for item in MlflowClient(tracking_uri=store.as_uri()).list_artifacts(parent.info.run_id)}
    assert names == {"verdict.json", "report.html"}
    assert len(nested) == TRIALS
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert {run.info.status for run in nested} == {"FINISHED"}
    one = next(run for run in nested if run.info.run_name == "smoothing=0.1 fold 2")
    assert one.data.params["smoothing"] == "0.1"
    assert "validation/IoU/road_ wet" in one.data.metrics

    search(tmp_path / "run", f"mlflow:{store}")
    assert [len(runs) for runs in nested_runs(store.as_uri())] == [1, TRIALS]


def test_mlflow_has_a_training_in_one_run(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store, data = tmp_path / "mlruns", write_shapes(tmp_path / "shapes", n_images=8)
    segdecay.train(data, out=tmp_path / "run", track=f"mlflow:{store}", **TRAIN)
    (run,), nested = nested_runs(store.as_uri())
    assert nested == []
    history = MlflowClient(tracking_uri=store.as_uri()).get_metric_history(run.info.run_id, "curve/loss")
    assert [one.step for one in history] == [1, 2]
    assert run.data.params["D"] == "2.0"


def test_a_trial_that_is_trained_anew_replaces_its_run(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    done = search(tmp_path / "run", f"mlflow:{store}")
    (done.run / "trials" / "smoothing=0" / "0-0" / "trial.json").unlink()
    search(tmp_path / "run", f"mlflow:{store}")
    assert [len(runs) for runs in nested_runs(store.as_uri())] == [1, TRIALS]


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_without_its_package_the_search_goes_on_and_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = search(tmp_path / "plain", None)
    monkeypatch.setitem(sys.modules, name, None)
    said = rf"tracker {name}: {name} is not installed. It comes with: pip install 'segdecay\[{name}\]'. The search goes"
    with pytest.warns(UserWarning, match=said) as all_:
        done = search(tmp_path / "run", name)
    assert len(all_) == 1
    assert done.verdict.settings == plain.verdict.settings


def test_without_its_server_the_search_goes_on(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"http://127\.0\.0\.1:9 does not answer \(Connection refused\)") as all_:
        done = search(tmp_path / "run", "mlflow:http://127.0.0.1:9")
    assert len(all_) == 1
    assert done.verdict.kind == "chosen"


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SILENT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.warns(UserWarning, match=r"tracker mlflow: no answer for 0\.5 s"):
            search(tmp_path / "run", f"mlflow:{place}")
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("tensorbord", "Unknown tracker 'tensorbord'; allowed: tensorboard, mlflow. Did you mean 'tensorboard'"),
        ("mlflow,mlflow:http://a", "listed twice"),
        (",", "--track takes tensorboard or mlflow"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_written(asked: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        search(tmp_path / "run", asked)
    assert not (tmp_path / "run").exists()


class Server:
    """A tracking server of MLflow as people start it."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri, self._folder = f"http://127.0.0.1:{self.port}", folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        places = [
            "--backend-store-uri",
            f"sqlite:///{self._folder}/ml.db",
            "--artifacts-destination",
            str(self._folder),
        ]
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1", *places]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):  # noqa: S310 - our own server
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self._folder / "log.txt").read_text())

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    found = Server(folder)
    found.start()
    yield found
    found.kill()


class KillsTheServer(segdecay.Callback):
    """Kills the server when some trials are logged."""

    def __init__(self, server: Server, run: Path) -> None:
        self._server, self._run, self.is_killed = server, run, False

    def on_trial_start(self, trial: Any) -> None:
        kept = self._run / "tracked" / "mlflow.json"
        if trial.fold == 3 and not self.is_killed:
            for _ in range(300):
                if kept.exists() and kept.read_text().count("trials/") >= 2:
                    break
                time.sleep(0.1)
            self._server.kill()
            self.is_killed = True


def test_a_server_that_is_killed_in_the_middle_stops_nothing_and_gets_the_rest_later(
    server: Server, tmp_path: Path
) -> None:
    plain = search(tmp_path / "plain", None)
    killer = KillsTheServer(server, tmp_path / "run")
    with pytest.warns(UserWarning, match="tracker mlflow: ") as all_:
        done = search(tmp_path / "run", f"mlflow:{server.uri}", killer)
    assert killer.is_killed
    assert len(all_) == 1
    assert done.verdict.settings == plain.verdict.settings
    server.start()
    search(tmp_path / "run", f"mlflow:{server.uri}")
    (parent,), nested = nested_runs(server.uri)
    assert parent.info.status == "FINISHED"
    assert len(nested) == TRIALS
    assert {run.info.status for run in nested} == {"FINISHED"}

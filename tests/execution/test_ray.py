"""The Ray executor keeps the contract of executors on a cluster of this machine; what cannot do is refused."""

from __future__ import annotations

import logging
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from segdecay.errors import MissingPartError, RunError
from segdecay.execution import Event, Executor, InlineExecutor
from segdecay.execution import ray as cluster
from segdecay.execution import ray as joining
from segdecay.execution.ray import RayExecutor
from segdecay.execution.ray_remote import differing, pack_data, pack_trial, start_mailbox, unpack_data, unpack_trial
from segdecay.testing import WorkersContract
from segdecay.testing import small_trials as small
from segdecay.testing.executor_contract import kinds_of, reason_of
from segdecay.testing.small_trials import result_of, small_trials
from segdecay.training.setup import TrialTask
from segdecay.utils.files import write_bytes

WANTS_TOKEN = tuple(map(int, ray.__version__.split(".")[:2])) >= (
    2,
    59,
)  # of a cluster that ray.init starts


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    signal.signal(signal.SIGTERM, before)  # of the tests after these
    yield
    ray.shutdown()


class Contract(WorkersContract):
    def build(self, workers: int) -> Executor:
        return RayExecutor(workers=workers)


@pytest.mark.soak  # every promise in runs of its own, each with new processes; the test below keeps them in one run
class TestRay(Contract):
    pass


LINES = {
    "plain": small.WELL,
    "large": small.TOO_LARGE_ONCE,
    "killed": small.KILLED_ONCE,
    "wrong": small.WRONG,
    "huge": small.TOO_LARGE,
    "doomed": small.KILLED_ALWAYS,
}
EPOCHS = ["progress"] * small.EPOCHS
KINDS = {
    "plain": ["started", *EPOCHS, "finished"],
    "large": ["started", "again", "started", *EPOCHS, "finished"],
    "wrong": ["started", "failed"],
    "huge": ["started", "again", "started", "failed"],
    "doomed": ["started", "again", "started", "failed"],
}


def test_one_run_keeps_the_promises_of_an_executor_in_processes() -> None:
    with small_trials() as trials:
        tasks = {name: trials.tasks(name, 1, lines=lines)[0] for name, lines in LINES.items()}
        left, events = list(tasks.values()), list[Event]()
        RayExecutor(workers=2).run(lambda: left.pop(0) if left else None, events.append)
        for name, kinds in KINDS.items():
            assert kinds_of(events, tasks[name]) == kinds, name
        told = [kind for kind in kinds_of(events, tasks["killed"]) if kind != "progress"]
        assert told == ["started", "again", "started", "finished"]
        assert _starts_alone(events, tasks["large"])
        assert "this network cannot" in reason_of(events, tasks["wrong"])
        assert "batch_size (now 4" in reason_of(events, tasks["huge"])
        assert "memory" in reason_of(events, tasks["doomed"])
        assert not any((tasks[name].folder / "trial.json").exists() for name in ("wrong", "huge", "doomed"))
        again: list[Event] = []
        before = (tasks["plain"].folder / "trial.json").read_bytes()
        RayExecutor(workers=1).run([tasks["plain"]], again.append)
        assert [event.kind for event in again].count("progress") == 0
        assert (tasks["plain"].folder / "trial.json").read_bytes() == before
        for name in ("plain", "large", "killed"):
            found = result_of(tasks[name])
            shutil.rmtree(tasks[name].folder)
            InlineExecutor().run([tasks[name]], lambda _event: None)
            assert result_of(tasks[name]) == found, name


def _starts_alone(events: list[Event], task: TrialTask) -> bool:
    """Whether nothing else ran when a trial was started for the last time, and nothing began until it had ended."""
    order = [(event.kind, event.task.folder) for event in events if event.kind != "progress"]
    second = len(order) - 1 - order[::-1].index(("started", task.folder))
    before = [kind for kind, _ in order[:second]]
    ended = sum(before.count(kind) for kind in ("finished", "failed", "again"))
    return before.count("started") == ended and order[second + 1] == ("finished", task.folder)


@pytest.mark.soak
def test_a_full_disk_raises_and_the_next_run_goes_on() -> None:
    Contract().test_a_full_disk_raises_and_the_next_run_goes_on()


@pytest.mark.soak
def test_ctrl_c_keeps_the_state_and_the_next_run_ends_the_same() -> None:
    Contract().test_ctrl_c_keeps_the_state_and_the_next_run_ends_the_same()


def test_a_cluster_that_is_gone_is_told_and_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[Any] = []

    def start(ray: Any) -> Any:
        boxes.append(start_mailbox(ray))
        return boxes[0]

    def lose(event: Event) -> None:
        if event.kind == "finished":
            ray.kill(boxes[0])

    monkeypatch.setattr(cluster, "start_mailbox", start)
    with small_trials() as trials:
        first, second = trials.tasks("gone", 2)
        with pytest.raises(RunError, match=r"cluster does not answer any more \(ActorDied.*the same command resumes"):
            RayExecutor(workers=1).run([first, second], lose)
        assert (first.folder / "trial.json").exists()
        monkeypatch.undo()
        RayExecutor(workers=1).run([second], lambda _event: None)
        assert (second.folder / "trial.json").exists()


def test_an_address_where_nobody_answers_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RunError, match=rf"--address 127.0.0.1:{port}: no answer within 5 s .*ray start --head"):
        joining.check_address(f"127.0.0.1:{port}")


def test_an_address_that_stays_silent_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ANSWER_WITHIN_S", 0.5)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address), pytest.raises(RunError, match=r"within 0.5 s \(timed out\)"):
            joining.check_address(f"127.0.0.1:{address[1]}")  # its queue is full: the system drops who knocks


def test_an_address_of_another_service_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "STATUS_WITHIN_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as service:
        address = f"127.0.0.1:{service.getsockname()[1]}"
        with pytest.raises(RunError, match=r"no Ray cluster answers \(no status within 2 s\)\. Start one: ray start"):
            joining.check_address(address)


def test_the_address_of_a_cluster_is_taken_with_the_token_that_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    address = ray.get_runtime_context().gcs_address
    assert joining.check_address(address) is WANTS_TOKEN
    if not WANTS_TOKEN:
        return  # this version of Ray lets everybody in
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster-and-long-enough")
    with pytest.raises(RunError, match=r"needs a token: .*AuthenticationError.*`ray get-auth-token` prints it"):
        joining.check_address(address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(
        RunError,
        match=rf"--address {address}: the cluster needs a token: .*no token was found here",
    ):
        joining.check_address(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(RunError, match=r"needs a token: RAY_AUTH_MODE=disabled: .*leave RAY_AUTH_MODE unset"):
        joining.check_address(address)


def test_joining_a_cluster_leaves_the_answer_to_sigterm_as_it_was() -> None:
    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    joining.join_cluster(ray, "local")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("address", ["here", "host:port", "http://a:1", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(RunError, match="takes HOST:PORT, ray://HOST:PORT, auto or local"):
        joining.check_address(address)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match=r"segdecay\[ray\]"):
        RayExecutor()


def test_gpus_that_the_cluster_has_not_are_refused() -> None:
    with pytest.raises(RunError, match=r"--gpus-per-trial 0.25: the cluster has 0 GPUs"):
        joining.check_cluster(ray, 0.25)


def test_machines_with_other_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "versions_here", lambda: {"python": "3.11.9", "torch": "0.1"})
    with pytest.raises(RunError, match=r"has other versions than the driver: .*torch .* against 0.1.*Install the same"):
        joining.check_cluster(ray, 0)
    assert differing({"torch": "2"}, {"torch": "2", "more": "1"}) == []


def test_data_larger_than_an_object_store_say_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images.u8").write_bytes(bytes(1000))
    monkeypatch.setattr(joining, "STORE_SHARE", 1e-9)
    with pytest.raises(RunError, match=r"do not fit into the object store .*--object-store-memory.*SEGDECAY_CACHE"):
        joining.parcel_for(ray, tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    assert joining.parcel_for(ray, tmp_path) is None  # every machine sees the folder
    monkeypatch.setattr(joining, "LOOK_WITHIN_S", 0.0)
    with pytest.raises(RunError, match="do not fit into the object store"):
        joining.parcel_for(ray, tmp_path)  # one that does not answer may not see it


def test_data_travel_whole_and_are_unpacked_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "images.u8").write_bytes(bytes(range(256)))
    (source / "empty").touch()
    parcel = ray.get(ray.put(pack_data(source)))
    there = unpack_data(parcel, tmp_path / "there")
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {"images.u8": bytes(range(256)), "empty": b""}
    assert unpack_data({"other": np.zeros(1, dtype=np.uint8)}, there) == there
    assert not (there / "other").exists()
    assert [path.name for path in tmp_path.iterdir() if ".part-" in path.name] == []


def test_a_trial_comes_home_with_its_record_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away, home = tmp_path / "away", tmp_path / "home"
    (away / "checkpoint").mkdir(parents=True)
    for name in ("trial.json", "curve.jsonl", "checkpoint/state"):
        (away / name).write_text(name)
    files = pack_trial(away)
    assert set(files) == {"trial.json", "curve.jsonl", "checkpoint/state"}
    order: list[str] = []

    def write(path: Path, content: bytes) -> None:
        order.append(path.name)
        write_bytes(path, content)

    monkeypatch.setattr("segdecay.execution.ray_remote.write_bytes", write)
    unpack_trial(files, home)
    assert order[-1] == "trial.json"
    assert not (home / "checkpoint").exists()

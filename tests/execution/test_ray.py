"""The Ray executor keeps the contract of executors on a cluster of this machine; what cannot do is refused."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from segdecay.errors import MissingPartError, RunError
from segdecay.execution import Event, Executor
from segdecay.execution import ray as cluster
from segdecay.execution import ray as joining
from segdecay.execution.ray import RayExecutor
from segdecay.execution.ray_remote import differing, pack_data, pack_trial, start_mailbox, unpack_data, unpack_trial
from segdecay.testing import WorkersContract
from segdecay.testing.small_trials import small_trials
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


class TestRay(WorkersContract):
    def build(self, workers: int) -> Executor:
        return RayExecutor(workers=workers)


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
    monkeypatch.setattr(joining, "STATUS_WITHIN_S", 8.0)
    with socket.create_server(("127.0.0.1", 0)) as service:
        address = f"127.0.0.1:{service.getsockname()[1]}"
        with pytest.raises(RunError, match=r"no Ray cluster answers \(no status within 8 s\)\. Start one: ray start"):
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

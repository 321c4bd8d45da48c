"""Searches on Ray nodes that are killed, that join, or whose driver is killed, end in the local verdict.

One cluster serves all, and grows: the tests stand in the order of the nodes that they need. `make soak` runs them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from commands import call
from ray.cluster_utils import Cluster
from shapes import write_shapes

from segdecay.execution.ray import REFUSED, _ask_status, join_cluster, use_token
from segdecay.execution.ray_remote import start_mailbox

KEYS = ("search.resamples=200", "model.width=4", "model.depth=2", "training.batch_size=4", "optimizer.lr=0.01")
WITHIN_S = 900  # or it hangs: a guard, no measurement
pytestmark = pytest.mark.soak  # minutes; test_ray.py holds Ray to the contract of executors in every run


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One that wants a token, as those of `ray start` do by default; drivers are not told so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        use_token()
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        assert REFUSED in str(_ask_status(cluster.address, "disabled"))
        yield cluster
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _untold() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}


def _arguments(data: Path, run: Path, *more: str) -> list[str]:
    options = ["--epochs", "40", "--folds", "2", "--device", "cpu", "--set", "search.grid=[0,2]", "--race", "off"]
    for key in KEYS:
        options += ["--set", key]
    return ["tune", str(data), "--out", str(run), *options, *more]


def _command(data: Path, run: Path, cluster: Any) -> list[str]:
    away = ("--executor", "ray", "--address", cluster.address)
    return [sys.executable, "-m", "segdecay.cli.main", *_arguments(data, run, *away)]


def _found(run: Path) -> dict[str, Any]:
    verdict = json.loads((run / "verdict.json").read_text())
    del verdict["cost"], verdict["advice"]
    return dict(verdict)


def _trains(node: Any) -> bool:
    """Whether a training runs on this node: below its raylet, Ray names a worker after what it does."""
    raylet = node.all_processes["raylet"][0].process.pid
    table = subprocess.run(["ps", "--ppid", str(raylet), "-o", "args="], capture_output=True, text=True, check=False)
    return "ray::run_errand" in table.stdout


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_untold())


def _finished(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob("trials/*/*/trial.json")}


def _wait_until(driver: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not ready():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("nodes") / "shapes", n_images=12, test_images=4)


@pytest.fixture(scope="module")
def here(data: Path) -> Path:
    """What this process finds."""
    run = data.parent / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGDECAY_CACHE", str(data.parent / "cache"))
        call(*_arguments(data, run, "--workers", "0"))
    return run


def _assert_same(one: Path, other: Path) -> None:
    assert _found(one) == _found(other)
    model = Path("model") / "model.safetensors"
    assert (one / model).read_bytes() == (other / model).read_bytes()


def test_a_driver_that_is_killed_or_told_to_stop_goes_on_when_it_is_started_again(
    cluster: Any, data: Path, here: Path, tmp_path: Path
) -> None:
    run = tmp_path / "away"
    command = _command(data, run, cluster)
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 130)):
        before = _finished(run)
        driver = _start(command)
        try:
            _wait_until(driver, lambda before=before: len(_finished(run)) > len(before))  # type: ignore[misc]
            driver.send_signal(number)
            said, _ = driver.communicate(timeout=WITHIN_S)
        finally:
            driver.kill()
        assert driver.returncode == code, said
        assert before.items() <= _finished(run).items()
    kept = _finished(run)
    assert len(kept) < 4
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False, env=_untold())
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.items() <= _finished(run).items()
    _assert_same(run, here)


def test_a_node_that_is_killed_and_one_that_joins_change_nothing(
    cluster: Any, data: Path, here: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    driver = _start(_command(data, tmp_path / "away", cluster))
    try:
        _wait_until(driver, lambda: _trains(second))
        cluster.remove_node(second, allow_graceful=False)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3")
        said, _ = driver.communicate(timeout=WITHIN_S)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert "its machine was lost; trying again" in said
    _assert_same(tmp_path / "away", here)


def test_the_mailbox_lives_on_the_machine_of_its_driver(cluster: Any) -> None:
    for number in (2, 3):
        cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number}")
    join_cluster(ray, cluster.address)
    boxes = [start_mailbox(ray) for _ in range(8)]  # left to choose, Ray spreads them over all machines
    here = ray.get_runtime_context().get_node_id()
    assert ray.get([box.machine.remote() for box in boxes], timeout=WITHIN_S) == [here] * 8

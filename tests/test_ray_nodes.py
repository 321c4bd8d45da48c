"""A search on two Ray nodes, one of which is killed in the middle while a third joins, ends in the local verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from shapes import write_shapes

KEYS = ("search.resamples=200", "model.width=4", "model.depth=2", "training.batch_size=4", "optimizer.lr=0.01")
WITHIN_S = 240


@pytest.fixture
def cluster() -> Iterator[Any]:
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


def _command(data: Path, run: Path, *more: str) -> list[str]:
    options = ["--epochs", "40", "--folds", "3", "--device", "cpu", "--set", "search.grid=[0,2]", "--race", "off"]
    for key in KEYS:
        options += ["--set", key]
    return [sys.executable, "-m", "segdecay.cli.main", "tune", str(data), "--out", str(run), *options, *more]


def _found(run: Path) -> dict[str, Any]:
    verdict = json.loads((run / "verdict.json").read_text())
    del verdict["cost"]
    return dict(verdict)


def _trains(node: Any) -> bool:
    """Whether a training runs on this node: below its raylet, Ray names a worker after what it does."""
    raylet = node.all_processes["raylet"][0].process.pid
    table = subprocess.run(["ps", "--ppid", str(raylet), "-o", "args="], capture_output=True, text=True, check=False)
    return "ray::run_errand" in table.stdout


def test_a_node_that_is_killed_and_one_that_joins_change_nothing(cluster: Any, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", n_images=12, test_images=4)
    second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
    options = ("--executor", "ray", "--address", cluster.address)
    driver = subprocess.Popen(
        _command(data, tmp_path / "away", *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + WITHIN_S
        while not _trains(second) and time.monotonic() < deadline:
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)
        cluster.add_node(num_cpus=1, node_ip_address="127.0.0.3")
        said, _ = driver.communicate(timeout=WITHIN_S)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert "its machine went away; it is tried once more" in said
    done = subprocess.run(
        _command(data, tmp_path / "here", "--workers", "2"),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert _found(tmp_path / "away") == _found(tmp_path / "here")
    model = Path("model") / "model.safetensors"
    assert (tmp_path / "away" / model).read_bytes() == (tmp_path / "here" / model).read_bytes()

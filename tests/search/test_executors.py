"""What every executor must do, and what processes of their own add."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shapes import small_config, small_task

from segdecay.config.schema import RunConfig
from segdecay.errors import SegdecayError
from segdecay.execution import Event, Executor, InlineExecutor, LocalExecutor, default_workers, find_devices
from segdecay.execution import forkserver as server
from segdecay.training.setup import TrialTask
from segdecay.utils.files import read_json


def _tasks(folder: Path, config: RunConfig, count: int = 2) -> list[TrialTask]:
    first, _ = small_task(folder / "0", config)
    return [replace(first, folder=folder / str(seed), seed=seed) for seed in range(count)]


def _run(executor: Executor, tasks: list[TrialTask]) -> list[Event]:
    events: list[Event] = []
    executor.run(tasks, events.append)
    return events


@pytest.fixture(params=["inline", "local"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return InlineExecutor() if request.param == "inline" else LocalExecutor(2, ["cpu"])


def test_every_task_starts_once_and_ends_once(executor: Executor, tmp_path: Path, shapes: Path) -> None:
    tasks = _tasks(tmp_path, small_config(shapes))
    events = _run(executor, tasks)
    for task in tasks:
        own = [event.kind for event in events if event.task.folder == task.folder]
        assert own[0] == "started"
        assert own[-1] == "finished"
        assert own.count("progress") == 3
        assert (task.folder / "trial.json").exists()


def test_a_trial_that_cannot_work_is_an_event_and_the_others_go_on(
    executor: Executor, tmp_path: Path, shapes: Path
) -> None:
    good, _ = small_task(tmp_path / "good", small_config(shapes))
    wrong = small_config(shapes, model={"name": "no.such.module:build", "width": None, "depth": None})
    bad = replace(good, folder=tmp_path / "bad", config=wrong)
    events = _run(executor, [bad, good])
    failed = [event for event in events if event.kind == "failed"]
    assert len(failed) == 1
    assert "cannot be imported" in (failed[0].reason or "")
    assert (good.folder / "trial.json").exists()
    assert not (bad.folder / "trial.json").exists()


def test_the_number_of_workers_changes_no_bit(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes)
    one, two = _tasks(tmp_path / "inline", config), _tasks(tmp_path / "local", config)
    InlineExecutor().run(one, lambda _event: None)
    LocalExecutor(2, ["cpu"]).run(two, lambda _event: None)
    for a, b in zip(one, two, strict=True):
        left, right = (load_file(task.folder / "model.safetensors") for task in (a, b))
        assert all(torch.equal(left[name], right[name]) for name in left)
        records = [{**read_json(task.folder / "trial.json"), "seconds": 0} for task in (a, b)]
        assert records[0] == records[1]


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


def _worker_pids() -> list[int]:
    """Processes of the fork server below this one."""
    return [pid for server in _children(os.getpid()) for pid in _children(server)]


def test_a_killed_worker_is_tried_again_and_ends_the_same(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes, training={"epochs": 25})
    task, _ = small_task(tmp_path / "killed", config)
    task = replace(task, checkpoint_every_s=0.0)
    events: list[Event] = []
    killed: list[int] = []

    def watch(event: Event) -> None:
        events.append(event)
        if event.kind == "progress" and event.epoch >= 3 and not killed:
            killed.extend(_worker_pids())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    LocalExecutor(1, ["cpu"]).run([task], watch)
    assert killed
    assert [event.kind for event in events].count("started") == 2
    unbroken = replace(task, folder=tmp_path / "unbroken")
    InlineExecutor().run([unbroken], lambda _event: None)
    left, right = (load_file(t.folder / "model.safetensors") for t in (task, unbroken))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_worker_that_is_always_killed_fails_with_advice(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "killed", small_config(shapes, training={"epochs": 500}))
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if event.kind == "progress":
            for pid in _worker_pids():
                os.kill(pid, signal.SIGKILL)

    LocalExecutor(1, ["cpu"]).run([task], watch)
    assert events[-1].kind == "failed"
    assert "killed by signal 9, 2 times" in (events[-1].reason or "")
    assert "memory" in (events[-1].reason or "")


def test_an_interrupt_keeps_the_state_of_running_trials(tmp_path: Path, shapes: Path) -> None:
    config = small_config(shapes, training={"epochs": 400})
    task, _ = small_task(tmp_path / "trial", config)
    task = replace(task, checkpoint_every_s=1e9)

    def interrupt(event: Event) -> None:
        if event.kind == "progress" and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(1, ["cpu"]).run([task], interrupt)
    assert (task.folder / "checkpoint" / "state.safetensors").exists()
    assert not (task.folder / "trial.json").exists()


def test_only_the_fork_server_ignores_signals_when_it_imports_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "import segdecay"])
        importlib.reload(server)
        assert signal.getsignal(signal.SIGTERM) is before
        monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "from multiprocessing.forkserver import main; main(3)"])
        importlib.reload(server)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SegdecayError, match=r"--device cuda:99: not found. Found: cpu"):
        find_devices("cuda:99")


def test_a_cpu_has_one_worker_a_core_and_a_gpu_one_each() -> None:
    assert find_devices("cpu") == ["cpu"]
    assert default_workers(["cpu"]) >= 1
    assert default_workers(["cuda:0", "cuda:1"]) == 2

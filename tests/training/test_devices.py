"""One training over several devices: what one device would train, in real processes (here each on a CPU)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from PIL import Image
from safetensors.torch import load_file
from shapes import small_config, small_task, write_shapes

from segdecay.errors import ConfigError
from segdecay.execution import Event, LocalExecutor, spread_over, work_on
from segdecay.execution.process import worker_context
from segdecay.execution.worker import work
from segdecay.testing.executor_contract import kinds_of, reason_of
from segdecay.testing.small_trials import small_trials
from segdecay.training.distributed import Spread
from segdecay.training.loop import run_trial
from segdecay.training.preflight import run_preflight
from segdecay.training.setup import TrialTask

TWO = Spread(("cpu", "cpu"))
ALIKE = {"model": {"norm": "group"}, "augment": {"flip": "none"}}  # batch norm and flips depend on the share
ON_RANK_1 = "import torch.distributed as dist; second = dist.is_initialized() and dist.get_rank() == 1; "


def _never(*_: object) -> bool:
    return False


def _quiet(_epoch: int, _epochs: int) -> None:
    return


def _losses(task: TrialTask) -> list[float]:
    return [json.loads(line)["loss"] for line in (task.folder / "curve.jsonl").read_text().splitlines()]


def _furthest(one: TrialTask, other: TrialTask) -> float:
    ours, theirs = (load_file(task.folder / "model.safetensors") for task in (one, other))
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def _unevenly_labelled(folder: Path) -> Path:
    """Squares of which every third mask is ignored but for one row, and one wholly."""
    write_shapes(folder)
    for path in sorted((folder / "masks").glob("*.png"))[::3]:
        mask = np.array(Image.open(path))
        mask[1:] = 255
        Image.fromarray(mask).save(path)
    Image.fromarray(np.full((16, 16), 255, dtype=np.uint8)).save(folder / "masks" / "all01.png")
    text = "classes: [ground, bright, dark]\nignore: [255]\n"
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "training", [{"batch_size": 4}, {"batch_size": 5, "accumulate": 2}], ids=["step a batch", "accumulated"]
)
def test_two_devices_train_what_one_trains(tmp_path: Path, training: dict[str, int]) -> None:
    data = _unevenly_labelled(tmp_path / "data")
    optimizer = {"name": "sgd", "lr": 0.1}  # Adam would make much of a last bit
    config = small_config(data, training={"epochs": 3, **training}, optimizer=optimizer, **ALIKE)
    one, _ = small_task(tmp_path / "one", config, value=0.5)
    two = replace(one, folder=tmp_path / "two", spread=TWO)
    alone = run_trial(one)
    told: list[tuple[int, int]] = []
    assert work_on(two, _never, lambda *epochs: told.append(epochs)).kind == "finished"
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert _losses(two) == pytest.approx(_losses(one), rel=1e-5)
    assert _furthest(one, two) < 1e-5
    kept = json.loads((two.folder / "trial.json").read_text())
    assert kept["extra"]["devices"] == ["cpu", "cpu"]
    assert kept["steps"] == alone.steps
    assert kept["strength"]["total_decay"] == alone.strength.total_decay
    assert kept["validation"]["iou"] == pytest.approx(list(alone.validation.iou) if alone.validation else [])


def test_a_shared_training_that_stops_goes_on_to_the_same_bits_or_alone(tmp_path: Path) -> None:
    config = small_config(write_shapes(tmp_path / "data"), training={"epochs": 4, "batch_size": 4})
    unbroken, _ = small_task(tmp_path / "unbroken", config, spread=TWO)
    broken = replace(unbroken, folder=tmp_path / "broken")
    assert work_on(unbroken, _never, _quiet).kind == "finished"
    seen: list[int] = []
    outcome = work_on(broken, lambda: bool(seen), lambda epoch, _epochs: seen.append(epoch))
    assert outcome.kind == "interrupted"
    assert (broken.folder / "checkpoint" / "state.safetensors").is_file()
    assert not (broken.folder / "trial.json").exists()
    alone = replace(broken, folder=tmp_path / "alone", spread=None)
    shutil.copytree(broken.folder, alone.folder)
    record = run_trial(alone)
    assert (record.status, record.epochs, record.steps) == ("finished", 4, 12)
    later: list[int] = []
    assert work_on(broken, _never, lambda epoch, _epochs: later.append(epoch)).kind == "finished"
    assert later
    assert later[0] > 1
    assert _furthest(unbroken, broken) == 0.0
    assert _losses(unbroken) == _losses(broken)
    assert not (broken.folder / "checkpoint").exists()


def test_a_process_that_is_killed_ends_the_others_and_the_second_try_finishes() -> None:
    kills = ON_RANK_1 + "second and self.training and once() and os.kill(os.getpid(), signal.SIGKILL)"
    with small_trials() as trials:
        task = replace(trials.tasks("killed", 1, lines=kills)[0], spread=TWO)
        events: list[Event] = []
        LocalExecutor(1, ["cpu"]).run([task], events.append)
        kinds = [kind for kind in kinds_of(events, task) if kind != "progress"]
        again = next(event.reason or "" for event in events if event.kind == "again")
    assert kinds == ["started", "again", "started", "finished"]
    assert "the process of device 2 of 2 was killed by signal 9" in again


def test_what_one_process_raises_is_the_reason_of_the_trial() -> None:
    wrong = ON_RANK_1 + "assert not (second and self.training), 'this share cannot'"
    with small_trials() as trials:
        task = replace(trials.tasks("wrong", 1, lines=wrong)[0], spread=TWO)
        events: list[Event] = []
        LocalExecutor(1, ["cpu"]).run([task], events.append)
        assert "this share cannot" in reason_of(events, task)


@pytest.mark.soak
def test_when_who_started_them_is_killed_all_processes_end() -> None:
    notes = "(HERE / f'{os.getpid()}.times').touch(); time.sleep(0.05)"
    with small_trials() as trials:
        task = replace(trials.tasks("left", 1, lines=notes, epochs=1000)[0], spread=TWO)
        context = worker_context()
        ours, theirs = context.Pipe()
        starter = context.Process(target=work, args=(task, theirs))  # type: ignore[attr-defined]
        starter.start()
        _wait_for(lambda: len(list(trials.root.glob("*.times"))) == 2)
        shares = [int(path.stem) for path in trials.root.glob("*.times")]
        starter.kill()
        starter.join()
        ours.close()
        _wait_for(lambda: not any(Path(f"/proc/{share}").exists() for share in shares))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # a hang fails here; nothing is measured
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_network_with_a_layer_that_idles_is_found_in_the_preflight_and_trains() -> None:
    with small_trials() as trials:
        plain, idle = trials.tasks("plain", 1)[0], trials.tasks("idle", 1)[0]
        module = next(trials.root.glob("small_trials_*_idle.py"))
        layer = "nn.Conv2d(4, classes, 1)\n"
        module.write_text(module.read_text().replace(layer, f"{layer}        self.idle = nn.Linear(1, 1)\n"))
        assert not run_preflight(plain).has_idle
        found = run_preflight(replace(idle, spread=TWO)).has_idle
        assert found
        shared = replace(idle, spread=replace(TWO, has_idle=found))
        assert work_on(shared, _never, _quiet).kind == "finished"


def test_the_command_shares_a_training(segdecay: Command, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--epochs", "2", "--lambda", "0.01", "--device", "cpu", "--set", "model.width=4", "--set", "model.depth=1"]
    said = segdecay("train", shapes, "--out", run, *small, "--devices", "2", "--json")
    assert json.loads(said.out)["extra"]["devices"] == ["cpu", "cpu"]
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu, cpu"
    assert (run / "model" / "model.safetensors").is_file()


def test_what_cannot_be_shared_is_told_before_any_training(segdecay: Command, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = ["--devices", "4", "--set", "training.batch_size=2", "--set", "balancing.epochs=1", "--lambda", "0.01"]
    said = segdecay("train", shapes, "--out", run, "--device", "cpu", *asked, code=2)
    assert "18 training images in 9 batches leave 2 for the smallest" in said.err
    assert "Raise training.batch_size (now 2)" in said.err
    assert "balancing.epochs=1 freezes all but the head" in said.err
    assert not list(run.glob("refit"))


def test_devices_are_as_many_as_there_are() -> None:
    assert spread_over(["cuda:0", "cuda:1"], 1) is None
    with pytest.raises(ConfigError, match=r"--devices 3: only 2 are available \(cuda:0, cuda:1\)"):
        spread_over(["cuda:0", "cuda:1"], 3)
    with pytest.raises(ConfigError, match="--devices takes 1 or more; saw 0"):
        spread_over(["cpu"], 0)

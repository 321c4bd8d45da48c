"""Reading is no training: neither the time left nor the words at an interrupt take it for one."""

from __future__ import annotations

import io
from pathlib import Path

import layout_cases as cases
import pytest
from commands import call
from rich.console import Console
from shapes import small_config, small_task

from segdecay.data.cache import Builder
from segdecay.execution import Event
from segdecay.workflows.progress import ConsoleWatcher, show_duration


@pytest.mark.parametrize("command", ["tune", "train", "check"])
def test_an_interrupt_while_reading_says_that_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    root = cases.pairs(tmp_path / "set", "images/{n}.png", "masks/{n}.png", masked=lambda labels, _: labels)
    (root / "classes.txt").write_text("background\nroad\n")
    monkeypatch.setattr(Builder, "add", stop)
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path / "cache"))
    options: list[str | Path] = [] if command == "check" else ["--out", tmp_path / "run"]
    said = call(command, root, *options, code=130).err
    assert f"interrupted while {root} was read" in said
    assert "The same command goes on from there." in said
    assert ("this command has trained nothing yet" in said) == (command != "check")
    assert "Finished trials are kept" not in said


def test_the_time_left_is_that_of_trainings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: Path
) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes))
    epochs, now = task.config.training.epochs, [0.0]
    monkeypatch.setattr("segdecay.workflows.progress.time.monotonic", lambda: now[0])
    with ConsoleWatcher(Console(file=io.StringIO()), quiet=True) as watcher:
        watcher._total = 4
        now[0] = 5000  # reading, planning and a first batch
        watcher.event(Event("started", task))
        for epoch in range(epochs):
            now[0] += 2
            watcher.event(Event("progress", task, epoch + 1))
        watcher._done = 1
        left = watcher._left(epochs)
    assert left == f" · about {show_duration(3 * epochs * 2)} left"

"""A full disk, and files that the system refuses: what is said, what stops, and that the same command goes on after."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import call
from listener import Listener
from shapes import small_config, small_task, write_shapes

from segdecay.errors import DiskFullError, RunError
from segdecay.execution import Event, InlineExecutor
from segdecay.execution.options import Execution
from segdecay.utils.files import read_json, write_bytes
from segdecay.workflows.tune import tune

MB = 1_000_000
# Where no file system may be mounted: a disk of QUOTA bytes in FOLDER, for every process of a command.
SMALL_DISK = """
import errno, os
from pathlib import Path
_sync = os.fsync
def _limited(handle):
    path = Path(os.readlink(f"/proc/self/fd/{handle}"))
    root = Path(os.environ["FOLDER"])
    if path.is_file() and root in path.parents:
        used = sum(one.stat().st_size for one in root.rglob("*") if one.is_file())
        if used > int(os.environ["QUOTA"]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _sync(handle)
os.fsync = _limited
"""


@contextmanager
def small_disk(folder: Path, code: Path, size: int) -> Iterator[dict[str, str]]:
    """A disk of so many bytes at `folder`: a real one where that is permitted. Yields the environment to run in."""
    folder.mkdir()
    code.mkdir()
    paths = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    if not is_mounted:
        (code / "sitecustomize.py").write_text(SMALL_DISK, encoding="utf-8")
    try:
        yield {**os.environ, "PYTHONPATH": paths, "FOLDER": str(folder), "QUOTA": str(size)}
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _refuse(monkeypatch: pytest.MonkeyPatch, fragment: str, number: int) -> None:
    """Let every write to a path with this fragment fail."""
    sync = os.fsync

    def refusing(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if fragment in str(path) and not path.is_dir():
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", refusing)


def test_a_full_disk_stops_a_search_in_processes_and_room_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, disk = write_shapes(tmp_path / "shapes", n_images=12, test_images=4), tmp_path / "disk"
    settings = ("search.grid=[0,0.5,1,2]", "search.folds=2", "search.resamples=200", "training.epochs=8",
                "model.width=4", "model.depth=2", "training.batch_size=4", "optimizer.lr=0.01")  # fmt: skip
    words = ["tune", str(data), "--out", str(disk / "run"), "--device", "cpu"]
    words += [word for one in settings for word in ("--set", one)]
    command = [sys.executable, "-m", "segdecay.cli.main", *words, "--workers", "2"]
    monkeypatch.setenv("SEGDECAY_CACHE", str(tmp_path / "cache"))
    with small_disk(disk, tmp_path / "code", 10 * MB) as environment:
        (disk / "ballast").write_bytes(bytes(10 * MB - 80_000))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert f"The disk is full at {disk / 'run' / 'trials'}" in done.stderr
        assert "free about 7 MB" in done.stderr
        assert "run the same command again" in done.stderr
        assert "failed" not in done.stdout
        finished = {path: path.stat().st_mtime_ns for path in disk.glob("run/trials/*/*/trial.json")}
        assert 0 < len(finished) < 8
        assert not (disk / "run" / "verdict.json").exists()
        (disk / "ballast").unlink()
        call(*words, "--workers", "0")
        assert {path: path.stat().st_mtime_ns for path in finished} == finished
        assert (disk / "run" / "report.html").exists()


# In the order in which a run writes them: each call below comes further than the one before.
BEFORE_THE_VERDICT, AFTER_IT = (
    ("run.yaml", "data.json", "curve.jsonl", "trial.json", "verdict.json"),
    ("refit/", "/model/", "report.html"),
)


def test_a_full_disk_anywhere_in_a_run_is_one_error_and_the_same_call_goes_on(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = small_config(shapes, search={"folds": 2}), tmp_path / "run"
    for place in (
        "run.yaml",
        "data.json",
        "curve.jsonl",
        "trial.json",
        "verdict.json",
        "refit/",
        "/model/",
        "report.html",
    ):
        watcher = Listener()
        with monkeypatch.context() as limited:
            _refuse(limited, f"{place}." if "/" not in place else place, errno.ENOSPC)
            with pytest.raises(DiskFullError) as caught:
                tune(config, run, Execution(workers=0, device="cpu"), watcher)
        said = str(caught.value)
        assert place in said
        assert "about 7 MB" in said or place == "run.yaml"
        assert "neighbouring" not in said
        ended = [event.kind for event in watcher.events if event.kind != "progress"]
        assert "failed" not in ended
        if place in ("curve.jsonl", "trial.json"):
            assert ended == ["started"]  # not every trial one after the other
        assert (run / "verdict.json").exists() == (place in AFTER_IT)
    tuned = tune(config, run, Execution(workers=0, device="cpu"), Listener())
    assert tuned.report.exists()
    assert all(setting.dropped is None for setting in tuned.verdict.settings)


def test_another_refusal_fails_its_trial_with_file_and_reason(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, run = small_config(shapes, search={"folds": 2}), tmp_path / "run"
    _refuse(monkeypatch, "total_decay=2/1-0", errno.EIO)
    tuned = tune(config, run, Execution(workers=0, device="cpu"), Listener())
    (dropped,) = [setting.dropped for setting in tuned.verdict.settings if setting.dropped]
    assert "failed in fold 2: a file could not be read or written (" in dropped
    assert "1-0/confusion.npz: Input/output error" in dropped
    assert "Traceback" not in capfd.readouterr().err


def test_a_refit_whose_file_is_refused_asks_for_the_same_command_again(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse(monkeypatch, "refit/", errno.EROFS)
    with pytest.raises(RunError, match=r"Read-only file system.*run the same command again: only the refit") as caught:
        tune(small_config(shapes, search={"folds": 2}), tmp_path / "run", Execution(workers=0), Listener())
    assert "neighbouring" not in str(caught.value)


def test_the_first_trial_without_room_is_the_last_one_tried(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = small_task(tmp_path / "0", small_config(shapes))
    events: list[Event] = []
    _refuse(monkeypatch, "curve.jsonl", errno.EDQUOT)
    with pytest.raises(DiskFullError, match=r"full at .*/0/curve\.jsonl\. .*free some space"):
        InlineExecutor().run([task, task], events.append)
    assert [event.kind for event in events].count("started") == 1


def test_a_refused_write_keeps_the_old_file_and_names_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trial.json"
    write_bytes(path, b"old")
    _refuse(monkeypatch, "trial.json", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stale", [0, 2, 3])
def test_a_file_that_a_network_file_system_replaced_is_found_anew(
    stale: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, left = tmp_path / "trial.json", Path.read_text, [stale]
    path.write_text('{"a": 1}')

    def fading(self: Path, encoding: str | None = None) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(self, encoding)

    monkeypatch.setattr(Path, "read_text", fading)
    if stale == 3:
        with pytest.raises(OSError, match="Stale"):
            read_json(path)
    else:
        assert read_json(path) == {"a": 1}

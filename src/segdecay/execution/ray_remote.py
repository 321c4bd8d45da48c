"""The part of the Ray executor that runs on other machines: unpack the data once, run a trial, send its files back."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.data.cache import default_cache
from segdecay.execution.outcome import Outcome
from segdecay.execution.run_task import work_on
from segdecay.runs.folder import package_versions
from segdecay.training.setup import TrialTask
from segdecay.utils.files import write_bytes

U8 = npt.NDArray[np.uint8]
LAST = "trial.json"  # marks a trial complete
Files = Mapping[str, bytes]  # by path inside a folder


def pack_data(folder: Path) -> dict[str, U8]:
    """A folder's files as memory-mapped arrays, which Ray's object store shares without a copy per worker."""
    return {
        path.relative_to(folder).as_posix(): (
            np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint8)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpack_data(parcel: Mapping[str, U8], folder: Path) -> Path:
    """The folder with these files: an existing one, else written under a temporary name and renamed."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    for name, content in parcel.items():
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content.data)
            file.flush()
            os.fsync(file.fileno())
    try:
        beside.rename(folder)
    except OSError:  # another worker of this machine has written it
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def pack_trial(folder: Path) -> dict[str, bytes]:
    """All files of a trial, including its checkpoint; empty without a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".part")
    }


def unpack_trial(files: Files, folder: Path) -> None:
    """Write a trial's files atomically; trial.json comes last, then the checkpoint is removed.

    Raises:
        OSError: the disk is full.
    """
    for name in sorted(files, key=lambda one: one == LAST):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, files[name])
    if LAST in files:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)


ASK_EVERY_S = 1.0
MUST_AGREE = ("segdecay", "torch", "numpy", "timm", "segmentation-models-pytorch", "lightning-fabric")


class Mailbox:
    """Messages of workers to the driver, and its request to stop; an actor that ends with the driver."""

    def __init__(self) -> None:
        self._words: list[dict[str, Any]] = []
        self._stop = False

    def tell(self, **words: Any) -> None:
        """Add a worker's message."""
        self._words.append(words)

    def take(self) -> list[dict[str, Any]]:
        """All messages since the last call."""
        words, self._words = self._words, []
        return words

    def ask_to_stop(self) -> None:
        """Ask every worker to write a checkpoint and end."""
        self._stop = True

    def is_asked(self) -> bool:
        """Whether workers are asked to stop."""
        return self._stop

    def machine(self) -> str:
        """Ray's name of its machine."""
        import ray

        return str(ray.get_runtime_context().get_node_id())


def start_mailbox(ray: Any) -> Any:
    """A mailbox on the driver's machine; on another one, it would be lost with that machine."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


@dataclass(frozen=True)
class Errand:
    """One attempt at a trial, as it is sent. files: the driver's files of it, such as its checkpoint."""

    task: TrialTask
    number: int
    files: Mapping[str, bytes]
    versions: Mapping[str, str]
    on_gpu: bool
    path: tuple[str, ...] = ()  # the driver's sys.path, to find a user model on the other machine


def versions_here() -> dict[str, str]:
    """Versions that must be equal on all machines, for equal results."""
    packages = package_versions()
    return {"python": platform.python_version(), **{name: packages[name] for name in MUST_AGREE if name in packages}}


def look_around(root: str) -> dict[str, Any]:
    """Facts of a machine: versions, and whether it can read the data set's folder."""
    return {"versions": versions_here(), "sees_data": (Path(root) / "dataset.json").is_file()}


def differing(driver: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The differences between the versions of two machines.

    >>> differing({"torch": "2.6"}, {"torch": "2.5"}), differing({"torch": "2.6"}, {})
    (['torch 2.5 against 2.6'], ['torch missing against 2.6'])
    """
    return [
        f"{name} {here.get(name, 'missing')} against {own}" for name, own in driver.items() if here.get(name) != own
    ]


def run_errand(
    errand: Errand, parcel: Mapping[str, U8] | None, mailbox: Any
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Run a trial in a folder of this machine; returns the outcome, and the files to send back.

    parcel: the decoded data; None if all machines can read them under the same path.
    """
    import ray

    wrong = differing(errand.versions, versions_here())
    if wrong:
        return asdict(Outcome("failed", f"this machine has other versions: {', '.join(wrong)}")), {}
    sys.path.extend(place for place in errand.path if place not in sys.path)
    ray.get(mailbox.tell.remote(number=errand.number, node=ray.get_runtime_context().get_node_id()))
    home = Path(tempfile.mkdtemp(prefix="segdecay-trial-"))
    try:
        root = errand.task.dataset
        if parcel is not None and not (root / "dataset.json").is_file():
            root = unpack_data(parcel, default_cache() / root.name)
        folder = home / errand.task.folder.name
        unpack_trial(errand.files, folder)
        device = "cuda:0" if errand.on_gpu else "cpu"
        task = replace(errand.task, folder=folder, dataset=root, device=device)
        with _watched(mailbox) as asked:
            outcome = work_on(task, asked.is_set, _reporter(mailbox, errand.number))
        kept = pack_trial(folder) if outcome.kind in ("finished", "interrupted") else {}
        return asdict(outcome), kept
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _reporter(mailbox: Any, number: int) -> Any:
    def report(epoch: int, _epochs: int) -> None:
        mailbox.tell.remote(number=number, epoch=epoch)

    return report


@contextlib.contextmanager
def _watched(mailbox: Any) -> Iterator[threading.Event]:
    """An event that is set when the driver asks to stop; the process ends if the driver is gone."""
    import ray

    asked, done = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                if ray.get(mailbox.is_asked.remote()):
                    asked.set()
                    return
            except ray.exceptions.RayError:
                if not done.is_set():
                    os._exit(1)  # the driver is gone
            done.wait(ASK_EVERY_S)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        done.set()
        thread.join()

"""The folder of a run: locked by one process at a time, and refused if it belongs to another run."""

from __future__ import annotations

import errno
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from segdecay.config.schema import DataConfig, RunConfig, to_plain, to_yaml
from segdecay.errors import ConfigError, DiskFullError, RunError
from segdecay.runs.facts import Environment
from segdecay.runs.lock import HeldError, Lease, read_holder
from segdecay.utils.files import read_json, write_bytes, write_json
from segdecay.utils.yaml import differences, read_yaml

LOCK, LEASE = ".lock", ".lease.json"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems without locks
WAIT_S = 2.0  # between two attempts to open a run that another process works on
PACKAGES = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "segmentation-models-pytorch",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of the packages on which results depend; packages that are not installed are left out."""
    versions = {}
    for name in ("segdecay", *PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def check_folder(run: Path, config: RunConfig, verb: str) -> None:
    """Refuse a folder that does not belong to this run, before anything is written.

    Raises:
        RunError: the folder is not empty and not a run, or is a run of another command or configuration (the
            differences are listed).
    """
    if run.is_file():
        raise RunError(f"{run} is a file; --out takes a folder.")
    if not run.is_dir():
        return
    card = run / "run.yaml"
    if not card.exists():
        others = sorted(
            path.name for path in run.iterdir() if path.name not in (LOCK, LEASE) and not path.name.endswith(".part")
        )
        if others:
            raise RunError(
                f"{run} is not empty and not a run (it holds {', '.join(others[:3])}). Choose another --out."
            )
        return
    try:
        kept = read_yaml(card)
    except ConfigError as error:
        raise RunError(f"{run} is damaged: {error}") from error
    made_by = kept.pop("command", None)
    lines = differences(_with_new_keys(kept, config), to_plain(config))
    if made_by != verb:
        lines.insert(0, f"command: {made_by} → {verb}")
    if lines:
        shown = "\n".join(f"- {line}" for line in lines)
        raise RunError(
            f"{run} was made by another configuration:\n{shown}\nChoose another --out, or repeat the old command."
        )


def _with_new_keys(kept: dict[str, Any], asked: RunConfig) -> dict[str, Any]:
    """The configuration of a run.yaml with the present keys; keys that were added since have their defaults."""
    today = to_plain(RunConfig(data=DataConfig(path=asked.data.path)))
    for name, keys in today.items():
        section = kept.setdefault(name, keys)
        if isinstance(section, dict) and isinstance(keys, dict):
            for key, default in keys.items():
                section.setdefault(key, default)
    return kept


def no_model_text(run: Path, sentence: str) -> str:
    """Why a search that could not tell left no model, and how to get one."""
    return (
        f"{run} has no model: not trained enough to tell. {sentence} `segdecay report {run}` shows what to try. To "
        "get a model anyway, run its command again with --refit anyway."
    )


def check_same(run: Path, file: str, key: str, value: str, what: str) -> None:
    """Refuse a run whose `file` was made from other data or folds.

    Raises:
        RunError: the fingerprints differ, or the file is damaged.
    """
    path = run / file
    if not path.exists():
        return
    try:
        kept = read_json(path)[key]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}. Choose another --out.") from error
    if kept != value:
        raise RunError(
            f"{run} was made from other {what}: its fingerprint was {str(kept)[:12]}, now it is {value[:12]}. "
            "Restore the data, or choose another --out."
        )


def check_same_mean(run: Path, exclude_from_mean: Sequence[str]) -> None:
    """Refuse a run whose means left out other classes: its matrices stay valid, its scores and verdict do not.

    Raises:
        RunError: the lists differ, or data.json is damaged.
    """
    path = run / "data.json"
    if not path.exists():
        return
    try:
        kept = [str(name) for name in read_json(path).get("exclude_from_mean", [])]
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}. Choose another --out.") from error
    if sorted(kept) != sorted(exclude_from_mean):
        was, now = (", ".join(names) or "no class" for names in (kept, exclude_from_mean))
        raise RunError(
            f"{run} left {was} out of its means, but exclude_from_mean in dataset.yaml now lists {now}: scores would "
            "not be comparable. Restore the line, or choose another --out."
        )


@dataclass
class OpenRun:
    """A locked run. `room_bytes`: upper bound of what it may still write, if known."""

    room_bytes: int | None = None


@contextmanager
def open_run(
    run: Path, config: RunConfig, verb: str, *, wait: bool = False, say: Callable[[str], None] = lambda _line: None
) -> Iterator[OpenRun]:
    """Lock a run's folder while the block runs; the folder is created if it does not exist.

    Args:
        run: the folder.
        config: the configuration of the run.
        verb: the command.
        wait: wait for another process that works on the folder instead of raising.
        say: called with a message while waiting.

    Raises:
        DiskFullError: the disk is full, also in the block; names the space that is needed.
        RunError: another process works on the folder, it belongs to another run, or it cannot be written.
    """
    check_folder(run, config, verb)
    opened = OpenRun()
    with _full_disk_told(run, opened), _locked(run, wait, say), _leased(run, wait, say):
        if not (run / "run.yaml").exists():
            content = yaml.safe_dump({"command": verb}) + to_yaml(config)
            write_bytes(run / "run.yaml", content.encode())
        yield opened


@contextmanager
def _full_disk_told(run: Path, opened: OpenRun) -> Iterator[None]:
    try:
        yield
    except DiskFullError as error:
        raise DiskFullError(error.path, opened.room_bytes) from error
    except OSError as error:
        if not DiskFullError.is_told_by(error):
            raise
        raise DiskFullError(str(error.filename or run), opened.room_bytes) from error


@contextmanager
def _locked(run: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """The operating system's lock, if the file system supports it; it ends with its process."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / LOCK, fallback_to_soft=False)  # a soft lock would outlive its process
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            say(f"Another segdecay works on {run}{_who(run)}; waiting for it.")
            lock.acquire()
    except Timeout as error:
        raise _refusal(run, _who(run)) from error
    except NotImplementedError:
        yield  # without locks only the lease protects the folder
        return
    except OSError as error:
        if DiskFullError.is_told_by(error):
            raise
        if error.errno not in NO_LOCKS:
            raise RunError(f"{run} cannot be written: {error.strerror or error}. Choose another --out.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _leased(run: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """A lease in addition to the lock (lock.py), since some network file systems grant a lock to several processes."""
    while True:
        lease = Lease(run / LEASE)
        try:
            lease.take(say)
            break
        except HeldError as error:
            if not wait:
                raise _refusal(run, f" ({error.holder.words()})") from error
            say(f"Another segdecay works on {run} ({error.holder.words()}); waiting for it.")
            time.sleep(WAIT_S)
    try:
        yield
    except KeyboardInterrupt as error:
        if lease.lost is None:
            raise
        raise RunError(
            f"{lease.lost.words()} took over {run} while this process did not respond. Finished results are kept; "
            "the other process goes on."
        ) from error
    finally:
        lease.release()


def _who(run: Path) -> str:
    """The holder of a lock by its lease, which is written just after the lock is taken; else empty."""
    holder = read_holder(run / LEASE)
    return f" ({holder.words()})" if holder is not None else ""


def _refusal(run: Path, who: str) -> RunError:
    return RunError(f"Another segdecay works on {run}{who}. Wait for it (--wait does so), or choose another --out.")


def _is_readable(path: Path) -> bool:
    try:
        return isinstance(read_json(path), dict)
    except (OSError, ValueError):
        return False


def write_environment(run: Path, command: str, devices: list[str], workers: int, trials: int) -> None:
    """Write environment.json at the first start of a run, and again if the file is damaged."""
    path = run / "environment.json"
    if path.exists() and _is_readable(path):
        return
    found = Environment(
        command=command,
        python=sys.version.split()[0],
        packages=package_versions(),
        machine=f"{platform.system()} {platform.machine()}",
        device=", ".join(devices),
        segdecay=package_versions().get("segdecay", "unknown"),
        started=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        workers=workers,
        trials=trials,
    )
    write_json(path, found)

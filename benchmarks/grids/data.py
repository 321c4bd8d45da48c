"""The data sets of benchmarks: copies in a work folder, described as `segdecay init` or this file describes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# Value 11 of its masks is no class, and its 4 films are too few for folds of groups: blocks of each film in turn.
DESCRIBED = {"camvid-small": "ignore: [11]\ngroup_pattern: '^(?P<group>[^_]+)_'\nfolds: blocks\nflip: horizontal\n"}
BATCHES = "cifar-10-batches-bin"


def segdecay(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; both streams come back."""
    command = [sys.executable, "-m", "segdecay.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def prepare(data: str, folder: Path | None, work: Path) -> str | None:
    """What `segdecay tune` takes for a data set: digits as it is, CIFAR-10 by its folder, others as a described copy.

    Args:
        data: name of a folder in `folder`, or digits.
        folder: with the data sets; None: there are none.
        work: gets the copy, in data/.

    Returns:
        None where the data set is not in `folder`.

    Raises:
        SystemExit: `segdecay init` does not know how to describe it.
    """
    if data == "digits":
        return data
    if folder is None or not (folder / data).is_dir():
        return None
    if (folder / data / BATCHES).is_dir():
        return f"cifar10:{folder / data}"
    copy = work / "data" / data
    if not copy.is_dir():
        beside = copy.with_name(f".{data}.part")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(folder / data, beside, copy_function=shutil.copyfile)
        beside.chmod(0o755)
        if data in DESCRIBED:
            (beside / "dataset.yaml").write_text(DESCRIBED[data])
        beside.rename(copy)
    if not (copy / "dataset.yaml").is_file():
        found = segdecay("init", str(copy), "--write")
        if found.returncode:
            raise SystemExit(f"init {copy}: {found.stderr or found.stdout}")
    return str(copy)

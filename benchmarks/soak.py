"""Random kills during one search: the verdict and every bit of the model must equal those of an undisturbed run.

    python benchmarks/soak.py --kills 100

Each kill ends the driver, one worker, or all processes with SIGKILL at a random moment after the search has progressed.
Scenes of 16 x 16 pixels, two epochs per trial, a checkpoint after every step. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from segdecay.testing.small_trials import small_trials

DRIVER = """
import sys
from pathlib import Path
from segdecay.workflows.request import build_config
from segdecay.workflows.progress import build_watcher
from segdecay.execution.options import Execution
from segdecay.workflows.tune import tune
if __name__ == "__main__":
    data, run, *settings = sys.argv[1:]
    with build_watcher(quiet=True, as_json=False) as watcher:
        tune(build_config(data, None, settings, {}), Path(run),
             Execution(workers=2, device="cpu", checkpoint_every_s=0.0), watcher)
"""
SETTINGS = ["search.race=false", "search.folds=2", "search.resamples=200", "model.width=4", "model.depth=1",
            "training.epochs=2", "training.batch_size=4", "optimizer.lr=0.01"]  # fmt: skip
WHOM = ("driver", "worker", "all")
TRIALS_A_KILL = 2.4  # trials of the search per kill: some kills hit a driver that has only started


def _settings(kills: int) -> list[str]:
    strengths = max(3, round(kills * TRIALS_A_KILL / 2))
    return [*SETTINGS, f"search.grid={[0, *(round(0.01 * (step + 1), 6) for step in range(strengths))]}"]


def _below(parent: int) -> list[int]:
    """All descendants of a process, by /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                above = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(above, []).append(int(entry.name))
    found, left = [], [parent]
    while left:
        own = children.get(left.pop(), [])
        found += own
        left += own
    return found


def _trial_processes(driver: int) -> list[int]:
    """The workers: children of the fork server, which is a child of the driver."""
    servers = {pid for pid in _below(driver) if int(_stat(pid)[1]) == driver}
    return [pid for pid in _below(driver) if pid not in servers]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["", "-1"]


def _strike(process: subprocess.Popen[bytes], whom: str, draw: random.Random) -> bool:
    """Kill a process of this kind; returns False if there was none."""
    targets = [process.pid]
    if whom == "worker":
        workers = _trial_processes(process.pid)
        targets = [draw.choice(workers)] if workers else []
    elif whom == "all":
        targets += _below(process.pid)
    for pid in targets:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(targets)


def _finished(run: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in run.glob("trials/*/*/trial.json")}


def soak(command: list[str], run: Path, kills: int, draw: random.Random, trials: int) -> dict[str, Any]:
    """Kill `kills` times, then let the search end; returns the kills by kind and the number of starts.

    A worker killed twice at the same trial gives that trial up; as its message says, the same command tries it again.
    """
    killed: Counter[str] = Counter()
    starts, twice, known = 0, 0, dict[str, int]()
    while True:
        process, starts = subprocess.Popen(command, stdout=subprocess.DEVNULL), starts + 1
        base = len(list(run.glob("trials/*/*")))
        while process.poll() is None:
            time.sleep(draw.uniform(0.02, 0.3))
            moved = len(list(run.glob("trials/*/*"))) > base
            if killed.total() < kills and moved and process.poll() is None:
                whom = draw.choice(WHOM)
                killed[whom] += _strike(process, whom, draw)
                base = len(list(run.glob("trials/*/*"))) - (whom != "worker")
                if whom != "worker":
                    process.wait()
        now = _finished(run)
        twice += sum(now.get(path) != stamp for path, stamp in known.items())
        known = now
        if process.returncode == 0 and len(now) == trials:
            return {"kills": dict(killed), "starts": starts, "trials": len(now), "trained_twice": twice}
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"A driver ended with {process.returncode} after {killed.total()} kills.")


def _verdict(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    values["cost"].pop("seconds")
    values.pop("advice")  # its commands name the folder, its times are measured
    return values


def _tensors(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def measure(kills: int, seed: int) -> dict[str, Any]:
    """One undisturbed run and one with kills, compared."""
    with small_trials() as trials, tempfile.TemporaryDirectory() as folder:
        driver = Path(folder) / "driver.py"
        driver.write_text(DRIVER, encoding="utf-8")
        data, one, other = trials.root / "squares", Path(folder) / "undisturbed", Path(folder) / "killed"
        command = [sys.executable, str(driver), str(data)]
        settings = _settings(kills)
        subprocess.run([*command, str(one), *settings], check=True, stdout=subprocess.DEVNULL)
        start = time.monotonic()
        found = soak([*command, str(other), *settings], other, kills, random.Random(seed), len(_finished(one)))  # noqa: S311 - of moments, not secrets
        return {
            **found,
            "seconds": round(time.monotonic() - start),
            "same_verdict": _verdict(one) == _verdict(other),
            "same_bits": _tensors(one) == _tensors(other),
            "left_over": len([*other.rglob("*.part"), *other.rglob("checkpoint")]),
        }


def main() -> None:
    """Print the result as JSON; exit with 1 if a kill changed anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.kills, given.seed)
    print(json.dumps(found))
    is_sound = found["same_verdict"] and found["same_bits"] and not found["trained_twice"] and not found["left_over"]
    sys.exit(0 if is_sound else 1)


if __name__ == "__main__":
    main()

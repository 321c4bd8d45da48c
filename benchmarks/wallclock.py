"""Wall time of `segdecay tune digits`, compared with the same grid by Lightning, smp and Optuna.

    python benchmarks/wallclock.py --work /tmp/wallclock                # whole grid on both sides: hours
    python benchmarks/wallclock.py --work /tmp/wallclock --trials 5      # the peer's other trainings are extrapolated

Both sides search nine strengths on the same number of folds with the same network, schedule and batches. Our time is
that of the whole command (a race or a grid, refits, model, report), with one worker per core; theirs is that of the
grid only (peers/optuna_grid.py), without a final training. Environment variables that set numbers of threads are
removed, so that each side uses the cores in its default way. Other programs on these cores distort the ratio (most for
threads that wait for each other), so the script refuses to run on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PEER = Path(__file__).parent / "peers" / "optuna_grid.py"
MOST_LOAD = 0.5  # runnable processes per core, mean of the last minute
STRENGTHS = "[0,0.25,0.5,1,2,4,8,16,32]"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}}


def run_peer(work: Path, folds: int, epochs: int, trials: int | None) -> dict[str, object]:
    """The output of peers/optuna_grid.py."""
    command = [sys.executable, str(PEER), "--work", str(work), "--folds", str(folds), "--epochs", str(epochs)]
    command += [] if trials is None else ["--trials", str(trials)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_tune(work: Path, folds: int, epochs: int, more: list[str]) -> tuple[float, dict[str, object]]:
    """Seconds of the whole command, and its verdict."""
    out = work / "tune"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "segdecay.cli.main", "tune", "digits", "--out", str(out), "--quiet"]
    command += ["--folds", str(folds), "--epochs", str(epochs), "--set", f"search.grid={STRENGTHS}", *more]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    taken = time.perf_counter() - started
    verdict: dict[str, object] = json.loads((out / "verdict.json").read_text())
    return taken, verdict


def main() -> None:
    """Run both sides, one after the other, and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--trials", type=int, help="trainings of the peer that are timed; the rest is extrapolated")
    parser.add_argument("--anyway", action="store_true", help="run on a busy machine; the ratio is then meaningless")
    parser.add_argument("--tune", nargs=argparse.REMAINDER, default=[], help="more options of tune, last on the line")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    if load > MOST_LOAD * cores and not asked.anyway:
        raise SystemExit(
            f"load {load:.1f} on {cores} cores: other programs run; wait, or use --anyway to test the script"
        )
    print(f"{cores} cores, load before {load:.1f}", flush=True)
    peer = run_peer(asked.work, asked.folds, asked.epochs, asked.trials)
    how = f"extrapolated from {peer['trained']}" if peer["extrapolated"] else "all trained"
    print(f"Lightning + smp + Optuna: {peer['seconds']:.0f} s, {peer['trials']} trainings ({how}); {peer}", flush=True)
    taken, verdict = run_tune(asked.work, asked.folds, asked.epochs, asked.tune)
    print(
        f"segdecay tune: {taken:.0f} s; kind {verdict['kind']}, strength {verdict['strength']}, cost {verdict['cost']}"
    )
    print(f"ratio {float(str(peer['seconds'])) / taken:.2f}")


if __name__ == "__main__":
    main()

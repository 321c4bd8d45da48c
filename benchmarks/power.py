"""How often the verdict of `segdecay tune digits` is `chosen` when the random draws of its trainings change.

    python benchmarks/power.py --runs 10 --work DIR    # about 4 minutes per run on two cores; can be resumed

The data and folds are the same in all runs; initial weights, order and augmentation are not (`search.seeds=[K]`). So
this is the power on these data, not on ten data sets. Writes benchmarks/records/power_digits.json, one row per run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "records" / "power_digits.json"


def row_of(seed: int, verdict: dict[str, Any]) -> dict[str, Any]:
    """The result of a run."""
    best = verdict["evidence"]["best_difference"]
    return {
        "seed": seed,
        "kind": verdict["kind"],
        "D": verdict["evidence"]["best"]["value"],
        "difference": best["mean"],
        "interval": best["interval"],
        "zero": verdict["zero"]["mean"],
        "trainings": verdict["cost"]["trials"],
    }


def main() -> None:
    """Run every seed, write the record, print the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.runs):
        run = asked.work / f"seed-{seed}"
        command = [sys.executable, "-m", "segdecay.cli.main", "tune", "digits", "--out", str(run), "--quiet"]
        subprocess.run([*command, "--set", f"search.seeds=[{seed}]"], check=True)
        rows.append(row_of(seed, json.loads((run / "verdict.json").read_text())))
        print(rows[-1], flush=True)
    RECORD.write_text(json.dumps({"command": "python benchmarks/power.py", "runs": rows}, indent=1) + "\n")
    chosen = sum(row["kind"] == "chosen" for row in rows)
    print(f"chosen in {chosen} of {len(rows)} runs")


if __name__ == "__main__":
    main()

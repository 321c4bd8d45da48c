"""What the verdict says of networks that were trained for too short, for long enough, and in between.

    python benchmarks/trained_enough.py --work DIR                    # digits at 2 to 80 epochs
    python benchmarks/trained_enough.py --work DIR --data FOLDER      # and four data sets in FOLDER (images/, masks/)

Every run is `segdecay tune` as a user types it, with 3 folds and a few strengths; the same command goes on where it was
interrupted. Writes benchmarks/records/trained_enough.json, one row a run: the verdict's kind and first sentence, the
scores of no decay (training, validation), the trivial predictor's, the classes that were not learned, and the largest
difference with its interval. A row keeps its place if the other runs were not asked for.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grids.data import prepare, segdecay

RECORD = Path(__file__).parent / "records" / "trained_enough.json"
LEAST_COST_FIRST = (2, 5, 10, 20, 40, 80)


@dataclass(frozen=True)
class Case:
    """A data set and the length of its trainings.

    Attributes:
        size: HxW of the images; None as they are.
        options: further options of the command line.
    """

    data: str
    epochs: int
    size: str | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.data}-{self.epochs}"

    def arguments(self, path: str, out: Path) -> list[str]:
        grid = "search.grid=[0,1,4,16]"
        words = ["tune", path, "--epochs", str(self.epochs), "--folds", "3", "--set", grid, "--out", str(out)]
        return [*words, *(("--size", self.size) if self.size else ()), *self.options]


CASES = (
    *(Case("digits", epochs) for epochs in LEAST_COST_FIRST),
    Case("nuclei-small", 3, "64x64"),
    Case("camvid-small", 3, "48x64"),
    Case("retina-vessels-small", 20, None),
    Case("steel-defects-small", 20, "64x64"),
    Case("nuclei-small", 30, "64x64"),
    Case("camvid-small", 15, "48x64"),
)


def row_of(case: Case, verdict: dict[str, Any], code: int) -> dict[str, Any]:
    """What the table shows of a run."""
    training, best = verdict["training"], verdict["evidence"].get("best_difference") or {}
    without = next(one for one in verdict["settings"] if one["strength"]["value"] == 0)
    return {
        "run": case.name,
        "command": "segdecay " + " ".join(case.arguments(case.data, Path("RUN"))),
        "exit_code": code,
        "kind": verdict["kind"],
        "sentence": verdict["sentence"],
        "cautions": [one["code"] for one in verdict["cautions"]],
        "validation": training["score"],
        "train": training["train"],
        "train_without_decay": without["train_mean"],
        "validation_without_decay": without["mean"],
        "trivial": training["trivial_score"],
        "above_trivial": training["above_trivial"],
        "not_learned": len(training["not_learned"]),
        "classes": training["classes"],
        "difference": best.get("mean"),
        "interval": best.get("interval"),
        "trials": verdict["cost"]["trials"],
        "seconds": verdict["cost"]["seconds"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as lines of markdown, for docs/verdict.md."""
    lines = [
        "| run | train, validation (no decay) | best minus trivial | not learned | kind | cautions of the recipe |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["above_trivial"]["interval"]
        scores = f"{row['train_without_decay']:.3f}, {row['validation_without_decay']:.3f}"
        above = f"{row['above_trivial']['mean']:+.3f} ({low:+.3f} to {high:+.3f})"
        recipe = ", ".join(f"`{code}`" for code in row["cautions"] if code.startswith(("still", "rate"))) or "–"
        learned = f"{row['not_learned']} of {row['classes']}"
        lines.append(f"| {row['run']} | {scores} | {above} | {learned} | `{row['kind']}` | {recipe} |")
    return lines


def main() -> None:
    """Run every case that is asked for and whose data are there; write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and copies of data")
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--only", nargs="*", help="names, as digits-2")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    rows = {row["run"]: row for row in (json.loads(RECORD.read_text())["runs"] if RECORD.exists() else [])}
    for case in CASES:
        path = prepare(case.data, asked.data, asked.work)
        if path is None or (asked.only and case.name not in asked.only):
            continue
        out = asked.work / case.name
        done = segdecay(*case.arguments(path, out))
        if done.returncode not in (0, 1) or not (out / "verdict.json").is_file():
            print(f"{case.name}: exit code {done.returncode}\n{done.stderr[-2000:]}", flush=True)
            continue
        (out / "terminal.txt").write_text(done.stdout + done.stderr)
        rows[case.name] = row_of(case, json.loads((out / "verdict.json").read_text()), done.returncode)
        print(json.dumps(rows[case.name], indent=1), flush=True)
        ordered = [rows[one.name] for one in CASES if one.name in rows]
        RECORD.write_text(
            json.dumps({"command": "python benchmarks/trained_enough.py", "runs": ordered}, indent=1) + "\n"
        )
    print("\n".join(table([rows[one.name] for one in CASES if one.name in rows])))


if __name__ == "__main__":
    main()

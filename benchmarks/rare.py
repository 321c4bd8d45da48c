"""The effect of each option for rare classes on every class, by whole searches over λ on the same folds.

    python benchmarks/rare.py --data DIR --work RUNS --size 72x96 --epochs 15 --folds 3

Every arm is one `segdecay tune` with all other settings at their defaults; it can be resumed. An arm is scored at the
strength that its verdict refits. Each IoU has its interval (95 %, images resampled in their fold, 2,000 times) and the
paired interval of its difference from the arm without any option, over the folds that both have. With one seed per arm,
these intervals do not include the variation between trainings. Writes benchmarks/records/rare_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdecay.metrics.confusion import intersection_union, iou, read_confusions

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

RECORDS = Path(__file__).parent / "records"
RESAMPLES = 2000
PLAIN = "plain"
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: ("loss.class_weights=none",),
    "inverse_sqrt (default)": ("loss.class_weights=inverse_sqrt",),
    "median": ("loss.class_weights=median",),
    "effective number, images": ("loss.class_weights=effective_number", "loss.class_weights_beta=0.99"),
    "effective number, components": (
        "loss.class_weights=effective_number",
        "loss.class_weights_beta=0.99",
        "loss.class_weights_count=components",
    ),
    "images by class": ("loss.class_weights=none", "augment.class_crops=0.5"),  # whole images: chosen, not cropped
    "windows of 32x48": ("loss.class_weights=none", "augment.crop=[32,48]"),
    "class-aware windows of 32x48": ("loss.class_weights=none", "augment.crop=[32,48]", "augment.class_crops=0.5"),
    "copy-paste": ("loss.class_weights=none", "augment.copy_paste=0.5"),
    "cross-entropy + Dice": ("loss.class_weights=none", "loss.name=cross_entropy+dice"),
}


def matrices_of(run: Path, verdict: dict[str, Any]) -> dict[str, I64]:
    """Confusion matrices (N, C, C) of each fold and seed at the strength that is refitted."""
    wanted = verdict["strength"]["value"]
    found = {}
    for path in sorted((run / "trials").glob("*/*/trial.json")):
        trial = json.loads(path.read_text())
        if trial["strength"]["value"] == wanted and (path.parent / "confusion.npz").exists():
            found[path.parent.name] = read_confusions(path.parent / "confusion.npz")
    return found


def scores_of(matrices: I64) -> F64:
    """IoU of every class and their mean, (..., C + 1), of summed matrices (..., C, C)."""
    per_class = iou(*intersection_union(matrices))
    return np.concatenate([per_class, np.nanmean(per_class, axis=-1, keepdims=True)], axis=-1)


def resampled(folds: dict[str, I64], names: list[str]) -> F64:
    """Mean over folds of every score in every resample, (R, C + 1); the same draws for all arms."""
    means = []
    for name in names:
        random = np.random.default_rng(sum(name.encode()))
        matrices = folds[name]
        counts = random.multinomial(len(matrices), np.full(len(matrices), 1 / len(matrices)), size=RESAMPLES)
        summed = (counts @ matrices.reshape(len(matrices), -1)).reshape(RESAMPLES, *matrices.shape[1:])
        means.append(scores_of(summed))
    return np.asarray(np.nanmean(means, axis=0))


def centre(folds: dict[str, I64], names: list[str]) -> F64:
    """Mean over folds of every score (C + 1)."""
    return np.asarray(np.nanmean([scores_of(folds[name].sum(axis=0)) for name in names], axis=0))


def row_of(arm: str, verdict: dict[str, Any], folds: dict[str, I64], plain: dict[str, I64]) -> dict[str, Any]:
    """Scores of one arm with intervals, and its differences to the plain one."""
    names = sorted(folds)
    shared = sorted(set(folds) & set(plain))
    apart = resampled(folds, shared) - resampled(plain, shared)
    return {
        "arm": arm,
        "kind": verdict["kind"],
        "D": verdict["strength"]["value"],
        "trainings": verdict["cost"]["trials"],
        "folds": len(names),
        "classes": [*(row["name"] for row in verdict["classes"]), "mean"],
        "support": [row["support"] for row in verdict["classes"]],
        "iou": centre(folds, names).round(4).tolist(),
        "interval": np.quantile(resampled(folds, names), [0.025, 0.975], axis=0).T.round(4).tolist(),
        "shared_folds": len(shared),
        "difference": (centre(folds, shared) - centre(plain, shared)).round(4).tolist(),
        "difference_interval": np.quantile(apart, [0.025, 0.975], axis=0).T.round(4).tolist(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Classes from the most to the least frequent, one column per arm, as Markdown."""
    classes, support = rows[0]["classes"], rows[0]["support"]
    order = [*sorted(range(len(support)), key=lambda c: -support[c]), len(support)]
    lines = ["| class | " + " | ".join(row["arm"] for row in rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for c in order:
        trials = []
        for row in rows:
            low, high = row["difference_interval"][c]
            mark = "" if row["arm"] == PLAIN or low <= 0 <= high else (" ▲" if low > 0 else " ▼")
            trials.append(f"{row['iou'][c]:.3f} ({row['interval'][c][0]:.3f}, {row['interval'][c][1]:.3f}){mark}")
        share = "" if c == len(support) else f" {support[c] / sum(support):.1%}"
        lines.append(f"| {classes[c]}{share} | " + " | ".join(trials) + " |")
    lines.append("| verdict | " + " | ".join(f"{row['kind']}, D = {row['D']:g}" for row in rows) + " |")
    lines.append("| folds · trainings | " + " | ".join(f"{row['folds']} · {row['trainings']}" for row in rows) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train every arm, write the record, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--name", default="camvid")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    for option, default in (("size", "72x96"), ("epochs", "15"), ("folds", "3")):
        parser.add_argument(f"--{option}", default=default)
    asked = parser.parse_args()
    rows, plain = list[dict[str, Any]](), dict[str, I64]()
    for arm in [PLAIN, *(arm for arm in asked.arms if arm != PLAIN)]:
        run = asked.work / "".join(letter if letter.isalnum() else "-" for letter in arm)
        settings = [part for setting in ARMS[arm] for part in ("--set", setting)]
        same = ["--size", asked.size, "--epochs", asked.epochs, "--folds", asked.folds, "--out", str(run), "--quiet"]
        command = [sys.executable, "-m", "segdecay.cli.main", "tune", str(asked.data), *same, *settings]
        subprocess.run(command, check=True)
        verdict = json.loads((run / "verdict.json").read_text())
        folds = matrices_of(run, verdict)
        plain = folds if arm == PLAIN else plain
        rows.append(row_of(arm, verdict, folds, plain))
    record = {
        "command": "python benchmarks/rare.py",
        "arguments": [asked.size, asked.epochs, asked.folds],
        "arms": rows,
    }
    (RECORDS / f"rare_{asked.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()

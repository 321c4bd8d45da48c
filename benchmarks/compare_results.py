"""Write docs/results/compare.md and its records from the folders of finished comparisons.

python benchmarks/compare_results.py RUN [RUN ...]
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
REMARKS = {  # by hand, below the tables
    "digits": "No arm can be told apart from no decay; L2 comes closest, at the same λ in every fold. Of all pairs "
    "only L2 and max norm are\ntold apart. Three strengths are a coarse grid: decoupled had D = 0.5 (.651), 4 (.498) "
    "and 16 (.225) and nothing between.\n`segdecay tune digits` finds D = 4 (.775 against .688 without decay) with "
    "class weights, on five folds; here no arm has class\nweights. A rank in this table therefore also depends on "
    "the grid and on the loss. The machine was busy: compare epochs, not\ntimes.\n",
    "nuclei": "Fold 2 differs from the others: its validation score is far below the training score for every arm and "
    "strength. It makes the\nintervals wide, and with three folds smaller differences cannot be detected.\n\n"
    "When this was recorded, dropout was placed after every block; now it is placed after the two deepest "
    "(docs/compare.md).\n",
}


def table(found: dict[str, Any]) -> str:
    """The arms of a comparison as Markdown, the best first."""
    names = f"letters | {found['criterion']} | interval | from no decay | p (Holm) | gap | zeros | chosen"
    names += " | epochs | time"
    lines = [f"| arm | {names} |", "|---" * 11 + "|"]
    to_none = {pair["second"]: pair for pair in found["pairs"] if pair["first"] == "none"}
    for arm in found["arms"]:
        pair = to_none.get(arm["name"])
        low, high = arm["interval"]
        difference, p = ("", "") if pair is None else (f"{-pair['difference'] or 0:+.3f}", f"{pair['p_holm']:.3g}")
        zeros = "" if arm["zeros"] is None else f"{arm['zeros']:.1%}"
        shown = ["no decay" if value == "none" else value for value in arm["chosen"]]
        chosen = ", ".join(shown) if arm["axis"] else ""
        cost = arm["cost"]
        lines.append(
            f"| {arm['label']} | {arm['letters']} | {arm['mean']:.3f} | {low:.3f} to {high:.3f} | {difference} | {p} | "
            f"{arm['gap']:+.3f} | {zeros} | {chosen} | {cost['epochs']} | {cost['seconds'] / 60:.1f} min |"
        )
    return "\n".join(lines)


def section(name: str, found: dict[str, Any], command: str) -> str:
    """One comparison: its command, sentence, table and cost."""
    told = sum(pair["told_apart"] for pair in found["pairs"])
    cost = found["cost"]
    nothing = "The order of the arms may be due to chance. " if not told else ""
    return (
        f"## {name}\n\n```sh\n{command}\n```\n\n{found['sentence']} {nothing}"
        f"{told} of {len(found['pairs'])} pairs are told apart.\n\n{table(found)}\n\n"
        f"{found['folds']} folds by {found['fold_method']}, seeds {found['seeds']}, "
        f"{found['strengths']} strengths per arm; "
        f"{cost['trials']} trials, {cost['epochs']} epochs, {cost['seconds'] / 60:.0f} min of training in total.\n"
        + (f"\n{REMARKS[name]}" if name in REMARKS else "")
    )


def main() -> None:
    """Read the runs, copy the records, write the page."""
    head = (
        "# Regularizers at equal budget, measured\n\nScores: in every fold at the strength that the other folds chose. "
        "Arms that share a letter cannot be told apart (all pairs, Holm). How: [compare](../compare.md). "
        "Records: docs/records/compare.\n"
    )
    parts = [head]
    for run in map(Path, sys.argv[1:]):
        found = json.loads((run / "comparison.json").read_text())
        name = json.loads((run / "data.json").read_text())["name"]
        command = json.loads((run / "environment.json").read_text())["command"]
        words = [word for word in command.split() if not word.startswith("/")]
        shown = " ".join(words).replace("compare --arms", f"compare {name} --arms").replace(" --out", "")
        kept = DOCS / "records" / "compare" / f"{name}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "comparison.json", kept)
        parts.append(section(name, found, shown))
    (DOCS / "results" / "compare.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()

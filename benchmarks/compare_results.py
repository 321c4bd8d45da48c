"""docs/results/compare.md and its records from the folders of finished comparisons.

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
    "digits": "No arm can be told apart from none; L2 comes nearest, at the same λ in every fold. Of all pairs only L2 "
    "and\nmax norm differ. Three strengths lie far apart: decoupled had D = 0.5 (.651), 4 (.498) and 16 (.225) and "
    "nothing\nbetween. `segdecay tune digits` finds D = 4 (.775 against .688 at none) with class weights, on five "
    "folds; here no arm\nhas class weights. So a place in this table speaks of the grid and of the loss, too. Times "
    "were taken beside other work:\ncompare epochs.\n",
    "nuclei": "Fold 2 is unlike the others: validation is far below train for every arm and strength (the lines of the "
    "command).\nIt makes the intervals wide; with three folds nothing smaller than that is seen.\n\n"
    "Dropout stood after every block when this was recorded; now it stands after the two deepest (docs/compare.md).\n",
}


def table(found: dict[str, Any]) -> str:
    """The arms of a comparison as Markdown, the best first."""
    names = f"letters | {found['criterion']} | interval | to none | p (Holm) | gap | zeros | chosen | epochs | time"
    lines = [f"| arm | {names} |", "|---" * 11 + "|"]
    to_none = {pair["second"]: pair for pair in found["pairs"] if pair["first"] == "none"}
    for arm in found["arms"]:
        pair = to_none.get(arm["name"])
        low, high = arm["interval"]
        difference, p = ("", "") if pair is None else (f"{-pair['difference'] or 0:+.3f}", f"{pair['p_holm']:.3g}")
        zeros = "" if arm["zeros"] is None else f"{arm['zeros']:.1%}"
        chosen = ", ".join(arm["chosen"]) if arm["axis"] else ""
        cost = arm["cost"]
        lines.append(
            f"| {arm['label']} | {arm['letters']} | {arm['mean']:.3f} | {low:.3f} to {high:.3f} | {difference} | {p} | "
            f"{arm['gap']:+.3f} | {zeros} | {chosen} | {cost['epochs']} | {cost['seconds'] / 60:.1f} min |"
        )
    return "\n".join(lines)


def section(name: str, found: dict[str, Any], command: str) -> str:
    """One comparison: its command, what it says, its table and cost."""
    told = sum(pair["told_apart"] for pair in found["pairs"])
    cost = found["cost"]
    nothing = "The order of the arms may be luck. " if not told else ""
    return (
        f"## {name}\n\n```sh\n{command}\n```\n\n{found['sentence']} {nothing}"
        f"{told} of {len(found['pairs'])} pairs are told apart.\n\n{table(found)}\n\n"
        f"{found['folds']} folds by {found['fold_method']}, seeds {found['seeds']}, "
        f"{found['strengths']} strengths an arm; "
        f"{cost['trials']} trainings, {cost['epochs']} epochs, {cost['seconds'] / 60:.0f} min of trainings added up.\n"
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

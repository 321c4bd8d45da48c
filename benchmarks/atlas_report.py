"""Write docs/results/atlas.md and its figures from the records of the atlas alone; nothing is trained or simulated.

    python benchmarks/atlas_report.py

The records are benchmarks/records/atlas/*.npz (benchmarks/atlas.py) and the three grids of benchmarks/record_grid.py.
Every number and sentence on the page is computed here, so the page says as many grids as are finished.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from grids.earlier import RECORDED, read_earlier
from grids.figures import best_svg, classes_svg, curves_svg, name_of, with_svg
from grids.judging import ClassRow, Judged, judge
from grids.recipes import RECIPES
from grids.records import RECORDS, read_records
from scipy import stats

from segdecay.errors import SegdecayError
from segdecay.report.text.format import difference, interval, number, score
from segdecay.search.sentences import verdict_title
from segdecay.utils.files import write_bytes

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGE, FIGURES = "atlas.md", "atlas"
LEAST_SETS = 8  # data sets; with fewer no correlation over them is shown
BOOTSTRAPS = 2000
DEFAULT = 0.01  # λ of torch's AdamW
RARE = 0.05  # of the pixels
NO_CHANGES = "No changed recipe (width, length, half the images, SGD, second seed) is finished yet."
KINDS = ("chosen", "edge", "flat", "zero", "undertrained")


def read_grids(folder: Path = RECORDS) -> tuple[list[Judged], list[str]]:
    """All finished grids with their verdicts, the atlas by name, then the earlier ones; and the grids left out."""
    records = [*read_records(folder), *(read_earlier(name) for name in RECORDED)]
    left_out = [
        f"{record.facts.name} (without decay {why})"
        for record in records
        if (why := record.reason_dropped(0)) is not None
    ]
    return [judge(record) for record in records if record.reason_dropped(0) is None], left_out


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], text[1].replace(" ", ""), *text[2:]])


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed([]), listed(["a"]), listed(["a", "b", "c"])
    ('no grid', 'a', 'a, b and c')
    """
    if not names:
        return "no grid"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count_of(n: int, noun: str) -> str:
    """A count with its noun.

    >>> count_of(1, "grid"), count_of(3, "grid")
    ('1 grid', '3 grids')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"


def data_sets(grids: Sequence[Judged]) -> list[Judged]:
    """One grid a data set, the base recipe or else an earlier one; only those that are trained enough."""
    found: dict[str, Judged] = {}
    for grid in grids:
        if grid.facts.change == "base":
            found[grid.facts.data] = grid
    for grid in grids:
        if grid.facts.change.startswith("earlier"):
            found.setdefault(grid.facts.data, grid)
    return [found[name] for name in sorted(found) if found[name].check.is_enough]


def grid_row(grid: Judged) -> list[str]:
    """A grid's row in the table of all grids."""
    facts, best = grid.facts, grid.compared
    return [
        name_of(grid),
        str(len(grid.classes)),
        str(facts.images),
        f"{facts.size[0]}×{facts.size[1]}",
        str(grid.steps),
        f"{len(grid.points)} × {grid.folds} × {grid.seeds}",
        score(grid.none.train),
        score(grid.none.score),
        difference(grid.gap),
        "yes" if grid.check.is_enough else "no",
        number(best.value),
        difference(best.difference),
        interval(best.interval, signed=True),
        f"`{grid.kind}`",
    ]


def fixed_rows(grids: Sequence[Judged]) -> list[list[str]]:
    """A row for every value that tools ship, in every grid of its optimizer."""
    rows = []
    for grid in grids:
        for fixed in grid.fixed:
            below = fixed.value < grid.points[1].value
            rows.append(
                [
                    name_of(grid),
                    f"{number(fixed.lambda_)} ({fixed.shipped_by})",
                    number(fixed.value),
                    f"{100 * math.exp(-fixed.value):.1f} %",
                    difference(fixed.gain) + (" *" if below else ""),
                    number(grid.compared.value) if (grid.compared.difference or 0) > 0 else "0",
                    difference(-fixed.loss),
                ]
            )
    return rows


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Spearman's rank correlation with a 95 % bootstrap interval over the pairs (percentiles, fixed seed)."""
    one, two = np.array(first), np.array(second)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(BOOTSTRAPS):
        at = random.integers(0, len(one), len(one))
        if len(set(one[at])) > 1 and len(set(two[at])) > 1:
            drawn.append(float(stats.spearmanr(one[at], two[at]).statistic))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(stats.spearmanr(one, two).statistic), (float(low), float(high))


QUANTITIES: tuple[tuple[str, Callable[[Judged], float]], ...] = (
    ("training score without decay", lambda one: float(one.none.train or math.nan)),
    ("gap without decay", lambda one: one.gap),
    ("images", lambda one: float(one.facts.images)),
    ("steps", lambda one: float(one.steps)),
    ("classes", lambda one: float(len(one.classes))),
)


def question_of_fit(grids: Sequence[Judged]) -> str:
    """What the best difference goes with, over data sets; no correlation where they are few."""
    enough = data_sets(grids)
    if len(enough) < LEAST_SETS:
        return (
            f"{count_of(len(enough), 'data set')} with a grid that is trained enough: fewer than {LEAST_SETS}, so no "
            "correlation over data sets is computed. The figure shows the points; read no rule into them."
        )
    gains = [one.compared.difference or 0.0 for one in enough]
    rows, clear = [], []
    for words, of in QUANTITIES:
        rho, bounds = rank_correlation([of(one) for one in enough], gains)
        clear += [words] if bounds[0] > 0 or bounds[1] < 0 else []
        rows.append([words, difference(rho), interval(bounds, signed=True)])
    said = (
        f"Only {listed(clear)} leaves out 0." if clear else "No interval leaves out 0: none of them tells beforehand."
    )
    head = table(["over data sets, with the best difference", "Spearman's ρ", "95 % interval"], rows)
    return f"{head}\n\n{len(enough)} data sets, one grid each; five quantities were looked at. {said}"


def answer_of(grids: Sequence[Judged]) -> str:
    """How many grids have which verdict, and which they are."""
    lines = []
    for kind in KINDS:
        names = [name_of(one) for one in grids if one.kind == kind]
        if names:
            title = verdict_title(kind, "total_decay")
            lines.append(f"- **{title}** (`{kind}`): {len(names)} of {len(grids)}: {listed(names)}.")
    worse = {name_of(one): [point.value for point in one.points if point.is_worse] for one in grids}
    named = [f"{name} from D = {number(min(values))}" for name, values in worse.items() if values]
    if named:
        lines.append(
            f"- Too strong a decay is worse than no decay, with the interval below 0, in {len(named)} of {len(grids)}: "
            f"{listed(named)}."
        )
    return "\n".join(lines)


def lead_of(grids: Sequence[Judged]) -> str:
    """The first sentences: what was found on how many grids."""
    kinds = Counter(one.kind for one in grids)
    gains = sorted(one.compared.difference or 0.0 for one in grids if one.kind in ("chosen", "edge"))
    by = f", by {difference(gains[0])}" if gains else ""
    by += f" to {difference(gains[-1])}" if len(gains) > 1 else ""
    sets = len({one.facts.data for one in grids})
    others = {
        "flat": "no difference was found",
        "zero": "training without decay has the best mean",
        "undertrained": "the networks are not trained enough to tell",
    }
    rest = [f"in {kinds[kind]} {words}" for kind, words in others.items() if kinds[kind]]
    return (
        f"On {count_of(len(grids), 'grid')} of {count_of(sets, 'data set')}, the best strength of weight decay is told "
        f"apart from no decay in {len(gains)}{by}{'; ' if rest else ''}{listed(rest) if rest else ''}."
    )


def fixed_words(grids: Sequence[Judged]) -> str:
    """The span of D and of the gain over no decay that AdamW's default has."""
    found = [one for grid in grids if grid.facts.optimizer == "adamw" for one in grid.fixed if one.lambda_ == DEFAULT]
    if not found:
        return "No grid of AdamW is finished."
    at, gains = [one.value for one in found], [abs(one.gain) for one in found]
    return (
        f"AdamW's default λ = {DEFAULT:g} lies at D = {number(min(at), 2)} to {number(max(at), 2)} in these grids: "
        f"at least {100 * math.exp(-max(at)):.1f} % is left at the end of a weight that gets no gradient, so in "
        "trainings of this length it hardly decays. Its interpolated score differs from no decay by at most "
        f"{max(gains):.3f}."
    )


def rare_words(grids: Sequence[Judged]) -> str:
    """How often single classes are better or worse at the compared strength, by share of the pixels."""
    rows = [one for grid in grids for one in grid.class_rows if one.interval is not None]

    def said(found: Sequence[ClassRow]) -> str:
        better = sum(one.interval is not None and one.interval[0] > 0 for one in found)
        worse = sum(one.interval is not None and one.interval[1] < 0 for one in found)
        return f"{better} are better and {worse} are worse"

    rare, rest = [one for one in rows if one.share < RARE], [one for one in rows if one.share >= RARE]
    return (
        "One grid a data set, at the strength with decay that has the best mean, by intervals of single classes that "
        f"leave out 0: of {len(rare)} classes with less than {RARE:.0%} of the pixels {said(rare)}; of the {len(rest)} "
        f"others {said(rest)}. Where nothing differed, about {0.05 * len(rows):.0f} of {len(rows)} would do so by "
        "chance."
    )


def change_rows(grids: Sequence[Judged]) -> list[list[str]]:
    """Every changed grid after the base of its data set; none where nothing was changed."""
    rows = []
    for base in (one for one in grids if one.facts.change == "base"):
        others = [one for one in grids if one.facts.data == base.facts.data and one is not base]
        for one in [base, *others] if others else []:
            best = one.compared
            rows.append(
                [
                    name_of(one),
                    number(best.value),
                    number(best.value * one.facts.lambda_at_one, 2),
                    number(one.facts.epochs / best.value, 3),
                    difference(best.difference),
                    interval(best.interval, signed=True),
                    f"`{one.kind}`",
                ]
            )
    return rows


HEADINGS = (
    *("grid", "classes", "images", "px", "steps", "D × folds × seeds", "train", "validation", "gap", "trained enough?"),
    *("best D > 0", "difference", "interval", "verdict"),
)
FIXED_HEADINGS = ("grid", "λ (shipped by)", "D here", "left of a weight", "gain over no decay", "best D", "loss to it")
CHANGE_HEADINGS = ("grid", "best D > 0", "λ", "τ, epochs", "difference", "interval", "verdict")
METHOD = """\
A grid trains every strength on every fold. The total decay D = Σ ηλ is 0, ½, 1, 2, 4 and 8, and 16 where the best mean
is at 8; exp(−D) is what is left of a weight that gets no gradient. All else is the default of `segdecay tune`: U-Net of
width 12 and depth 3, AdamW with decoupled decay, η = .003 with warm-up and cosine, batches of 8, cross-entropy with
square-root class weights, no augmentation but mirroring, 3 folds that keep groups (patients, places, films) whole;
films that are too few for that are cut into blocks. Images are small (column px), so scores are below those of
full-sized images. Masks are scored by mIoU, labels of images (CIFAR-10) by balanced accuracy, both after the last step.
Differences to no decay are paired by fold. Their 95 % intervals are those of `segdecay tune`: resampled images or
groups, and the spread of folds beyond them, over all strengths of a grid at once. A grid is trained enough where its
best strength beats predictions without training and has learned most classes on its training images
([verdict](../verdict.md))."""


def records_words(grids: Sequence[Judged]) -> str:
    """What the page rests on."""
    names = {recipe.name for recipe in RECIPES}
    done = sum(one.facts.name in names for one in grids)
    hours = sum(one.seconds for one in grids) / 3600
    return (
        f"`python benchmarks/atlas_report.py` writes this page and its figures from records of real trainings alone: "
        f"{count_of(done, 'grid')} of the {len(RECIPES)} recipes of the [atlas](../../benchmarks/grids/recipes.py) are "
        f"finished ([records](../../benchmarks/records)), and {len(grids) - done} more were recorded before, with nine "
        "strengths and two seeds ([record_grid.py](../../benchmarks/record_grid.py)); these are called *earlier*. "
        f"Together {sum(one.trials for one in grids)} trainings, {hours:.1f} h of workers by the clock, waiting for "
        "cores that other work held included."
    )


def limits_words(grids: Sequence[Judged]) -> str:
    """What the page does not show."""
    sets = count_of(len({one.facts.data for one in grids}), "data set")
    return f"""- {sets}, all small, at 32 to 64 px, with one small network: no claim about large images, pretrained
  encoders or long trainings. Grids of one data set are not independent of each other.
- Three folds and one seed a grid (the earlier ones: three or five folds, two seeds): the intervals are wide, and
  *no difference found* does not show that there is none.
- Learning rate, batch and augmentation are the defaults everywhere; with others the best D may differ.
- The earlier grids were trained by an earlier version of the loop and hold no scores of single classes on the training
  images: there *trained enough* rests on the comparison with predictions without training alone."""


def page(grids: Sequence[Judged], left_out: Sequence[str] = ()) -> str:
    """The page as markdown; left_out: grids that have nothing to compare with."""
    dropped = [f"{name_of(g)} at D = {number(p.value)}" for g in grids for p in g.points if p.score is None]
    not_shown = f" Left out, since trials diverged: {listed(dropped)}." if dropped else ""
    not_shown += f" Left out as a whole: {listed(left_out)}." if left_out else ""
    changes = change_rows(grids)
    changed = table(CHANGE_HEADINGS, changes) if changes else NO_CHANGES
    return f"""# Weight decay against score: the atlas

{lead_of(grids)}

{records_words(grids)}

## Question

Does weight decay help a small segmentation network on small data, by how much, at which strength, and can one tell
beforehand?

## Method

{METHOD}

## Does decay help?

![Difference to no decay against D, one panel a grid](atlas/curves.svg)

![The best difference of every grid with its interval](atlas/best.svg)

{answer_of(grids)}

{table(HEADINGS, [grid_row(one) for one in grids])}

Train and validation are scores without decay, the gap is their difference. Difference and interval are those of the
strength with decay that has the best mean.{not_shown}

## When does it help?

![The best difference against training score and gap without decay](atlas/with.svg)

{question_of_fit(grids)}

## Values that tools ship

{fixed_words(grids)}

{table(FIXED_HEADINGS, fixed_rows(grids))}

Scores at these D are interpolated between the strengths that were trained: on log D, and where marked \\* in proportion
to D, between no decay and the weakest. Neither gain nor loss has an interval. The loss is against the best of the
strengths that were tried, whose score is a little too high for having been selected.

## Classes

![Differences of classes against their share of the pixels](atlas/classes.svg)

{rare_words(data_sets(grids))}

## What carries over under changes?

{changed}

## Limits

{limits_words(grids)}

## Repeat it

```sh
python benchmarks/atlas.py --data FOLDER --work DIR --workers 2   # goes on where it was stopped; --only NAME; --list
python benchmarks/atlas_report.py                                 # this page
```
"""


def documents(grids: Sequence[Judged], left_out: Sequence[str] = ()) -> dict[str, str]:
    """The page and its figures, by path below docs/results."""
    return {
        PAGE: page(grids, left_out),
        f"{FIGURES}/curves.svg": curves_svg(grids),
        f"{FIGURES}/best.svg": best_svg(grids),
        f"{FIGURES}/with.svg": with_svg(data_sets(grids)),
        f"{FIGURES}/classes.svg": classes_svg(data_sets(grids)),
    }


def main() -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="gets atlas.md and the folder atlas")
    asked = parser.parse_args()
    try:
        grids, left_out = read_grids(asked.records)
    except SegdecayError as error:
        raise SystemExit(str(error)) from error
    for name, text in documents(grids, left_out).items():
        (asked.out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(asked.out / name, text.encode())
        print(asked.out / name)


if __name__ == "__main__":
    main()

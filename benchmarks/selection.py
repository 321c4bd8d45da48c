"""Replay every selector on recorded grids, without training: the cost and the quality of its choice.

    python benchmarks/selection.py                      # all of benchmarks/records/*.npz
    python benchmarks/selection.py --simulated          # surfaces whose truth is known

A repeat takes one seed's records, the folds in random order and the images of every fold drawn with replacement, and
gives the same to every selector. The choice is judged on the other seed's records, which no selector saw (both
directions): regret is that seed's best mean minus its mean at the chosen strength, in mIoU and in paired standard
errors of that seed. Simulated surfaces are judged against their truth. `equal epochs` stops a selector at the epochs
that ours took in the same repeat.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from replay.judging import Judge, kind_of
from replay.records import read_grid
from replay.replaying import Repeat, Replay, Selector, draw_repeat
from replay.selectors import full_grid, nine_trials, one_split
from replay.surfaces import SURFACES, draw_grid, truth_of

RECORDS = Path(__file__).parent / "records"
FULL = "full grid"
EQUAL = ", equal epochs"
MOST_SHARE, LEAST_SAME = 0.2, 0.9  # goals: epochs of the full grid, same kind


@dataclass(frozen=True)
class Row:
    """One selector on one repeat."""

    share: float  # of the full grid's epochs
    regret: float  # mIoU
    errors: float  # regret in paired standard errors
    same_kind: bool
    chosen: int


def own_selectors() -> dict[str, Selector]:
    """Our selectors; the first one sets the equal budget."""
    found: dict[str, Selector] = {}
    if importlib.util.find_spec("segdecay.search.race") is not None:
        from replay.race import race

        found["race (ours)"] = race
    found["nine trials (first sketch)"] = nine_trials
    return found


def peer_selectors(with_optuna: bool) -> dict[str, Selector]:
    """Selectors in common use."""
    found: dict[str, Selector] = {"one split, best": one_split}
    if with_optuna:
        from replay.peers import PEERS

        found |= PEERS
    return found


def replay_all(repeat: Repeat, judge: Judge, ours: dict[str, Selector], peers: dict[str, Selector]) -> dict[str, Row]:
    """Every selector on one repeat."""
    cost = len(repeat.grid.values) * len(repeat.folds) * repeat.grid.shape[3]
    rows: dict[str, Row] = {}
    reference: str | None = None

    def note(name: str, selector: Selector, budget: float = np.inf) -> int:
        nonlocal reference
        held = Replay(repeat, budget)
        chosen = selector(held).chosen
        used, regret = held.used, judge.regret(chosen)
        kind = kind_of(held, chosen)
        reference = kind if name == FULL else reference
        rows[name] = Row(used / cost, regret, regret / judge.paired_error, kind == reference, chosen)
        return used

    note(FULL, full_grid)
    budgets = [note(name, selector) for name, selector in ours.items()]
    for name, selector in peers.items():
        note(name, selector)
        note(f"{name}{EQUAL}", selector, budgets[0])
    return rows


def recorded_repeats(path: Path, repeats: int, n_folds: int | None, resample: bool) -> Iterator[tuple[Repeat, Judge]]:
    """Repeats of a recorded grid in both directions, with the judge of the other seed."""
    grid = read_grid(path)
    if grid.shape[2] != 2:
        raise SystemExit(f"{path} holds {grid.shape[2]} seed(s); 2 are needed: one to choose on, one to judge on")
    judges = [Judge.of(grid, seed) for seed in (0, 1)]
    for number in range(repeats):
        for seed in (0, 1):
            yield draw_repeat(grid, seed, number, n_folds, resample=resample), judges[1 - seed]


def simulated_repeats(name: str, repeats: int, n_folds: int | None) -> Iterator[tuple[Repeat, Judge]]:
    """A new simulated grid for every repeat, without resampling its images."""
    surface = SURFACES[name]()
    for number in range(repeats):
        grid = draw_grid(name, surface, number)
        yield draw_repeat(grid, 0, number, n_folds, resample=False), truth_of(surface)


HEADINGS = (
    "selector",
    "epochs, share of the full grid",
    "regret, mIoU",
    "95th percentile",
    "regret, paired SE",
    "95th percentile",
    "as good as the full grid's choice",
    "same kind as the full grid",
)


def table(found: Sequence[dict[str, Row]]) -> str:
    """The mean, and the 95th percentile of regret, of every selector, as markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    for name in found[0]:
        rows = [repeat[name] for repeat in found]
        share, regret, errors = (np.array([getattr(row, key) for row in rows]) for key in ("share", "regret", "errors"))
        same = np.mean([row.same_kind for row in rows])
        as_good = np.mean([row.regret <= repeat[FULL].regret for row, repeat in zip(rows, found, strict=True)])
        trials = (
            name,
            f"{share.mean():.3f}",
            f"{regret.mean():.4f}",
            f"{np.quantile(regret, 0.95):.4f}",
            f"{errors.mean():.2f}",
            f"{np.quantile(errors, 0.95):.2f}",
            f"{as_good:.0%}",
            f"{same:.0%}",
        )
        lines.append("| " + " | ".join(trials) + " |")
    return "\n".join(lines)


def goals(found: Sequence[dict[str, Row]], name: str) -> list[str]:
    """Which of the goals a selector of ours reaches, one line each."""

    def mean(of: str, key: str) -> float:
        return float(np.mean([getattr(repeat[of], key) for repeat in found]))

    def high(of: str) -> float:
        return float(np.quantile([repeat[of].regret for repeat in found], 0.95))

    share, regret, same = (mean(name, key) for key in ("share", "regret", "same_kind"))
    equal = {other: mean(other, "regret") for other in found[0] if other.endswith(EQUAL)}
    ahead = [other.removesuffix(EQUAL) for other, theirs in equal.items() if theirs < regret]
    checks = [
        (share <= MOST_SHARE, f"epochs {share:.3f} of the full grid's, at most {MOST_SHARE}"),
        (regret <= mean(FULL, "regret"), f"mean regret {regret:.4f}, the full grid's {mean(FULL, 'regret'):.4f}"),
        (high(name) <= high(FULL), f"95th percentile {high(name):.4f}, the full grid's {high(FULL):.4f}"),
        (same >= LEAST_SAME, f"same kind {same:.0%}, at least {LEAST_SAME:.0%}"),
        (not ahead, f"ahead at equal epochs: {', '.join(ahead) or 'nobody'}"),
    ]
    return [f"- {'reached' if is_reached else 'MISSED'}: {said}" for is_reached, said in checks]


def main() -> None:
    """Print one table a data set, or one a surface."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, nargs="*", help="default: all of benchmarks/records")
    parser.add_argument("--simulated", action="store_true", help="surfaces with known truth instead of records")
    parser.add_argument("--repeats", type=int, default=100, help="a record: each in both directions")
    parser.add_argument("--folds", type=int, help="use so many folds, drawn at random; default: all")
    parser.add_argument("--all-images", action="store_true", help="every image once; repeats differ in folds alone")
    parser.add_argument("--no-optuna", action="store_true", help="leave out the selectors that need optuna")
    asked = parser.parse_args()
    ours, peers = own_selectors(), peer_selectors(not asked.no_optuna)
    if asked.simulated:
        print("# Simulated surfaces (known truth; nothing was trained)\n")
        jobs = [(name, simulated_repeats(name, asked.repeats, asked.folds)) for name in SURFACES]
    else:
        paths = asked.records or sorted(RECORDS.glob("*.npz"))
        if not paths:
            raise SystemExit(f"no records in {RECORDS}; make them with benchmarks/record_grid.py")
        print("# Recorded grids (chosen on one seed, judged on the other)\n")
        jobs = [(path.stem, recorded_repeats(path, asked.repeats, asked.folds, not asked.all_images)) for path in paths]
    for name, repeats in jobs:
        started = time.perf_counter()
        found = [replay_all(repeat, judge, ours, peers) for repeat, judge in repeats]
        taken = time.perf_counter() - started
        leading = next(iter(ours))
        print(f"## {name}\n\n{table(found)}\n\n{len(found)} repeats, {taken:.0f} s. Goals of {leading}:\n")
        print("\n".join(goals(found, leading)) + "\n", flush=True)


if __name__ == "__main__":
    main()

"""How often a comparison of equal arms finds a difference, and how often it finds a real one.

    python benchmarks/comparing.py                    # every world, 400 repeats, about 10 minutes
    python benchmarks/comparing.py null --repeats 40

One repeat draws a random effect of each image and, for every setting, of each training and of each image in it; counts
of pixels follow. Arms choose their strengths on the other folds, and all pairs are judged, by the code of the
comparison. A repeat counts as false if any two arms of equal expectation are told apart; power is the share of
repeats in which the better arm is told apart from no decay, and from every other arm. Writes
benchmarks/records/comparing.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdecay.metrics.bootstrap import Counts
from segdecay.metrics.criteria import Criterion
from segdecay.search.comparison.judge import Contest, judge

F64 = npt.NDArray[np.float64]
RECORD = Path(__file__).parent / "records" / "comparing.json"
CLASSES = 4
PIXELS = 400  # of a class in an image that holds it


@dataclass(frozen=True)
class World:
    """luck: deviation of a training, in logits of the share of right pixels; gain: of every strength of one arm."""

    arms: int = 5
    strengths: int = 3
    folds: int = 3
    images: int = 40  # of a fold
    luck: float = 0.15
    gain: float = 0.0


WORLDS = {
    "null": World(),
    "null, much luck": World(luck=0.4),
    "null, no luck": World(luck=0.0),
    "null, 10 arms": World(arms=10),
    "null, 5 folds": World(folds=5),
    "gain": World(gain=0.4),
}


def draw(random: np.random.Generator, world: World, *, resamples: int = 200) -> Contest:
    """A contest of equal arms, except for the gain of the first arm after no decay."""
    n_settings = 1 + (world.arms - 1) * world.strengths
    effect = np.zeros(n_settings)
    effect[1 : 1 + world.strengths] = world.gain
    settings: list[list[list[Counts]]] = [[] for _ in range(n_settings)]
    for _ in range(world.folds):
        quality = 1.0 + 0.8 * random.standard_normal((world.images, CLASSES)) + 0.2 * random.standard_normal()
        true = PIXELS * (random.random((world.images, CLASSES)) < 0.6)
        for v in range(n_settings):
            luck = world.luck * random.standard_normal() + 0.3 * random.standard_normal((world.images, CLASSES))
            share = 1 / (1 + np.exp(-(quality + luck + effect[v])))
            hit = random.binomial(true, share)
            wrong = random.binomial(true, (1 - share) / 2)
            settings[v].append([Counts(hit, true + wrong, true)])
    options = {"none": [0]} | {
        f"arm {a}": [0, *range(1 + (a - 1) * world.strengths, 1 + a * world.strengths)] for a in range(1, world.arms)
    }
    return Contest(settings, options, Criterion(), 0.95, resamples, int(random.integers(2**31)))


def rates(world: World, repeats: int, seed: int) -> dict[str, float]:
    """Shares of repeats: with any false finding, and where the better arm is found."""
    random = np.random.Generator(np.random.PCG64(seed))
    better = "arm 1" if world.gain else ""
    false = to_none = to_all = 0
    for _ in range(repeats):
        told = {(pair.first, pair.second) for pair in judge(draw(random, world)).pairs if pair.told_apart}
        false += any(better not in pair for pair in told) if better else bool(told)
        to_none += ("none", better) in told
        to_all += sum(better in pair for pair in told) == world.arms - 1
    found = {"repeats": repeats, "false_families": false / repeats}
    return found | ({"to_none": to_none / repeats, "to_all": to_all / repeats} if better else {})


def main() -> None:
    """Run the cases, print and record their rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", default=list(WORLDS), help=", ".join(WORLDS))
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in asked.worlds:
        start = time.monotonic()
        found = rates(WORLDS[name], asked.repeats, asked.seed)
        kept[name] = found | {"seconds": round(time.monotonic() - start, 1)}
        print(name, kept[name], flush=True)
        RECORD.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Time to start: `segdecay --help`, and `import segdecay.decay` beside torch's own import.

    python benchmarks/startup.py --repeats 7

Processor time (user and system) of a fresh process each, and time by the clock; the commands take turns, so that a busy
machine affects all alike. The first round only warms the caches and is not counted. Goals: --help within .3 s, and
`import segdecay.decay` within .3 s of torch's own import, in processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import typer, rich": ["-c", "import typer, rich.console, typer.rich_utils"],
    "segdecay --help": ["-m", "segdecay.cli.main", "--help"],
    "import segdecay": ["-c", "import segdecay"],
    "import torch": ["-c", "import torch"],
    "import segdecay.decay": ["-c", "import segdecay.decay"],
}
HELP_GOAL_S, ABOVE_TORCH_GOAL_S = 0.3, 0.3


def measured(arguments: list[str]) -> tuple[float, float]:
    """Processor time and time by the clock of one fresh process, in seconds."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, os.times()
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return used, clock


def main() -> None:
    """Print the median of every command, and how far the two goals are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for round_ in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            both = measured(arguments)
            if round_:
                found[name].append(both)
    used = {name: statistics.median(one for one, _ in times) for name, times in found.items()}
    print("| | processor time, s | by the clock, s |")
    print("|---|---|---|")
    for name, times in found.items():
        print(f"| `{name}` | {used[name]:.2f} | {statistics.median(clock for _, clock in times):.2f} |")
    above = used["import segdecay.decay"] - used["import torch"]
    print(f"\nsegdecay --help: {used['segdecay --help']:.2f} s, goal {HELP_GOAL_S} s")
    print(f"import segdecay.decay above torch: {above:.2f} s, goal {ABOVE_TORCH_GOAL_S} s")


if __name__ == "__main__":
    main()

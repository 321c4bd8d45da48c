"""What a person sees while images are predicted: a bar of windows on a terminal, a line an image otherwise.

Knows results; nothing of how they are made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdecay.deploy.predict import Failed, Watcher


def _bars(console: Console, unit: str, *, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


@contextmanager
def build_bar(unit: str, total: int, *, quiet: bool, as_json: bool) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by calling it; only on a terminal."""
    with _bars(Console(file=sys.stderr if as_json else sys.stdout), unit, quiet=quiet) as bars:
        task = bars.add_task("", total=total)
        yield lambda count: bars.advance(task, count)


@contextmanager
def build_progress(*, quiet: bool, as_json: bool) -> Iterator[Watcher]:
    """Who tells a person; on standard error when standard output belongs to JSON."""
    console = Console(file=sys.stderr if as_json else sys.stdout)
    with _bars(console, "windows", quiet=quiet) as bars:
        task = bars.add_task("images", total=None)

        def say(line: str) -> None:
            if not quiet:
                console.print(escape(line), highlight=False, soft_wrap=True)

        def start(image: Path, windows: int) -> None:
            bars.reset(task, total=windows, description=escape(image.name))

        yield Watcher(
            start,
            lambda count: bars.advance(task, count),
            lambda row: say(f"{row.image} → {next(iter(row.files.values()))}"),
            lambda row: say(f"{row.image}: not predicted"),
        )


def print_failed(failed: Sequence[Failed]) -> None:
    """The images that could not be predicted, all together, on standard error."""
    count = len(failed)
    head = "1 image was not predicted:" if count == 1 else f"{count} images were not predicted:"
    sys.stderr.write("\n".join([f"segdecay: {head}", *(f"- {row.reason}" for row in failed)]) + "\n")

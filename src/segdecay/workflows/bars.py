"""Progress bars of reading, predicting and evaluating; drawn only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdecay.errors import ReadingInterrupted
from segdecay.utils.console import build_console

if TYPE_CHECKING:
    from segdecay.data.loading import Watch
    from segdecay.inference.predict import PredictionWatcher


@contextmanager
def reading_bar(*, shown: bool, console: Console | None = None) -> Iterator[Watch | None]:
    """What to tell the number of pairs read; None where there is no terminal to show it on, or it is not wanted."""
    console = console or build_console(err=True)
    try:
        if not shown or not console.is_terminal:
            yield None
            return
        columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("reading", total=None)
            yield lambda done, total: progress.update(bar, completed=done, total=total)
    except ReadingInterrupted as error:
        sys.stderr.write(f"segdecay: {error}. The same command goes on from there.\n")
        raise


@contextmanager
def counting_bar(unit: str, total: int, *, quiet: bool, as_json: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by calling it."""
    with _bars(build_console(err=as_json), quiet=quiet) as bars:
        task = bars.add_task("", total=total, unit=unit)
        yield lambda count: bars.advance(task, count)


@contextmanager
def prediction_bars(*, quiet: bool, as_json: bool = False) -> Iterator[PredictionWatcher]:
    """A bar of images, and one of the windows of an image that has several."""
    from segdecay.inference.predict import PredictionWatcher  # late: it imports torch

    with _bars(build_console(err=as_json), quiet=quiet) as bars:
        images = bars.add_task("images", total=None, unit="images")
        windows = bars.add_task("", total=1, unit="windows", visible=False)

        def start(image: Path, count: int) -> None:
            bars.reset(windows, total=count, description=escape(image.name), visible=count > 1)

        yield PredictionWatcher(
            on_plan=lambda count: bars.update(images, total=count),
            on_start=start,
            on_window=lambda count: bars.advance(windows, count),
            on_done=lambda _row: bars.advance(images, 1),
            on_failed=lambda _row: bars.advance(images, 1),
        )


def _bars(console: Console, *, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )

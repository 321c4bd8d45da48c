"""A bar on standard error while files are read. Knows counts; nothing of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from segdecay.data.loading import Watch


@contextmanager
def reading_bar(*, shown: bool, console: Console | None = None) -> Iterator[Watch | None]:
    """What to tell the number of pairs read; None where there is no terminal to show it on, or it is not wanted."""
    console = console or Console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)

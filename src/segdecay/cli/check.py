"""`segdecay check`: read every file of a data set, and say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segdecay.cli import options as opt
from segdecay.workflows.request import build_config, parse_limit

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


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("check", epilog="Example: segdecay check photos --folds 5")(check)


def check(
    data: opt.Data,
    folds: opt.Folds = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    strict: opt.Strict = False,
    allow_missing: opt.AllowMissing = False,
    cache_limit: opt.CacheLimit = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Read every image and mask; list faults with file, value and fix, and the class x fold table.

    Exit code 1 when something is wrong.
    """
    from segdecay.data.checks.findings import Finding
    from segdecay.data.loading import read_dataset
    from segdecay.data.splits.folds import check_folds
    from segdecay.errors import DataError
    from segdecay.workflows.progress import print_check
    from segdecay.workflows.steps import plan_folds

    built = build_config(
        data,
        config,
        assignments,
        {
            "search.folds": folds,
            "size": size,
            "seed": seed,
            "search.strict": strict,
            "search.allow_missing": allow_missing,
        },
    )
    limit = parse_limit(cache_limit)
    with reading_bar(shown=not quiet and not as_json) as watch:
        dataset, report = read_dataset(built.data, cache_limit=limit, watch=watch)
    findings, plan = list(report.findings), None
    if dataset is not None:
        try:
            plan = plan_folds(dataset, built)
            findings += check_folds(plan, dataset, allow_missing=allow_missing)
        except DataError as error:
            findings.append(Finding("wrong", "folds", None, str(error)))
    print_check(dataset, report, findings, plan, as_json=as_json)
    stopping = ("wrong", "warning") if built.search.strict else ("wrong",)
    if dataset is None or any(finding.level in stopping for finding in findings):
        raise typer.Exit(1)

"""`segdecay check`: read every file of a data set, and say what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segdecay.cli import options as opt
from segdecay.errors import ReadingInterrupted
from segdecay.workflows.request import build_config, collect_values, parse_limit

if TYPE_CHECKING:
    from segdecay.data.checks.findings import CheckReport, Finding
    from segdecay.data.dataset import Dataset
    from segdecay.data.loading import Watch
    from segdecay.data.splits.folds import FoldPlan

COLOURS = {"wrong": "bold red", "warning": "yellow", "note": "cyan"}


@contextmanager
def reading_bar(*, shown: bool, console: Console | None = None) -> Iterator[Watch | None]:
    """What to tell the number of pairs read; None where there is no terminal to show it on, or it is not wanted."""
    console = console or Console(stderr=True)
    try:
        if not shown or not console.is_terminal:
            yield None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("reading", total=None)
            yield lambda done, total: progress.update(bar, completed=done, total=total)
    except ReadingInterrupted as error:
        sys.stderr.write(f"segdecay: {error}. The same command goes on from there.\n")
        raise


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
    from segdecay.config.schema import parse_config
    from segdecay.data.checks.findings import Finding
    from segdecay.data.loading import read_dataset
    from segdecay.data.splits.folds import check_folds, plan_folds
    from segdecay.errors import DataError

    options = {
        "search.folds": folds,
        "size": size,
        "seed": seed,
        "search.strict": strict,
        "search.allow_missing": allow_missing,
    }
    if config is None and not assignments:  # no name of a network or a loss is given: torch need not be imported
        built = parse_config(collect_values(data, None, None, options))
    else:
        built = build_config(data, config, assignments, options)
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


def print_check(
    dataset: Dataset | None,
    report: CheckReport,
    findings: Sequence[Finding],
    plan: FoldPlan | None,
    *,
    as_json: bool,
) -> None:
    """Findings, the class table and the class × fold table."""
    if as_json:
        values = {
            "findings": [asdict(finding) for finding in findings],
            "classes": [asdict(row) for row in report.classes],
            "images": report.images,
            "fingerprint": None if dataset is None else dataset.fingerprint,
            "class_by_fold": None if plan is None else plan.table,
        }
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    console = Console()
    for finding in findings:
        console.print(f"[{COLOURS[finding.level]}]{finding.level}[/]: {escape(finding.message)}", highlight=False)
    if report.images:
        console.print("images: " + ", ".join(f"{part} {n}" for part, n in report.images.items()), highlight=False)
    table = Table(title="Classes", title_justify="left")
    table.add_column("class")
    of_images = report.task == "classification"
    for name in (*(() if of_images else ("pixels",)), "share", "images", "groups"):
        table.add_column(name, justify="right")
    for fold in range(len(plan.folds) if plan else 0):
        table.add_column(f"fold {fold + 1}", justify="right")
    for index, row in enumerate(report.classes):
        own = [f"{count:,}" for count in plan.table[index]] if plan else []
        pixels = [] if of_images else [f"{row.pixels:,}"]
        table.add_row(escape(row.name), *pixels, f"{row.share:.2%}", str(row.images), str(row.groups), *own)
    if report.classes:
        console.print(table)
    if plan is not None:
        counted = "images" if of_images else "pixels"
        console.print(
            f"folds: {len(plan.folds)} by {plan.method}; columns count validation {counted}.", highlight=False
        )
    if not any(finding.level == "wrong" for finding in findings) and dataset is not None:
        console.print("nothing is wrong.", highlight=False)

"""`segdecay check`: read every file of a data set, and say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from segdecay.cli import options as opt
from segdecay.utils.console import build_console
from segdecay.workflows.request import keys_of, parse_limit

if TYPE_CHECKING:
    from segdecay.data.checks.findings import CheckReport
    from segdecay.workflows.check import Checked

NAME_WIDTH = 24  # columns of a class's name; longer ones are folded
GAP = 2  # columns between two columns
COLOURS = {"wrong": "bold red", "warning": "yellow", "note": "cyan"}


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
    from segdecay.workflows.bars import reading_bar
    from segdecay.workflows.check import check as run_check
    from segdecay.workflows.check import check_config

    options = keys_of(folds=folds, size=size, seed=seed, strict=strict, allow_missing=allow_missing)
    built = check_config(data, config, assignments, options)
    limit = parse_limit(cache_limit)
    with reading_bar(shown=not quiet and not as_json) as watch:
        found = run_check(built, cache_limit=limit, watch=watch)
    if as_json:
        opt.echo_json(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        print_check(found)
    if found.is_wrong:
        raise typer.Exit(1)


def print_check(found: Checked) -> None:
    """Findings, the classes, and the pixels of every class in every fold."""
    console = build_console()
    for finding in found.findings:
        console.print(f"[{COLOURS[finding.level]}]{finding.level}[/]: {escape(finding.message)}", highlight=False)
    if found.report.images:
        parts = ", ".join(f"{part} {n}" for part, n in found.report.images.items())
        console.print(f"images: {parts}", highlight=False)
    if found.report.classes:
        console.print(_class_table(found.report))
    if found.folds is not None:
        counted = "images" if found.report.task == "classification" else "pixels"
        names = [row.name for row in found.report.classes]
        for table in fold_tables(names, found.folds.table, counted, console.width):
            console.print(table)
        console.print(f"folds: {len(found.folds.folds)} by {found.folds.method}", highlight=False)
    levels = [finding.level for finding in found.findings]
    if "wrong" not in levels and found.dataset is not None:
        n = levels.count("warning")
        doubt = f"no fault; {n} warning{'s' if n > 1 else ''} above to look at."
        console.print(doubt if n else "nothing is wrong.", highlight=False)


def _class_table(report: CheckReport) -> Table:
    """Every class with its pixels, share, images and groups."""
    of_images = report.task == "classification"
    table = Table(title="Classes", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("class", overflow="fold")
    for name in (*(() if of_images else ("pixels",)), "share", "images", "groups"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.classes:
        pixels = [] if of_images else [f"{row.pixels:,}"]
        table.add_row(escape(row.name), *pixels, f"{row.share:.2%}", f"{row.images:,}", f"{row.groups:,}")
    return table


def fold_tables(names: Sequence[str], counts: Sequence[Sequence[int]], counted: str, width: int) -> Iterator[Table]:
    """Validation pixels or images of every class (rows) in every fold; as many tables as the width asks for.

    Args:
        names: of the C classes.
        counts: (C, K) integers.
        counted: "pixels" or "images".
        width: columns of the terminal.
    """
    shown = [[f"{count:,}" for count in row] for row in counts]
    column = max([6, *(len(text) for row in shown for text in row)]) + GAP
    first = min(NAME_WIDTH, max((len(name) for name in names), default=1)) + GAP
    at_once, folds = max(1, (width - first) // column), len(shown[0]) if shown else 0
    for start in range(0, folds, at_once):
        stop = min(start + at_once, folds)
        title = f"Validation {counted} by fold" + (", continued" if start else "")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("class", overflow="fold", max_width=NAME_WIDTH)
        for fold in range(start, stop):
            table.add_column(f"fold {fold + 1}", justify="right", no_wrap=True)
        for name, row in zip(names, shown, strict=True):
            table.add_row(escape(name), *row[start:stop])
        yield table

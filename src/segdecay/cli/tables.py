"""Tables for a terminal. Knows records; computes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segdecay.data.checks import CheckReport, Finding
from segdecay.data.dataset import Dataset
from segdecay.data.folds import FoldPlan
from segdecay.records import SettingSummary, Strength, Verdict, axis_names

COLOURS = {"wrong": "bold red", "warning": "yellow", "note": "cyan"}


def show(value: float | None, digits: str = ".3f") -> str:
    """A number, or n/a."""
    return "n/a" if value is None else format(value, digits)


def _first_upper(text: str) -> str:
    return text if text.startswith("mIoU") else text[:1].upper() + text[1:]


def strength_cells(strength: Strength) -> tuple[str, str, str]:
    """Axis value, τ and λ side by side; a dash where τ is infinite or has no meaning."""
    tau = "–" if strength.timescale_epochs is None else f"{strength.timescale_epochs:.3g}"
    return f"{strength.value:g}", tau, show(strength.lambda_, ".4g")


def settings_table(verdict: Verdict) -> Table:
    """Every strength with its scores."""
    table = Table(title=f"{_first_upper(verdict.criterion_name)} by strength ({verdict.policy})", title_justify="left")
    shown = _strength_columns(verdict)
    titles = (axis_names(verdict.strength.axis)[1], "τ epochs", "λ")
    for name in (
        *(titles[index] for index in shown),
        verdict.criterion_name,
        "± SE",
        "train",
        "gap",
        "difference to none",
    ):
        table.add_column(name, justify="right")
    for row in verdict.settings:
        cells = strength_cells(row.strength)
        table.add_row(*(cells[index] for index in shown), *_scores(row), style=_style(row, verdict))
    return table


def _strength_columns(verdict: Verdict) -> list[int]:
    """Those of value, τ and λ that say something on this axis."""
    strengths = [row.strength for row in verdict.settings]
    has_tau = any(strength.timescale_epochs is not None for strength in strengths)
    has_lambda = verdict.strength.axis != "lambda" and any(strength.lambda_ is not None for strength in strengths)
    return [0, *([1] if has_tau else []), *([2] if has_lambda else [])]


def _style(row: SettingSummary, verdict: Verdict) -> str:
    if row.dropped:
        return "dim"
    return "bold" if row.strength.value == verdict.strength.value else ""


def _scores(row: SettingSummary) -> tuple[str, ...]:
    if row.dropped:
        return (escape(row.dropped[:60]), "", "", "", "")
    difference = ""
    if row.difference is not None and row.difference.interval is not None:
        low, high = row.difference.interval
        difference = f"{row.difference.mean or 0:+.3f} [{low:+.3f}, {high:+.3f}]"
    return show(row.mean), show(row.standard_error), show(row.train_mean), show(row.gap, "+.3f"), escape(difference)


def classes_table(verdict: Verdict) -> Table:
    """Every class at none and at the chosen strength, or the best one where none is taken."""
    of_images = verdict.task == "classification"
    table = Table(title=f"{'Recall' if of_images else 'IoU'} by class", title_justify="left")
    table.add_column("class")
    compared = "best" if verdict.strength.is_none else "chosen"
    for name in ("images" if of_images else "pixels", "none", compared, "interval of the difference"):
        table.add_column(name, justify="right")
    for row in verdict.classes:
        interval = row.difference_interval
        text = "" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"
        table.add_row(escape(row.name), f"{row.support:,}", show(row.zero), show(row.chosen), escape(text))
    return table


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

"""The command `evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdecay.cli import options as opt
from segdecay.utils.console import build_console
from segdecay.workflows.request import parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from segdecay.runs.evaluation import Evaluation


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("evaluate", epilog="Example: segdecay evaluate runs/mine photos --part test --out scores")(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    data: opt.Data,
    part: Annotated[
        str | None, typer.Option("--part", metavar="test|val|train|all", help="Default: test, else all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evaluation.json, counts of every image and report.html.")
    ] = None,
    tta: opt.Tta = "none",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average the models of the folds.")] = False,
    size: opt.Size = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    batch: opt.Batch = None,
    model: opt.UserModel = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Score a model against masks or labels: every class and their means with intervals, and the confusion matrix."""
    from segdecay.utils.files import to_json
    from segdecay.workflows.bars import counting_bar
    from segdecay.workflows.evaluate import evaluate as run_evaluate

    found = run_evaluate(
        run,
        data,
        part=part,
        out=out,
        tta=tta,
        ensemble=ensemble,
        size=None if size is None else parse_size(size),
        tile=tile,
        overlap=overlap,
        batch=batch,
        model=model,
        device=device,
        command=opt.repeat_command(),
        counter=lambda unit, total: counting_bar(unit, total, quiet=quiet, as_json=as_json),
    )
    if as_json:
        opt.echo_json(to_json(found.evaluation))
        return
    _print(found.evaluation, quiet=quiet)
    if found.out is not None:
        opt.echo(f"evaluation: {found.out / 'evaluation.json'}\nreport: {found.report}")


def _print(evaluation: Evaluation, *, quiet: bool) -> None:
    """Print the mean with its interval, one row per class, and the warnings on standard error."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    for warning in evaluation.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    console, percent = build_console(), f"{evaluation.confidence:.0%}"
    if evaluation.task == "classification":
        _print_labels(evaluation, console, quiet=quiet)
        return
    if not quiet:
        table = Table("class", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # eight columns in 80 characters
        for name in ("pixels", "IoU", f"{percent} interval", "boundary", "precision", "recall", "images"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in evaluation.classes:
            table.add_row(
                row.name + _mark(evaluation, row.name),
                f"{row.support:,}",
                _shown(row.iou.mean),
                _span(row.iou.interval),
                _shown(row.boundary_iou.mean),
                _shown(row.precision),
                _shown(row.recall),
                str(row.images),
            )
        console.print(table)
        _print_means(evaluation, console)
    if evaluation.exclude_from_mean and not quiet:
        console.print("* excluded from means over classes (exclude_from_mean)", highlight=False)
    data, miou = evaluation.data, _shown(evaluation.miou.mean)
    console.print(
        f"{data.name}, part {data.part}: mIoU{_without(evaluation)} {miou}, {percent} interval "
        f"{_span(evaluation.miou.interval)} over {getattr(data, evaluation.resampled_by)} {evaluation.resampled_by} "
        "(the luck of the training is not in it)",
        highlight=False,
        soft_wrap=True,
    )


def _print_means(evaluation: Evaluation, console: Console) -> None:
    """Print the other means over classes."""
    for name, found in (
        ("boundary mIoU", evaluation.boundary_miou),
        ("worst class", evaluation.worst),
        ("IoU weighted by pixels", evaluation.weighted),
        ("mIoU, mean over images", evaluation.image_miou),
        ("worst class, mean over images", evaluation.image_worst),
        ("IoU weighted by pixels, mean over images", evaluation.image_weighted),
    ):
        console.print(f"{name}: {_shown(found.mean)} ({_span(found.interval)})", highlight=False)


def _print_labels(evaluation: Evaluation, console: Console, *, quiet: bool) -> None:
    """Print the scores of images with one label each."""
    from rich.table import Table

    percent = f"{evaluation.confidence:.0%}"
    if not quiet:
        table = Table("class", "images", "recall", f"{percent} interval", "precision")
        for row in evaluation.classes:
            recall, precision = _shown(row.recall), _shown(row.precision)
            table.add_row(
                row.name + _mark(evaluation, row.name),
                f"{row.support:,}",
                recall,
                _span(row.recall_interval),
                precision,
            )
        console.print(table)
    data, balanced = evaluation.data, evaluation.balanced_accuracy
    console.print(
        f"{data.name}, part {data.part}: accuracy {_shown(evaluation.accuracy)}, {percent} interval "
        f"{_span(evaluation.accuracy_interval)}; balanced accuracy{_without(evaluation)} "
        f"{_shown(balanced.mean if balanced else None)}, "
        f"{_span(balanced.interval if balanced else None)}; over {data.images} images "
        "(the luck of the training is not in it)",
        highlight=False,
        soft_wrap=True,
    )


def _without(evaluation: Evaluation) -> str:
    """The classes that a mean leaves out, as text."""
    return f" without {', '.join(evaluation.exclude_from_mean)}" if evaluation.exclude_from_mean else ""


def _mark(evaluation: Evaluation, name: str) -> str:
    return " *" if name in evaluation.exclude_from_mean else ""


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _span(interval: tuple[float, float] | None) -> str:
    return "n/a" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"

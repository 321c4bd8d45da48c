"""The command `evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdecay.cli import options as opt
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
    from segdecay.cli.predict import build_bar
    from segdecay.config.schema import parse_config
    from segdecay.data import load_dataset
    from segdecay.execution import find_devices
    from segdecay.inference.evaluate import Inquiry, check_evaluation_out, part_of, write_evaluation
    from segdecay.inference.evaluate import evaluate as score
    from segdecay.inference.model import load_predictor
    from segdecay.report import build_evaluation_report
    from segdecay.utils.files import to_json

    tiling, pixels = opt.build_tiling(tile, overlap, batch), None if size is None else parse_size(size)
    if out is not None:
        check_evaluation_out(out)
    predictor = load_predictor([run], folds=ensemble, tta=tta, model=model, device=find_devices(device)[0])
    config = parse_config({"data": {"path": data, "size": pixels}}).data
    dataset, _ = load_dataset(config)
    trained_size = predictor.size
    as_trained = config.model_copy(update={"size": trained_size})
    fingerprint = dataset.fingerprint if trained_size == pixels else load_dataset(as_trained)[0].fingerprint
    inquiry = Inquiry(str(run), data, part, tiling, pixels, command=opt.repeat_command())
    with build_bar("images", len(part_of(dataset, part)[1]), quiet=quiet, as_json=as_json) as advance:
        evaluation, kept = score(predictor, dataset, inquiry, fingerprint=fingerprint, on_image=advance)
    if out is not None:
        write_evaluation(out, evaluation, kept)
        build_evaluation_report(out)
    if as_json:
        typer.echo(to_json(evaluation), nl=False)
        return
    _print(evaluation, quiet=quiet)
    if out is not None:
        typer.echo(f"evaluation: {out / 'evaluation.json'}\nreport: {out / 'report.html'}")


def _print(evaluation: Evaluation, *, quiet: bool) -> None:
    """Print the mean with its interval, one row per class, and the warnings on standard error."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    for warning in evaluation.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    console, percent = Console(), f"{evaluation.confidence:.0%}"
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

"""`evaluate`. Knows options and words; nothing of models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdecay.cli import options as opt

if TYPE_CHECKING:
    from rich.console import Console

    from segdecay.deploy.evaluation import Evaluation


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("evaluate", epilog="Example: segdecay evaluate runs/mine photos --part test --out scores")(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    data: opt.Data,
    part: Annotated[
        str | None, typer.Option("--part", metavar="test|val|train|all", help="Default: test, or all without one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where evaluation.json, confusion.npz and report.html go.")
    ] = None,
    tta: opt.Tta = "none",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average the models of the folds.")] = False,
    size: opt.Size = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    batch: opt.Batch = None,
    model: opt.OwnModel = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Score a model against masks or labels: every class and their mean with intervals, and the confusion matrix."""
    from segdecay.cli.predicting import build_bar
    from segdecay.config import parse_config
    from segdecay.data import load_dataset
    from segdecay.deploy.ensemble import load_predictor
    from segdecay.deploy.evaluate import Inquiry, check_evaluation_out, part_of, write_evaluation
    from segdecay.deploy.evaluate import evaluate as score
    from segdecay.records import to_json
    from segdecay.report import build_evaluation_report
    from segdecay.selection.executors import find_devices

    tiling, pixels = opt.build_tiling(tile, overlap, batch), None if size is None else opt.parse_size(size)
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
        evaluation, confusions = score(predictor, dataset, inquiry, fingerprint=fingerprint, on_image=advance)
    if out is not None:
        write_evaluation(out, evaluation, confusions)
        build_evaluation_report(out)
    if as_json:
        typer.echo(to_json(evaluation), nl=False)
        return
    _print(evaluation, quiet=quiet)
    if out is not None:
        typer.echo(f"evaluation: {out / 'evaluation.json'}\nreport: {out / 'report.html'}")


def _print(evaluation: Evaluation, *, quiet: bool) -> None:
    """The mean with its interval, a row a class, and the warnings on standard error."""
    from rich.console import Console
    from rich.table import Table

    for warning in evaluation.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    console, percent = Console(), f"{evaluation.confidence:.0%}"
    if evaluation.task == "classification":
        _print_labels(evaluation, console, quiet=quiet)
        return
    if not quiet:
        table = Table("class", "pixels", "IoU", f"{percent} interval", "precision", "recall", "images")
        for row in evaluation.classes:
            table.add_row(
                row.name,
                f"{row.support:,}",
                _shown(row.iou.mean),
                _span(row.iou.interval),
                _shown(row.precision),
                _shown(row.recall),
                str(row.images),
            )
        console.print(table)
    data = evaluation.data
    console.print(
        f"{data['name']}, part {data['part']}: mIoU {_shown(evaluation.miou.mean)}, {percent} interval "
        f"{_span(evaluation.miou.interval)} over {data[evaluation.resampled_by]} {evaluation.resampled_by} "
        "(the luck of the training is not in it)",
        highlight=False,
        soft_wrap=True,
    )


def _print_labels(evaluation: Evaluation, console: Console, *, quiet: bool) -> None:
    """The same where images have one label each."""
    from rich.table import Table

    percent = f"{evaluation.confidence:.0%}"
    if not quiet:
        table = Table("class", "images", "recall", f"{percent} interval", "precision")
        for row in evaluation.classes:
            recall, precision = _shown(row.recall), _shown(row.precision)
            table.add_row(row.name, f"{row.support:,}", recall, _span(row.recall_interval), precision)
        console.print(table)
    data, balanced = evaluation.data, evaluation.balanced_accuracy
    console.print(
        f"{data['name']}, part {data['part']}: accuracy {_shown(evaluation.accuracy)}, {percent} interval "
        f"{_span(evaluation.accuracy_interval)}; balanced accuracy {_shown(balanced.mean if balanced else None)}, "
        f"{_span(balanced.interval if balanced else None)}; over {data['images']} images "
        "(the luck of the training is not in it)",
        highlight=False,
        soft_wrap=True,
    )


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _span(interval: tuple[float, float] | None) -> str:
    return "n/a" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"

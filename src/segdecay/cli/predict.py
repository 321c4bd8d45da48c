"""The commands `predict` and `regularizers`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from segdecay.cli import options as opt

if TYPE_CHECKING:
    from rich.progress import Progress

    from segdecay.inference.predict import Failed, PredictionWatcher


def _bars(console: Console, unit: str, *, quiet: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """A progress bar that is advanced by calling it; shown only on a terminal."""
    with _bars(Console(file=sys.stderr if as_json else sys.stdout), unit, quiet=quiet) as bars:
        task = bars.add_task("", total=total)
        yield lambda count: bars.advance(task, count)


@contextmanager
def build_progress(*, quiet: bool, as_json: bool) -> Iterator[PredictionWatcher]:
    """Prints the progress of a prediction, on standard error if the output is JSON."""
    from segdecay.inference.predict import PredictionWatcher

    console = Console(file=sys.stderr if as_json else sys.stdout)
    with _bars(console, "windows", quiet=quiet) as bars:
        task = bars.add_task("images", total=None)

        def say(line: str) -> None:
            if not quiet:
                console.print(escape(line), highlight=False, soft_wrap=True)

        def start(image: Path, windows: int) -> None:
            bars.reset(task, total=windows, description=escape(image.name))

        yield PredictionWatcher(
            start,
            lambda count: bars.advance(task, count),
            lambda row: say(f"{row.image} → {next(iter(row.files.values()))}"),
            lambda row: say(f"{row.image}: not predicted"),
        )


def print_failed(failed: Sequence[Failed]) -> None:
    """Print the images that could not be predicted on standard error."""
    count = len(failed)
    head = "1 image was not predicted:" if count == 1 else f"{count} images were not predicted:"
    sys.stderr.write("\n".join([f"segdecay: {head}", *(f"- {row.reason}" for row in failed)]) + "\n")


if TYPE_CHECKING:
    from segdecay.inference.predictor import Predictor

SAVED = "mask,overlay"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("predict", epilog="Example: segdecay predict runs/mine photos/ --out predicted")(predict)
    app.command("regularizers", epilog="Example: segdecay regularizers decoupled")(regularizers)


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files, folders, or patterns in quotes.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for masks/, overlays/ and other results.")],
    save: Annotated[
        str,
        typer.Option("--save", help="Any of mask, overlay, probabilities, confidence, entropy, coco, with commas."),
    ] = SAVED,
    tta: opt.Tta = "none",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average the models of the folds.")] = False,
    others: Annotated[
        list[Path] | None, typer.Option("--with", metavar="RUN", help="Average with the model of another run.")
    ] = None,
    tile: opt.Tile = None,
    overlap: opt.Overlap = None,
    batch: opt.Batch = None,
    model: opt.UserModel = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Predict images: masks, overlays and more at the size of each image, or labels.csv for images with one label.

    Exit code 1 when an image could not be predicted; the others are predicted.
    """
    import json

    from segdecay.execution import find_devices
    from segdecay.inference.model import load_predictor, made_by
    from segdecay.inference.predict import Request, predict_files, to_plain

    tiling = opt.build_tiling(tile, overlap, batch)
    predictor = load_predictor(
        [run, *(others or [])], folds=ensemble, tta=tta, model=model, device=find_devices(device)[0]
    )
    kinds = tuple(dict.fromkeys(word.strip() for word in save.split(",") if word.strip()))
    if predictor.task == "classification":
        _label(predictor, images, out, save, tile, made_by(predictor, tiling), as_json=as_json)
        return
    request = Request(kinds, tiling, made_by(predictor, tiling))
    with build_progress(quiet=quiet, as_json=as_json) as watcher:
        result = predict_files(predictor, images, out, request, watcher)
    if as_json:
        rows = {"images": [to_plain(row) for row in result.done], "failed": [to_plain(row) for row in result.failed]}
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        count = len(result.done)
        typer.echo(f"{count} image{'s' if count != 1 else ''} predicted: {', '.join(kinds)} in {out}")
    if result.failed:
        print_failed(result.failed)
        raise typer.Exit(1)


def _label(
    predictor: Predictor,
    images: list[Path],
    out: Path,
    save: str,
    tile: int | None,
    made_by: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Predict with a model that gives one label per image."""
    import json

    from segdecay.errors import ConfigError, gather
    from segdecay.inference.predict_labels import TABLE, label_files, refuse_mask_options

    gather(ConfigError, refuse_mask_options(save, SAVED, tile))
    result = label_files(predictor, images, out, made_by)
    if as_json:
        failed = [{"image": str(row.image), "reason": row.reason} for row in result.failed]
        typer.echo(json.dumps({"images": [row.to_json() for row in result.done], "failed": failed}, ensure_ascii=False))
    else:
        count = len(result.done)
        typer.echo(f"{count} image{'s' if count != 1 else ''} labelled: {out / TABLE}")
    if result.failed:
        print_failed(result.failed)
        raise typer.Exit(1)


def regularizers(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A regularizer to describe in full.")] = None,
    as_json: opt.Json = False,
) -> None:
    """List the regularizers with their formulas, or describe NAME in full."""
    import json

    from segdecay.decay import REGULARIZERS, describe_regularizer, regularizer_names

    if name is not None:
        text = describe_regularizer(name)
        typer.echo(json.dumps({name: text}, ensure_ascii=False) if as_json else text)
        return
    if as_json:
        typer.echo(json.dumps({word: REGULARIZERS[word].formula for word in regularizer_names()}, ensure_ascii=False))
        return
    for word in regularizer_names():
        typer.echo(f"{word:<12}{REGULARIZERS[word].formula}")

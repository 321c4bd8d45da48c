"""The commands `predict` and `regularizers`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from segdecay.cli import options as opt

SAVED = "mask,overlay"
WIDTH = 80  # columns of a line of text


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("predict", epilog="Example: segdecay predict runs/mine photos/ --out predicted/mine")(predict)
    app.command("regularizers", epilog="Example: segdecay regularizers decoupled")(regularizers)


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files, folders, or patterns in quotes.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for masks/, overlays/ and other results. Default: predicted/NAME OF RUN."),
    ] = None,
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

    from segdecay.workflows.bars import prediction_bars
    from segdecay.workflows.predict import predict as run_predict

    found = run_predict(
        run,
        images,
        out=out,
        save=save,
        tta=tta,
        ensemble=ensemble,
        others=others or (),
        tile=tile,
        overlap=overlap,
        batch=batch,
        model=model,
        device=device,
        bars=prediction_bars(quiet=quiet, as_json=as_json),
    )
    if as_json:
        opt.echo_json(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        opt.echo(found.sentence)
    if found.failed:
        count = len(found.failed)
        head = "1 image was not predicted:" if count == 1 else f"{count} images were not predicted:"
        sys.stderr.write("\n".join([f"segdecay: {head}", *(f"- {row.reason}" for row in found.failed)]) + "\n")
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
        if as_json:
            opt.echo_json(json.dumps({name: text}, ensure_ascii=False))
        else:
            opt.echo(text)
        return
    if as_json:
        formulas = {word: REGULARIZERS[word].formula for word in regularizer_names()}
        opt.echo_json(json.dumps(formulas, ensure_ascii=False))
        return
    for word in regularizer_names():
        start = f"{word:<12}"
        opt.echo(textwrap.fill(REGULARIZERS[word].formula, WIDTH, initial_indent=start, subsequent_indent=" " * 12))

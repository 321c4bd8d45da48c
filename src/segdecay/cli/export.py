"""The command `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segdecay.cli import options as opt


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("export", epilog="Example: segdecay export runs/mine --to onnx --normalise --argmax")(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="onnx", help="The format.")] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", help="The file. Default: model.onnx beside the model.")] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="The file takes bands of 0 to 255 and normalises them.")
    ] = False,
    argmax: Annotated[bool, typer.Option("--argmax", help="The file returns labels in place of logits.")] = False,
    opset: Annotated[int, typer.Option("--opset", help="Of ONNX, 13 to 20.")] = 17,
    model: opt.UserModel = None,
    as_json: opt.Json = False,
) -> None:
    """Write the model for another program; it is compared with the model on three sizes before the file is kept.

    Exit code 1 when the file would compute something else: then none is written.
    """
    from segdecay.inference.onnx_file import MismatchError
    from segdecay.inference.onnx_file import export as run_export

    try:
        found = run_export(run, to=to, out=out, normalise=normalise, argmax=argmax, opset=opset, model=model)
    except MismatchError as error:
        opt.echo(f"segdecay: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        opt.echo_json(json.dumps(found.to_dict()))
        return
    for one in found.checks:
        difference = "" if one.largest_difference is None else f"largest difference {one.largest_difference:.2g}, "
        opt.echo(f"{one.height} x {one.width}: {difference}labels agree on {one.agreement:.2%}")
    opt.echo(f"wrote {found.path}: {found.bytes / 1e6:.1f} MB, opset {found.opset}")

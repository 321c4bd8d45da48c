"""`predict` and `policies`. Knows options and words; nothing of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdecay.cli import options as opt


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("predict", epilog="Example: segdecay predict runs/mine photos/ --out predicted")(predict)
    app.command("policies", epilog="Example: segdecay policies decoupled")(policies)


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or its model folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files or folders.")],
    out: Annotated[Path, typer.Option("--out", help="Where masks/ and overlays/ are written.")],
    model: Annotated[
        str | None, typer.Option("--model", help="For a run of your own model: its package.module:build again.")
    ] = None,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """Write index masks and overlays of images, at their own size."""
    import json

    from segdecay.deploy.bundle import load_bundle
    from segdecay.deploy.predict import predict_files
    from segdecay.selection.executors import find_devices

    bundle = load_bundle(run, model=model, device=find_devices(device)[0])
    done = predict_files(
        bundle, images, out, on_done=lambda row: None if as_json else typer.echo(f"{row.image} → {row.mask}")
    )
    if as_json:
        rows = [
            {"image": str(r.image), "mask": str(r.mask), "overlay": str(r.overlay), "pixels": r.pixels} for r in done
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        typer.echo(f"{len(done)} image{'s' if len(done) != 1 else ''}: masks and overlays in {out}")


def policies(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One policy in full.")] = None,
    as_json: opt.Json = False,
) -> None:
    """What policies there are, with their formulas; NAME for one in full."""
    import json

    from segdecay.decay import POLICIES, describe_policy, policy_names

    if name is not None:
        text = describe_policy(name)
        typer.echo(json.dumps({name: text}, ensure_ascii=False) if as_json else text)
        return
    if as_json:
        typer.echo(json.dumps({word: POLICIES[word].formula for word in policy_names()}, ensure_ascii=False))
        return
    for word in policy_names():
        typer.echo(f"{word:<12}{POLICIES[word].formula}")

"""The command `fetch`."""

from __future__ import annotations

from typing import Annotated

import typer

from segdecay.cli import options as opt


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("fetch", epilog="Example: segdecay fetch torchvision:OxfordIIITPet")(fetch)


def fetch(
    data: Annotated[
        str,
        typer.Argument(
            metavar="torchvision:NAME[:FOLDER]", help="VOCSegmentation, SBDataset or OxfordIIITPet; FOLDER: the cache."
        ),
    ],
) -> None:
    """Download a published data set with torchvision; no other command downloads one."""
    from segdecay.data.cache import default_cache
    from segdecay.data.formats.torchvision import PREFIX, SETS, fetch_set
    from segdecay.errors import DataError

    if not data.startswith(PREFIX):
        raise DataError(f"'{data}' cannot be fetched. Allowed: {', '.join(PREFIX + name for name in SETS)}.")
    folder = fetch_set(data, default_cache())
    opt.echo(f"{data} is in {folder}. Next: segdecay check {data}")

"""The command `watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segdecay.cli import options as opt


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("watch", epilog="Example: segdecay watch runs/mine")(watch)


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, on any disk that can be read.")],
    port: Annotated[int, typer.Option("--port", help="Of 127.0.0.1; 0 takes a free one.")] = 8020,
) -> None:
    """Show a run in a browser while another process works on it: trials, race, curves, time left.

    It only reads the folder. The page is seen from this machine alone; Ctrl-C ends it.
    """
    from segdecay.watch.server import watch as serve  # late: --help needs no server

    serve(run, port, opt.echo)

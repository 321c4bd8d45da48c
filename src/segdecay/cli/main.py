"""The `segdecay` command: one short function per subcommand, with late imports, so that --help is fast."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated

import typer

from segdecay.cli import (
    audit,
    check,
    compare,
    evaluate,
    example,
    export,
    fetch,
    init,
    lr,
    predict,
    strength,
    tune,
    watch,
)
from segdecay.cli.hints import HintingGroup, print_version
from segdecay.errors import DiskFullError, SegdecayError, describe_os_error
from segdecay.utils.printable import HANDLER

app = typer.Typer(
    name="segdecay",
    no_args_is_help=True,
    cls=HintingGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Choose weight decay for segmentation networks by cross-validation, with intervals and a report.",
    epilog="Start with: segdecay tune digits --out runs/digits",
)
for module in (init, check, lr, tune, compare, evaluate, predict, strength, audit, export, watch, example, fetch):
    module.register(app)


@app.callback()
def whole(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Choose weight decay for segmentation networks by cross-validation, with intervals and a report."""


def print_anything() -> None:
    """Let both output streams print every character: what their encoding lacks is replaced, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def run() -> None:
    """Entry point. Exit codes: 0 done, 1 problems found, 2 a user error, 130 interrupted and resumable."""
    atexit.register(gc.freeze)  # skips the collection of cycles at exit, which takes about a second
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    print_anything()
    try:
        app(standalone_mode=True, prog_name="segdecay")
    except SegdecayError as error:
        if debug:
            raise
        sys.stderr.write(f"segdecay: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if debug:
            raise
        if DiskFullError.is_told_by(error):
            said = str(DiskFullError(str(error.filename or "a temporary folder")))
        else:
            said = f"{describe_os_error(error)}. Finished trainings are kept."
        sys.stderr.write(f"segdecay: {said}\n")
        sys.exit(2)


if __name__ == "__main__":
    run()

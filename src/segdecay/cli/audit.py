"""The command `audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from segdecay.cli import options as opt
from segdecay.utils.console import build_console
from segdecay.utils.printable import printable

if TYPE_CHECKING:
    from segdecay.decay import Audit

WORDS = ("parameter", "decayed by", "such as")  # columns of names
COLOURS = {"wrong": "bold red", "doubtful": "yellow", "note": "cyan"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("audit", epilog="Example: segdecay audit train:build --epochs 100 --steps-per-epoch 250")(audit)


def audit(
    build: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:BUILD", help="A function without arguments: (model, optimizer) or (model, optimizer, loss)."
        ),
    ],
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Planned epochs; adds D.")] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option("--steps-per-epoch", min=1, help="Optimizer steps per epoch; adds τ.")
    ] = None,
    schedule: Annotated[
        str, typer.Option("--schedule", help="constant, cosine or poly, from the optimizer's learning rate.")
    ] = "constant",
    clip_norm: Annotated[float | None, typer.Option("--clip-norm", help="The norm gradients are clipped to.")] = None,
    lambda_: Annotated[float | None, typer.Option("--lambda", help="The intended λ of a penalty in the loss.")] = None,
    by_parameter: Annotated[
        bool,
        typer.Option("--by-parameter", help="A line for each parameter, in place of one for all that decay alike."),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Find which parameters of your model and optimizer decay, how strongly, by which mechanism, and common mistakes.

    BUILD returns (model, optimizer) or (model, optimizer, loss), optionally followed by the shapes of output and
    target. Nothing is trained or changed. Exit code 1 when something is wrong.
    """
    from segdecay.workflows.audit import audit as run_audit

    found = run_audit(
        build,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        schedule=schedule,
        clip_norm=clip_norm,
        lambda_=lambda_,
    )
    if as_json:
        opt.echo_json(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _show(found, by_parameter=by_parameter)
    if found.is_wrong:
        raise typer.Exit(1)


def _show(found: Audit, *, by_parameter: bool) -> None:
    from rich.markup import escape

    from segdecay.decay.audit.table import folded_lines, parameter_lines

    console = build_console()
    console.print(escape(found.headline()), highlight=False, soft_wrap=True)
    for finding in found.findings:
        colour = COLOURS[finding.level]
        console.print(f"\n[{colour}]{finding.level}[/]: {finding.code}", highlight=False)
        console.print(f"  {escape(finding.message)}\n  {escape(finding.advice)}", highlight=False, soft_wrap=True)
    if not found.findings:
        console.print("\nno findings.", highlight=False)
    rows = parameter_lines(found.rows) if by_parameter else folded_lines(found.rows)
    lines = [tuple(printable(cell, console.encoding) for cell in row) for row in rows]  # before columns are aligned
    console.print("\n" + escape("\n".join(table_lines(lines, console.width))), highlight=False, soft_wrap=True)


def table_lines(lines: Sequence[tuple[str, ...]], width: int) -> list[str]:
    r"""A table as aligned text; where it is wider than the terminal, words stand on a line below their numbers.

    >>> lines = [("group", "decayed by", "D"), ("0", "AdamW(weight_decay) decoupled 0.01", "2")]
    >>> print("\n".join(table_lines(lines, 20)))
    group  D
    0      2
        decayed by: AdamW(weight_decay) decoupled 0.01
    """
    whole = _aligned(lines)
    if max(map(len, whole)) <= width:
        return whole
    header = lines[0]
    numbers = [column for column, name in enumerate(header) if name not in WORDS]
    found = _aligned([tuple(line[column] for column in numbers) for line in lines])
    below = [
        ["    " + f"{name}: {cell}" for name, cell in zip(header, line, strict=True) if name in WORDS]
        for line in lines[1:]
    ]
    return [found[0], *(part for text, words in zip(found[1:], below, strict=True) for part in (text, *words))]


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]

"""`segdecay init`: guess a dataset.yaml, read the data with it, and write it where `check` accepts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from segdecay.cli import options as opt


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("init", epilog="Example: segdecay init photos --write")(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with images and masks.")],
    write: Annotated[bool, typer.Option("--write", help="Write DIR/dataset.yaml instead of printing it.")] = False,
    cache_limit: opt.CacheLimit = None,
    as_json: opt.Json = False,
) -> None:
    """Guess dataset.yaml from what lies there, explain each guess, and read the data with it.

    Exit code 1 when check would refuse it, or when there is a question to answer first: nothing is written then.
    """
    from segdecay.data.detect.detect import guess_spec
    from segdecay.errors import DataError
    from segdecay.utils.files import write_bytes

    path = folder / "dataset.yaml"
    if write and path.exists():
        raise DataError(f"{path} exists. Remove it first, or run without --write to see the guess.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. init needs a folder with images and masks, or images and labels.")
    try:
        guess = guess_spec(folder)
    except DataError as question:
        _refuse([str(question)], [], "", as_json=as_json)
    wrong = _faults(folder, guess.spec_yaml, cache_limit, quiet=as_json)
    if wrong:
        _refuse(wrong, list(guess.explanations), guess.spec_yaml, as_json=as_json)
    if write:
        write_bytes(path, guess.spec_yaml.encode())
    if as_json:
        values = {"dataset_yaml": guess.spec_yaml, "explanations": guess.explanations, "written": write, "refused": []}
        opt.echo_json(json.dumps(values, ensure_ascii=False))
        return
    if not write:  # the reasons are its comments
        opt.echo(guess.spec_yaml.rstrip("\n"))
        return
    opt.echo("\n".join([*guess.explanations, f"wrote {path}; try it: segdecay check {folder}"]))


def _faults(folder: Path, text: str, cache_limit: str | None, *, quiet: bool) -> list[str]:
    """What the reader finds wrong with the data under a guessed dataset.yaml; what it reads stays in the cache."""
    from segdecay.config.schema import DataConfig
    from segdecay.data.formats import source_of
    from segdecay.data.loading import read_dataset
    from segdecay.data.spec import parse_spec
    from segdecay.errors import ConfigError, DataError
    from segdecay.workflows.bars import reading_bar
    from segdecay.workflows.request import parse_limit

    try:
        source = source_of(folder, parse_spec(text, source="the guessed dataset.yaml"))
        with reading_bar(shown=not quiet) as watch:
            found, report = read_dataset(
                DataConfig(path=str(folder)), cache_limit=parse_limit(cache_limit), watch=watch, source=source
            )
    except (DataError, ConfigError) as error:
        return [str(error)]
    wrong = [finding.message for finding in report.of_level("wrong")]
    return wrong or ([] if found is not None else [f"{folder} holds no image with its mask that can be used."])


def _refuse(wrong: list[str], explanations: list[str], text: str, *, as_json: bool) -> NoReturn:
    """Say why nothing is written, with the lines that were guessed, and end with 1."""
    if as_json:
        values = {"dataset_yaml": text, "explanations": explanations, "written": False, "refused": wrong}
        opt.echo_json(json.dumps(values, ensure_ascii=False))
        raise typer.Exit(1)
    if text:  # with the reasons as comments
        opt.echo(text.rstrip("\n"))
        opt.echo("segdecay: nothing is written, since check refuses these lines as they are:", err=True)
    for line in wrong:
        opt.echo(f"- {line}" if text else f"segdecay: {line}", err=True)
    raise typer.Exit(1)

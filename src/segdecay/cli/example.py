"""The command `example`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdecay.cli import options as opt
from segdecay.utils.console import build_console
from segdecay.workflows.request import parse_budget

if TYPE_CHECKING:
    from segdecay.runs.example import Example
    from segdecay.runs.verdict import Interval

NAMES = ("cifar10",)
_EXAMPLE = "Example: segdecay example cifar10 --data cifar-10-batches-bin --out runs/cifar10"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("example", epilog=_EXAMPLE)(example)


def example(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only cifar10.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder of CIFAR-10, in the binary or the Python layout.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 (170 MB) into the cache.")] = False,
    out: opt.Out = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of every training.")] = 10,
    folds: opt.Folds = None,
    seed: opt.Seed = None,
    budget: opt.Budget = None,
    workers: opt.Workers = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """A well-known recipe done right, as articles write it, and with λ by cross-validation, with an explanation.

    The same command with the same --out resumes an interrupted example.
    """
    from segdecay.errors import ConfigError, unknown

    if name not in NAMES:
        raise ConfigError(unknown("example", name, NAMES))
    folder = _data_folder(data, download=download)

    from segdecay.cli.signals import interruptible
    from segdecay.example.story import tell_example
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.progress import build_watcher

    seconds, trials = parse_budget(budget)
    execution = Execution(
        workers=workers, device=device, command=opt.repeat_command(), budget_s=seconds, budget_trials=trials
    )
    with interruptible(), build_watcher(quiet=quiet, as_json=as_json) as watcher:
        run = out or Path("runs") / f"example-{name}"
        told = tell_example(folder, run, execution, watcher, epochs=epochs, seed=seed or 0, folds=folds)
    if as_json:
        opt.echo_json(to_json(told.example))
        return
    _print(told.example, quiet=quiet)
    watcher.conclude(told.searched)


def _data_folder(data: Path | None, *, download: bool) -> Path:
    """The given folder, or the one to which the data set is downloaded.

    Raises:
        ConfigError: neither or both options were given.
        DataError: the download failed.
    """
    from segdecay.data.cache import default_cache
    from segdecay.errors import ConfigError
    from segdecay.example.story import SOURCE, fetch_cifar

    if (data is None) == (not download):
        seen = "both" if download else "neither"
        raise ConfigError(
            f"example cifar10 needs --data FOLDER (of CIFAR-10, from {SOURCE}) or --download; saw {seen}."
        )
    return data if data is not None else fetch_cifar(default_cache() / "cifar10")


def _print(found: Example, *, quiet: bool) -> None:
    """Both recipes, class by class and in sentences."""
    from rich.markup import escape
    from rich.table import Table

    from segdecay.report.text.format import difference, interval, score

    def signed(one: Interval) -> str:
        return difference(one.mean) + (f" ({interval(one.interval, signed=True)})" if one.interval else "")

    console, whole = build_console(), found.rows[0]
    if not quiet:
        table = Table(title="Correct clean test images", title_justify="left")
        table.add_column("class")
        for title in ("images", "done right", "as articles write it", "difference (95 %)"):
            table.add_column(title, justify="right")
        for row in (*found.rows[1:], whole):
            shares = [score(row.right), score(row.article), signed(row.difference)]
            table.add_row(escape(row.name), f"{row.images:,}", *shares, style="bold" if row is whole else None)
        console.print(table)
    clean = f"the first recipe reaches {score(whole.right)}, the second {score(whole.article)}"
    lines = [
        f"On clean test images {clean}: {signed(whole.difference)}; paired over images, one training each.",
        f"On augmented ones the second would report {score(found.reported)}, {signed(found.moved)} from clean ones.",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)

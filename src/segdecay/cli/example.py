"""The command `example`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segdecay.cli import options as opt
from segdecay.workflows.request import parse_budget

if TYPE_CHECKING:
    from rich.table import Table

    from segdecay.example.story import Told

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
    from segdecay.example.story import Asked, tell_example
    from segdecay.execution.options import Execution
    from segdecay.utils.files import to_json
    from segdecay.workflows.progress import build_watcher

    seconds, trials = parse_budget(budget)
    execution = Execution(
        workers=workers, device=device, command=opt.repeat_command(), budget_s=seconds, budget_trials=trials
    )
    asked = Asked(folder, epochs, seed or 0, folds)
    with interruptible(), build_watcher(quiet=quiet, as_json=as_json) as watcher:
        told = tell_example(asked, out or Path("runs") / f"example-{name}", execution, watcher)
    if as_json:
        typer.echo(to_json(told.facts), nl=False)
    else:
        _print(told, quiet=quiet)


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


def _print(told: Told, *, quiet: bool) -> None:
    """Print both recipes, the verdict, and the path of the report."""
    from rich.console import Console

    from segdecay.search.sentences import verdict_title
    from segdecay.workflows.progress import settings_table

    console, verdict = Console(), told.searched.verdict
    if not quiet:
        console.print()
        console.print(_both_table(told.facts))
        console.print(settings_table(verdict))
    for line in conclusions(told.facts):
        console.print(line, highlight=False, soft_wrap=True)
    title = verdict_title(verdict.kind, verdict.strength.axis)
    console.print(f"\n[bold]{title}[/]: {verdict.sentence}", highlight=False, soft_wrap=True)
    if verdict.test is not None:
        scores = ", ".join(f"{role} {found.score:.3f}" for role, found in verdict.test.by_role().items())
        console.print(f"test {verdict.criterion_name} of the refits, scored once: {scores}", highlight=False)
    console.print(f"report: {told.report}", highlight=False, soft_wrap=True)


def conclusions(facts: dict[str, Any]) -> list[str]:
    """The differences between the two recipes, in sentences."""
    recipe, article = facts["recipe"], facts["article"]
    clean = f"the first recipe reaches {_share(recipe['accuracy'])}, the second {_share(article['accuracy'])}"
    moved = _signed(article["reported_minus_clean"])
    return [
        f"On clean test images {clean}: {_signed(facts['difference'])}; paired over images, one training each.",
        f"On augmented test images the second would report {_share(article['reported'])}, {moved} from clean images.",
    ]


def _both_table(facts: dict[str, Any]) -> Table:
    """One row per class: both recipes and their difference."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Recall on clean test images", title_justify="left")
    table.add_column("class")
    for title in ("images", "done right", "as articles write it", "difference (95 %)"):
        table.add_column(title, justify="right")
    differences = {row["name"]: row for row in facts["classes"]}
    for right, wrong in zip(facts["recipe"]["classes"], facts["article"]["classes"], strict=True):
        own = differences.get(right["name"])
        text = "" if own is None else _signed(own)
        table.add_row(
            escape(right["name"]), f"{right['images']:,}", _value(right["recall"]), _value(wrong["recall"]), text
        )
    whole = [_share(facts[role]["accuracy"]) for role in ("recipe", "article")]
    table.add_row("accuracy", f"{facts['data']['test']:,}", *whole, _signed(facts["difference"]), style="bold")
    return table


def _value(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _share(found: dict[str, Any]) -> str:
    return _value(found["mean"])


def _signed(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "n/a"
    bounds = found["interval"]
    return f"{found['mean']:+.3f}" + ("" if bounds is None else f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})")

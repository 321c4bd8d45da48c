"""`compare`. Knows options and words; nothing of training."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segdecay.cli import options as opt

_EXAMPLE = "Example: segdecay compare DATA --arms none,decoupled,l1,dropout --strengths 3 --out runs/arms"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("compare", epilog=_EXAMPLE)(compare)


def compare(
    data: opt.Data,
    arms: Annotated[
        str | None,
        typer.Option(
            "--arms",
            help="Names with commas between: none, l2, decoupled, l1, elastic_net, group_lasso, dropout, max_norm, "
            "cpr, cautious, corrected, l2_sp, weight_balancing, logit_adjustment, class_weights, early_stopping.",
        ),
    ] = None,
    strengths: Annotated[
        int | None, typer.Option("--strengths", help="Tried of every arm beside none. Default: 3.")
    ] = None,
    out: opt.Out = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    model: opt.Model = None,
    folds: opt.Folds = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    seed: opt.Seed = None,
    strict: opt.Strict = False,
    allow_missing: opt.AllowMissing = False,
    workers: opt.Workers = None,
    cache_limit: opt.CacheLimit = None,
    executor: opt.Executor = "local",
    address: opt.Address = None,
    gpus_per_cell: opt.GpusPerCell = 0.0,
    device: opt.Device = "auto",
    wait: opt.Wait = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Compare regularisers at equal budget: the same folds, seeds and number of trainings for every arm.

    The same command on the same --out goes on where it stopped.
    """
    options = {
        "model.name": model,
        "search.folds": folds,
        "training.epochs": epochs,
        "size": size,
        "seed": seed,
        "search.strict": strict,
        "search.allow_missing": allow_missing,
    }
    names = None if arms is None else [name.strip() for name in arms.split(",") if name.strip()]
    built = _config(data, config, assignments, options, {"arms": names, "strengths": strengths})
    limit = opt.parse_limit(cache_limit)
    # late, so that a fault of the options is told before torch is imported
    from segdecay.cli.stopping import interruptible
    from segdecay.cli.watching import build_watcher
    from segdecay.comparison import compare as run_compare
    from segdecay.execution import Execution
    from segdecay.records import to_json

    execution = Execution(
        workers=workers,
        device=device,
        command=opt.repeat_command(),
        cache_limit=limit,
        executor=executor,
        wait=wait,
        address=address,
        gpus_per_cell=gpus_per_cell,
    )
    with interruptible(), build_watcher(quiet=quiet, as_json=as_json) as watcher:
        done = run_compare(built, out or opt.default_out(data), execution, watcher)
    if as_json:
        typer.echo(to_json(done.comparison), nl=False)
    else:
        watcher.conclude_comparison(done)


def _config(data: str, config: Any, assignments: list[str] | None, options: dict[str, Any], own: dict[str, Any]) -> Any:
    """The checked CompareConfig: the section `compare` apart from the shared ones.

    Raises:
        ConfigError: listing all faults.
    """
    size = options.pop("size")
    if size is not None:
        options["data.size"] = opt.parse_size(size)
    return compare_of(opt.collect_values(data, config, assignments, options), own)


def compare_of(values: dict[str, Any], own: dict[str, Any]) -> Any:
    """The checked CompareConfig of plain values, with what was given beside them for the section `compare`.

    Raises:
        ConfigError: listing all faults.
    """
    from segdecay.config import parse_config
    from segdecay.errors import ConfigError, gather
    from segdecay.selection.compare_config import compare_config

    section = values.pop("compare", {})
    if not isinstance(section, dict):
        raise ConfigError(f"compare: a section of keys is needed; saw {section!r}.")
    section |= {key: value for key, value in own.items() if value is not None}
    faults: list[str] = []
    shared = compared = None
    try:
        shared = parse_config(values)
    except ConfigError as error:
        faults += [line.removeprefix("- ") for line in str(error).splitlines()]
    try:
        compared = compare_config(shared or parse_config({"data": {"path": "x"}}), section)
    except ConfigError as error:
        faults += [line.removeprefix("- ") for line in str(error).splitlines()]
    gather(ConfigError, faults)
    return compared

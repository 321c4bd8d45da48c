"""The command `strength`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segdecay.cli import options as opt

if TYPE_CHECKING:
    from segdecay.training.strength_units import StrengthReport, Translated

_EXAMPLE = "Example: segdecay strength --images 367 --epochs 100 --lr 0.001 --lambda 0.05"
ACTS = {"decoupled": "multiplies w by 1 − η·λ", "l2": "adds λ·w to the gradient"}
WITHOUT_GRADIENT = {"l2_sp": "the distance to its initial value of a weight"}
_PLAN: dict[str, Any] = {"rich_help_panel": "The training"}
_ASKED: dict[str, Any] = {"rich_help_panel": "The strength, by one of"}
_TOOLS: dict[str, Any] = {"rich_help_panel": "Other tools"}

Images = Annotated[int | None, typer.Option("--images", help="Number of training images. Needed.", **_PLAN)]
Optimizer = Annotated[str | None, typer.Option("--optimizer", help="adamw, adam or sgd. Default: adamw.", **_PLAN)]
Momentum = Annotated[float | None, typer.Option("--momentum", help="μ of sgd. Default: 0.9.", **_PLAN)]
Regularizer = Annotated[
    str | None,
    typer.Option("--regularizer", help="Any with a λ, such as l2 (coupled) or l1. Default: decoupled.", **_PLAN),
]
Lr = Annotated[float | None, typer.Option("--lr", help="Peak learning rate. Default: 0.003.", **_PLAN)]
Schedule = Annotated[str | None, typer.Option("--schedule", help="cosine, poly or constant. Default: cosine.", **_PLAN)]
Warmup = Annotated[
    float | None, typer.Option("--warmup", help="Share of the steps with a rising rate. Default: 0.1.", **_PLAN)
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images per batch. Default: 8.", **_PLAN)]
Accumulate = Annotated[int | None, typer.Option("--accumulate", help="Batches per step. Default: 1.", **_PLAN)]
Lambda = Annotated[float | None, typer.Option("--lambda", help="λ as the optimizer takes it.", **_ASKED)]
Timescale = Annotated[float | None, typer.Option("--timescale", help="τ in epochs.", **_ASKED)]
TotalDecay = Annotated[float | None, typer.Option("--total-decay", help="D over the whole training.", **_ASKED)]
From = Annotated[
    str | None, typer.Option("--from", metavar="NAME=VALUE", help="The value of another tool, see --to.", **_ASKED)
]
To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="NAME", help="Only these tools' conventions. Default: all.", **_TOOLS),
]
Samples = Annotated[
    int | None, typer.Option("--n-samples", help="Terms of the loss: samples, or valid pixels.", **_TOOLS)
]
Reduction = Annotated[
    str | None,
    typer.Option("--reduction", help="Of the loss: mean, half_mean, sum, half_sum or weighted_mean.", **_TOOLS),
]
WeightSum = Annotated[
    float | None, typer.Option("--weight-sum", help="Class weights summed over all samples.", **_TOOLS)
]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("strength", epilog=_EXAMPLE)(strength)


def strength(
    images: Images = None,
    optimizer: Optimizer = None,
    momentum: Momentum = None,
    regularizer: Regularizer = None,
    lr: Lr = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    epochs: opt.Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    lambda_: Lambda = None,
    timescale: Timescale = None,
    total_decay: TotalDecay = None,
    from_: From = None,
    to: To = None,
    samples: Samples = None,
    reduction: Reduction = None,
    weight_sum: WeightSum = None,
    config: opt.ConfigFile = None,
    assignments: opt.Set = None,
    as_json: opt.Json = False,
) -> None:
    """λ, τ and D of a strength, its effect on a weight that gets no gradient, and its value in other tools."""
    import json
    from dataclasses import asdict

    from segdecay.decay import Numbers
    from segdecay.training.strength_units import StrengthRequest
    from segdecay.workflows.strength import strength as run_strength

    report = run_strength(
        images,
        {"optimizer": optimizer, "momentum": momentum, "regularizer": regularizer, "lr": lr, "schedule": schedule,
         "warmup": warmup, "epochs": epochs, "batch_size": batch_size, "accumulate": accumulate},
        StrengthRequest(lambda_, timescale, total_decay, from_),
        numbers=Numbers(n_samples=samples, reduction=reduction, weight_sum=weight_sum),
        names=to or (),
        config=config,
        changes=assignments,
    )  # fmt: skip
    if as_json:
        opt.echo_json(json.dumps(asdict(report), ensure_ascii=False))
    else:
        opt.echo("\n".join(_lines(report)))


def _lines(report: StrengthReport) -> list[str]:
    """The report as text, with the reason for units that have no meaning."""
    acts = ACTS.get(report.regularizer, f"acts as {report.formula}")
    below = "any η·λ is allowed, since no step goes past zero"
    if report.largest_lambda is not None:
        below = f"η·λ must stay below 1: λ below {report.largest_lambda:.6g}"
    if report.largest_total_decay is not None:
        below += f", D below {report.largest_total_decay:.6g}"
    momentum = f" with μ = {report.momentum:g}" if report.momentum else ""
    schedule = f"{report.steps:,} steps in {report.epochs} epochs, {report.schedule} from lr {report.peak_lr:.6g}"
    return [
        f"{report.regularizer} on {report.optimizer}{momentum}: {schedule}",
        f"λ      {report.lambda_:.6g}, which {acts}",
        f"η·λ    {report.peak_shrinkage:.6g} at the peak; {below}",
        *_decay_lines(report),
        *(f"note   {finding}" for finding in report.findings),
        "",
        "The same strength in other tools",
        *_convention_lines(report.conventions),
    ]


def _decay_lines(report: StrengthReport) -> list[str]:
    if report.path is not None:
        total = "Σ η·λ/(1−μ)" if report.momentum and report.optimizer == "sgd" else "Σ η·λ"
        whole = " (of a filter's norm: times the root of its numbers)" if report.regularizer == "group_lasso" else ""
        what = f"a weight that gets no gradient{whole}"
        return [
            f"path   {report.path:.6g} = {total} is subtracted from {what}, whatever its size",
            f"D, τ   have no meaning here; the axis is relative_shrinkage: {total} over the median initial size",
        ]
    if report.total_decay is None or report.remaining is None:
        return [f"D, τ   have no meaning here: {report.reason}"]
    what = WITHOUT_GRADIENT.get(report.regularizer, "a weight")
    tau = "infinite" if report.timescale_epochs is None else f"{report.timescale_epochs:.4g} epochs"
    return [
        f"D      {report.total_decay:.6g}{'' if report.exact else ', to first order'}",
        f"τ      {tau}, at the peak learning rate",
        f"left   {report.remaining:.2%} at the end, of {what} that gets no gradient",
        *([f"note   {report.reason}"] if report.reason else []),
    ]


def _convention_lines(rows: Sequence[Translated]) -> list[str]:
    """One line per convention; those without a value are grouped by reason, at the end."""
    lines, apart = [], dict[str, list[str]]()
    for row in rows:
        if row.value is None:
            apart.setdefault(row.reason.removeprefix(f"{row.name} ").removeprefix("is "), []).append(row.name)
        else:
            lines.append(f"{row.name:<20}{row.symbol} = {row.value:.6g}")
    return [*lines, *(f"no value for {', '.join(names)}: {reason}" for reason, names in apart.items())]

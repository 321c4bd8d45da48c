"""The section about diagnostics: figures, numbers of the whole network, the table of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segdecay.report.facts.run import ActivationFacts, DiagnosticsFacts, Run, Training
from segdecay.report.figures import diagnostics as drawn
from segdecay.report.figures.diagnostics import Series
from segdecay.report.pages.panel import Panel, build_panel
from segdecay.report.pages.strength import page_names

TITLES = {
    "layer-norms": "Norm of every layer",
    "equilibrium": "Distance from equilibrium",
    "what-is-zero": "Exact zeros",
    "head-rows": "The last layer's rows against class frequency",
}
CAPTIONS = {
    "layer-norms": "‖W‖, the square root of the sum of a layer's squared weights, at the end of the training. Decay"
    " reduces it. Before a norm layer, ‖W‖ does not change the output of the network, only the angle by which a step"
    " turns the weight.",
    "equilibrium": "The angle by which one step turns a layer's weights, divided by the angle at which decay and"
    " gradients balance (dotted line, 1); median over the layers before a norm layer. Above 1, norms still grow; below"
    " 1, they still shrink, or the learning rate has just been lowered. Without decay there is no equilibrium.",
    "what-is-zero": "Zero weights: share of single weights. Zero channels: share of output channels whose weights are"
    " all zero. Dead activations: share of ReLU channels that were zero everywhere in one training batch.",
    "head-rows": "One dot per class: the norm of the weights of its logit, against its share of the training {0}."
    " Spearman: rank correlation, 1 if a more frequent class always has a longer row, 0 if frequency does not matter."
    " Longer rows favour frequent classes.",
}


@dataclass(frozen=True)
class LayerLine:
    """One layer, one value per series."""

    name: str
    group: str
    norms: tuple[float | None, ...]
    ranks: tuple[float | None, ...]
    zeros: tuple[float | None, ...]
    ratios: tuple[float | None, ...]


@dataclass(frozen=True)
class FactLine:
    """One number about the whole network, one value per series."""

    words: str
    kind: str  # "percent" or "number"
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class DiagnosticsSection:
    """The section of the diagnostics."""

    series: tuple[str, ...]
    panels: tuple[Panel, ...]
    facts: tuple[FactLine, ...]
    layers: tuple[LayerLine, ...]
    is_without_zeros: bool


def diagnostics_section(run: Run, settings: Sequence[tuple[str, tuple[Training, ...]]]) -> DiagnosticsSection | None:
    """The diagnostics without decay and of the compared setting; None if no trial measured any."""
    names = page_names(run)
    found = [Series(key, is_none=key == names.none, trainings=trainings) for key, trainings in settings]
    series = [item for item in found if item.readings]
    if not series:
        return None
    figures = {
        "layer-norms": drawn.norms_figure(series),
        "equilibrium": drawn.equilibrium_figure(series) if any(map(drawn.median_ratios, series)) else None,
        "what-is-zero": drawn.sparsity_figure(series),
        "head-rows": drawn.head_figure(series, run.data),
    }
    shown = {key: figure for key, figure in figures.items() if figure is not None}
    return DiagnosticsSection(
        series=tuple(item.title for item in series),
        panels=tuple(
            build_panel(key, TITLES[key], CAPTIONS[key].format(names.unit), figure)
            for key, figure in figures.items()
            if figure is not None
        ),
        facts=_facts(series, len(run.data.classes)),
        layers=_layers(series),
        is_without_zeros="what-is-zero" not in shown,
    )


def _facts(series: Sequence[Series], classes: int) -> tuple[FactLine, ...]:
    def of_reading(part: drawn.Part) -> tuple[float | None, ...]:
        return tuple(drawn.mean([part(reading) for reading in item.readings]) for item in series)

    def of_validation(part: str) -> tuple[float | None, ...]:
        return tuple(drawn.mean([_on_validation(training, part) for training in item.trainings]) for item in series)

    return (
        FactLine("penalty λR, share of the objective at the end", "percent", of_reading(lambda r: r.penalty_share)),
        FactLine("weights that are exactly zero", "percent", of_reading(drawn.zero_share)),
        FactLine("ReLU channels dead on all validation images", "percent", of_validation("dead")),
        FactLine("ReLU outputs that are zero on validation images", "percent", of_validation("zeros")),
        FactLine("distance from equilibrium, median over layers and measurements", "number", _medians(series)),
        FactLine(
            "Spearman of row norms with class frequency",
            "number",
            tuple(drawn.mean_spearman(item, classes) for item in series),
        ),
    )


def _medians(series: Sequence[Series]) -> tuple[float | None, ...]:
    return tuple(
        drawn.median([ratio for ratio in drawn.median_ratios(item).values() if ratio is not None]) for item in series
    )


def _on_validation(training: Training, part: str) -> float | None:
    """A share over all ReLU channels; of outputs, the mean over ReLUs weighted by channels."""
    lines: Sequence[ActivationFacts] = (
        training.extras.diagnostics.validation_activations if training.extras.diagnostics else ()
    )
    channels = sum(line.channels for line in lines)
    if not channels:
        return None
    if part == "dead":
        return sum(line.dead for line in lines) / channels
    return sum((line.zeros or 0.0) * line.channels for line in lines) / channels


def _layers(series: Sequence[Series]) -> tuple[LayerLine, ...]:
    norms = [drawn.layer_means(item, lambda layer: layer.norm) for item in series]
    ranks = [drawn.layer_means(item, lambda layer: layer.stable_rank) for item in series]
    zeros = [drawn.layer_means(item, lambda layer: layer.zeros) for item in series]
    ratios = [drawn.median_ratios(item) for item in series]
    groups = _groups([reading for item in series for reading in item.readings])
    return tuple(
        LayerLine(
            name,
            group,
            tuple(table.get(name) for table in norms),
            tuple(table.get(name) for table in ranks),
            tuple(table.get(name) for table in zeros),
            tuple(table.get(name) for table in ratios),
        )
        for name, group in groups.items()
    )


def _groups(readings: Sequence[DiagnosticsFacts]) -> dict[str, str]:
    return {layer.name: layer.group for reading in readings for layer in reading.layers}

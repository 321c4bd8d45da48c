"""Figures and rows of the diagnostics: what they show is what the curves and records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_diagnostics import LAYERS, row_norms
from report_numbers import ABSENT, FOLDS, Shape
from report_run import change, write_run, write_training

from segdecay.errors import RunError
from segdecay.report.facts.read import read_run
from segdecay.report.facts.run import Run
from segdecay.report.figures.diagnostics import Series, equilibrium_figure, head_figure, norms_figure, sparsity_figure
from segdecay.report.pages.classes import balancing_table
from segdecay.report.pages.diagnostics import diagnostics_section


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("diagnostics") / "run", Shape(has_stages=True)))


@pytest.fixture(scope="module")
def series(run: Run) -> list[Series]:
    return [Series("no decay", True, run.zero), Series("chosen", False, run.compared)]


MIDDLE = sum(range(FOLDS)) / FOLDS / 10  # what folds add to a norm on average


def test_the_norm_of_every_layer_is_the_mean_over_folds_at_the_last_reading(series: list[Series]) -> None:
    none, chosen = norms_figure(series).data
    assert list(none.x) == pytest.approx([4 * (row + 1) + MIDDLE for row in range(3)])
    assert list(chosen.x) == pytest.approx([0.8 * (row + 1) + MIDDLE for row in range(3)])
    figure = norms_figure(series)
    assert list(figure.layout.yaxis.ticktext) == [name.replace("<", "&lt;").replace(">", "&gt;") for name in LAYERS]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first layer stands at the top


def test_the_distance_from_equilibrium_is_drawn_where_something_decays(series: list[Series]) -> None:
    figure = equilibrium_figure(series)
    assert {trace.name.split(",")[0] for trace in figure.data} == {"chosen"}
    thick = figure.data[-1]
    assert list(thick.x) == [4, 8, 12]
    assert list(thick.y) == pytest.approx([8 / epoch * (1 + MIDDLE) for epoch in (4, 8, 12)], rel=1e-4)
    assert len(figure.data) == FOLDS + 1


def test_zeros_are_shares_of_weights_channels_and_activations(series: list[Series]) -> None:
    figure = sparsity_figure(series)
    assert figure is not None
    last = {trace.name: trace.y[-1] for trace in figure.data if trace.showlegend}
    assert last == {
        "zero weights, no decay": 0.0,
        "zero channels, no decay": 0.0,
        "dead activations, no decay": 0.0,
        "zero weights, chosen": 0.15,  # 60 of the 400 of body and head; norm layers are no weights
        "zero channels, chosen": pytest.approx(1 / 24, rel=1e-4),
        "dead activations, chosen": 0.25,
    }
    assert sparsity_figure(series[:1]) is None


def test_head_rows_stand_at_the_share_of_their_class_and_absent_classes_nowhere(run: Run, series: list[Series]) -> None:
    figure = head_figure(series, run.data)
    assert figure is not None
    none, chosen = figure.data
    present = [row for row in range(len(run.data.classes)) if row != ABSENT]
    assert list(none.x) == pytest.approx([0.5 / 2**row for row in present])
    assert list(chosen.y) == pytest.approx([row_norms(Shape(), 4.0)[row] for row in present], rel=1e-4)
    assert (none.name, chosen.name) == ("no decay, Spearman 0.9", "chosen, Spearman 0.3")
    assert "&lt;script" in chosen.text[1]


def test_a_head_whose_rows_are_no_classes_is_not_drawn(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    path = folder / "refit" / "chosen" / "curve.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["diagnostics"]:
            line["diagnostics"]["head"][0]["row_norms"] = [1.0, 2.0]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = read_run(folder)
    assert head_figure([Series("training", False, run.compared)], run.data) is None


def test_the_section_holds_medians_and_a_line_a_layer(run: Run) -> None:
    section = diagnostics_section(run, [("no decay", run.zero), ("chosen", run.compared)])
    assert section is not None
    facts = {line.words: line.values for line in section.facts}
    assert facts["penalty λR, share of the objective at the end"] == pytest.approx((0.0, 0.25))
    assert facts["ReLU channels dead on all validation images"] == pytest.approx((4 / 32, 4 / 32))
    assert facts["ReLU outputs that are zero on validation images"][0] == pytest.approx((8 * 0.4 + 24 * 0.8) / 32)
    none, chosen = facts["distance from equilibrium, median over layers and measurements"]
    assert none is None
    assert chosen == pytest.approx(1 + MIDDLE)
    first = section.layers[0]
    assert (first.name, first.group) == (LAYERS[0], "body")
    assert first.ranks == (2.0, 2.0)
    assert first.zeros == (0.0, 0.25)
    assert section.layers[-1].ratios == (None, None)
    assert not section.is_without_zeros


def test_a_second_stage_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    path = folder / "refit" / "chosen" / "curve.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[-1]["stage"] = 2
    lines[-1]["diagnostics"]["layers"][0]["norm"] = 1e6
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (trace,) = norms_figure([Series("training", False, read_run(folder).compared)]).data
    assert trace.x[0] == pytest.approx(0.8)


def test_balancing_is_told_class_by_class(run: Run) -> None:
    table = balancing_table(run)
    assert table is not None
    assert (table.epochs, table.cap, table.total_decay) == pytest.approx((10, 0.7, 0.045))
    line = table.lines[1]
    assert line.share == pytest.approx(0.25)
    assert (line.examples, line.weight, line.iou_before) == pytest.approx((18.0, 0.5, 0.4))
    assert (line.before, line.after) == pytest.approx((row_norms(Shape(), 4.0)[1], 0.7))
    absent = table.lines[ABSENT]
    assert (absent.share, absent.iou_before, absent.iou_after) == (None, None, None)


def test_runs_without_diagnostics_or_a_second_stage_have_neither(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", Shape(has_diagnostics=False)))
    assert diagnostics_section(run, [("no decay", run.zero), ("chosen", run.compared)]) is None
    assert balancing_table(run) is None


def test_a_damaged_reading_is_named(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    change(folder / "refit" / "chosen" / "trial.json", "extra", "stages", 0, "epochs", value="many")
    with pytest.raises(RunError, match=r"trial.json, extra is damaged:\n- stages.0.epochs"):
        read_run(folder)

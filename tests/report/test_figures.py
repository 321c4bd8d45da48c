"""Figures and the plain picture: what they show is what the records say."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from report_numbers import CLASSES, FOLDS, Shape
from report_run import write_run

from segdecay.report import score_svg
from segdecay.report.facts.read import read_run
from segdecay.report.facts.run import Run
from segdecay.report.facts.tables import values_like_best
from segdecay.report.figures.classes import classes_figure
from segdecay.report.figures.curves import learning_figure, loss_limits, objective_figure
from segdecay.report.figures.score import (
    difference_figure,
    gap_figure,
    log_ticks,
    padded,
    paired_figure,
    positions,
    score_figure,
    ticks,
)
from segdecay.report.pages.panel import figure_json
from segdecay.report.pages.strength import other_tools
from segdecay.runs.verdict import Verdict

KINDS = ("chosen", "zero", "flat", "edge")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("figures")
    shapes = {kind: Shape(kind=kind, diverged=None if kind == "edge" else 16.0) for kind in KINDS}
    return {kind: read_run(write_run(folder / kind, shape)) for kind, shape in shapes.items()}


def verdict_of(runs: dict[str, Run], kind: str = "chosen") -> Verdict:
    verdict = runs[kind].verdict
    assert verdict is not None
    return verdict


def test_zero_stands_left_of_every_strength_and_strengths_are_logarithmic() -> None:
    at = positions([0, 1, 4, 16])
    assert at[0] < at[1]
    assert at[2] - at[1] == pytest.approx(at[3] - at[2])
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])


def test_the_score_figure_shows_every_fold_and_the_mean_with_its_error(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs)
    figure = score_figure(verdict)
    folds, mean = figure.data[:FOLDS], figure.data[FOLDS]
    for number, line in enumerate(folds):
        assert list(line.y[:3]) == [setting.folds[number] for setting in verdict.settings[:3]]
    assert list(mean.y) == [setting.mean for setting in verdict.settings]
    assert list(mean.error_y.array[:3]) == [0.012] * 3
    assert list(mean.x) == list(positions([0, 1, 4, 16]))


def test_the_score_figure_names_none_and_chosen_and_gives_units_on_hover(runs: dict[str, Run]) -> None:
    figure = score_figure(verdict_of(runs))
    named = {annotation.text: annotation.x for annotation in figure.layout.annotations}
    at = positions([0, 1, 4, 16])
    assert named == {"no decay": at[0], "<b>chosen, one-SE</b>": at[2]}
    assert "λ = 1" in figure.data[FOLDS].text[2]
    assert "τ = 15 epochs" in figure.data[FOLDS].text[2]


def test_a_dropped_setting_is_marked_with_its_reason_escaped(runs: dict[str, Run]) -> None:
    figure = score_figure(verdict_of(runs))
    crosses = [trace for trace in figure.data if trace.marker.symbol == "x"]
    assert len(crosses) == 1
    assert "loss became NaN" in crosses[0].hovertext[0]
    assert "<i>" not in crosses[0].hovertext[0]


def test_a_setting_with_fewer_folds_is_hollow_and_says_why(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs, "edge")
    first, second, *rest = verdict.settings
    raced = replace(second, folds=(second.folds[0], None, None), dropped="race: eliminated after 1")
    mean = score_figure(replace(verdict, settings=(first, raced, *rest))).data[FOLDS]
    assert list(mean.marker.symbol) == ["circle", "circle-open", *["circle"] * len(rest)]
    assert mean.text[1].endswith(f"1 of {FOLDS} folds: eliminated after 1")


def test_the_paired_figure_sets_the_difference_on_the_scale_of_the_scores(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs)
    none, chosen = verdict.none, verdict.compared
    figure = paired_figure(verdict)
    assert none is not None
    assert chosen is not None
    for fold, line in enumerate(figure.data[:FOLDS]):
        assert list(line.y) == [none.folds[fold], chosen.folds[fold]]
    point, scores, differences = figure.data[-1], figure.layout.yaxis.range, figure.layout.yaxis2.range
    assert chosen.difference is not None
    assert point.y[0] == chosen.difference.mean
    assert [low - none.mean for low in scores] == pytest.approx(differences)


def test_values_of_other_tools_are_ticks_at_their_total_decay(runs: dict[str, Run]) -> None:
    run = replace(runs["chosen"], optimizer="adamw")
    others = other_tools(run)
    assert [value for value, _ in others] == pytest.approx([0.04, 0.2])  # D = 4 λ in this run
    figure = score_figure(verdict_of(runs), (), others)
    assert figure.data[FOLDS].x[0] < math.log10(0.2)  # no decay stays leftmost
    assert "0.05" in {annotation.text for annotation in figure.layout.annotations}
    assert other_tools(runs["chosen"]) == ()


def test_values_like_the_best_hold_the_best_and_a_clear_loser_is_not_among_them(runs: dict[str, Run]) -> None:
    run = runs["edge"]
    found = values_like_best(run)
    assert verdict_of(runs, "edge").strength.value in found
    assert 0.0 not in found


def test_differences_reach_exactly_over_their_intervals(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs)
    points = difference_figure(verdict).data[0]
    found = [setting.difference for setting in verdict.settings if setting.difference]
    for mean, up, down, difference in zip(
        points.y, points.error_y.array, points.error_y.arrayminus, found, strict=True
    ):
        assert difference.interval is not None
        assert mean == difference.mean
        assert (mean - down, mean + up) == pytest.approx(difference.interval)


def test_the_gap_lies_between_the_two_lines(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs)
    validation, train = gap_figure(verdict).data
    assert train.y[0] - validation.y[0] == pytest.approx(verdict.settings[0].gap)
    diverged = [item.strength.value for item in verdict.settings if item.mean is None]
    assert diverged
    assert len(train.y) == len(validation.y) == len(verdict.settings) - len(diverged)
    assert None not in (*train.y, *validation.y)  # a hole would shade what is not the gap


def test_classes_are_compared_with_none_in_hundredths_and_an_absent_class_is_empty(runs: dict[str, Run]) -> None:
    verdict = verdict_of(runs)
    heat = classes_figure(verdict, runs["chosen"].data).data[0]
    chosen, none = verdict.settings[2].classes, verdict.settings[0].classes
    assert chosen[0] is not None
    assert none[0] is not None
    assert heat.z[0][1] == pytest.approx(100 * (chosen[0] - none[0]))
    assert list(heat.z[4]) == [None, None]
    assert list(heat.text[4]) == ["", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_no_label_of_a_figure_holds_markup_from_data(runs: dict[str, Run], kind: str) -> None:
    run, verdict = runs[kind], verdict_of(runs, kind)
    figures = [score_figure(verdict), classes_figure(verdict, run.data), gap_figure(verdict)]
    for figure in figures:
        text = figure.to_json()
        assert not any(tag in text.replace("\\u003c", "<") for tag in ("<script", "<img", "</script", "<b>bold"))


def test_json_in_a_script_element_holds_no_sign_that_could_end_it(runs: dict[str, Run]) -> None:
    text = figure_json(classes_figure(verdict_of(runs), runs["chosen"].data))
    assert not set("<>&") & set(text)
    assert "\\u003c" not in text.replace("\\u003cbr\\u003e", "")  # only our own line breaks


@pytest.mark.parametrize(("regularizer", "note"), [("decoupled", "shown, not minimised"), ("l2", "")])
def test_the_penalty_says_whether_it_is_minimised(runs: dict[str, Run], regularizer: str, note: str) -> None:
    names = [trace.name for trace in objective_figure(runs["chosen"].compared, regularizer, None).data]
    assert (f"λR ({note})" if note else "λR") in names
    assert any("shown" in name for name in names) == bool(note)


def test_thick_curves_are_means_over_folds_and_gaps_are_left_out(runs: dict[str, Run]) -> None:
    trainings = runs["chosen"].compared
    traces = {trace.name: trace for trace in learning_figure(trainings, None).data}
    thick = traces["validation mIoU"]
    assert list(thick.x) == [2, 4, 6, 8, 10, 12]
    at_two = [row.validation_miou for training in trainings for row in training.curve if row.epoch == 2]
    assert thick.y[0] == pytest.approx(sum(value or 0 for value in at_two) / FOLDS, rel=1e-4)
    assert len([name for name in traces if name.startswith("validation mIoU, fold")]) == FOLDS


def test_zero_penalty_is_not_drawn_on_the_logarithmic_axis(runs: dict[str, Run]) -> None:
    figure = objective_figure(runs["chosen"].zero, "decoupled", loss_limits(runs["chosen"].zero))
    assert not any(trace.name.startswith("λR") for trace in figure.data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_picture_is_well_formed_and_holds_nothing_active(runs: dict[str, Run], kind: str) -> None:
    root = ET.fromstring(score_svg(verdict_of(runs, kind)))  # noqa: S314  # our own text
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "rect", "text", "path", "circle"}
    texts = {element.text for element in root.iter()}
    assert "no decay" in texts
    assert ("chosen" in texts) == (kind in ("chosen", "edge"))
    assert ("dropped" in texts) == (kind != "edge")


def test_the_plain_picture_puts_higher_scores_higher(runs: dict[str, Run]) -> None:
    root = ET.fromstring(score_svg(verdict_of(runs)))  # noqa: S314  # our own text
    dots = [element.attrib for element in root.iter() if element.get("r") == "5.5"]
    assert [float(dot["cx"]) for dot in dots] == sorted(float(dot["cx"]) for dot in dots)
    assert [float(dot["cy"]) for dot in dots] == sorted((float(dot["cy"]) for dot in dots), reverse=True)


def test_a_title_cannot_become_markup_in_the_plain_picture(runs: dict[str, Run]) -> None:
    picture = score_svg(verdict_of(runs), title="<script>alert(1)</script>\x00")
    assert "<script" not in picture
    ET.fromstring(picture)  # noqa: S314  # our own text


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.4531, 0.4532), (-3.0, 700.0)])
def test_ticks_are_few_and_inside(bounds: tuple[float, float]) -> None:
    found = ticks(*bounds)
    assert 1 <= len(found) <= 7
    assert all(bounds[0] - 1e-9 <= value <= bounds[1] + 1e-9 for value in found)


def test_ranges_hold_what_they_are_asked_to_hold() -> None:
    low, high = padded([0.3, None, 0.5, math.nan])
    assert low < 0.3 < 0.5 < high
    assert all(0.0012 <= value <= 950 for value in log_ticks(0.0012, 950))


def test_the_fixture_is_hostile_enough() -> None:
    assert any("</script>" in name for name in CLASSES)
    assert any("onerror" in name for name in CLASSES)

"""Classes over strength, confusions, CSV: what they say is what the kept matrices say."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from report_numbers import ABSENT, CLASSES, FOLDS, Shape
from report_run import confusions_of, write_evaluation, write_run

from segdecay.errors import RunError
from segdecay.metrics.confusion import intersection_union, iou, write_confusions
from segdecay.metrics.counts import read_counts
from segdecay.report import build_evaluation_report
from segdecay.report.facts.read import read_run
from segdecay.report.facts.run import Run, of_verdict
from segdecay.report.facts.tables import class_curves, class_table
from segdecay.report.figures.confusion import OTHERS, confusion_figure, largest_mistakes, shares_of_truth, shown_classes
from segdecay.report.figures.score import figure_csv
from segdecay.report.pages.classes import confusion_section


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("classes") / "run", Shape(diverged=None)))


def raced(run: Run, value: float, folds: tuple[int, ...]) -> Run:
    """The same run with a setting that has some folds only."""
    kept = dict(run.kept.items())
    kept[value] = tuple(trial for trial in kept[value] if trial.fold in folds)
    return replace(run, kept=kept)


def class_iou(value: float, fold: int) -> np.ndarray:
    return iou(*intersection_union(confusions_of(Shape(), value, fold).sum(axis=0)))


def test_counts_of_a_file_are_those_of_its_matrices(tmp_path: Path) -> None:
    matrices = np.random.default_rng(0).integers(0, 4, (5, 7, 7))
    write_confusions(tmp_path / "confusion.npz", matrices)
    kept = read_counts(tmp_path / "confusion.npz")
    hit, union = intersection_union(matrices)
    assert np.array_equal(kept.hit, hit)
    assert np.array_equal(kept.union, union)
    assert np.array_equal(kept.true, matrices.sum(axis=2))
    assert np.array_equal(kept.total, matrices.sum(axis=0))


def test_a_missing_or_damaged_matrix_file_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = next(folder.glob("trials/*/0-0/confusion.npz"))
    path.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(RunError, match=r"confusion.npz is missing or damaged"):
        read_run(folder)
    path.unlink()
    with pytest.raises(RunError, match=r"confusion.npz is missing or damaged"):
        read_run(folder)


def test_matrices_of_other_classes_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_confusions(next(folder.glob("trials/*/0-0/confusion.npz")), np.ones((2, 3, 3), np.int64))
    with pytest.raises(RunError, match="holds 3 classes; the data has 6"):
        read_run(folder)


def test_trainings_that_the_verdict_does_not_rest_on_are_left_out(run: Run) -> None:
    assert run.verdict is not None
    first, *rest = run.verdict.settings
    none = replace(first, folds=(*(first.folds or ())[:-1], None))
    out = replace(rest[0], folds=(), mean=None)
    found = of_verdict(run.kept, replace(run.verdict, settings=(none, out, *rest[1:])))
    assert {trial.fold for trial in found[none.strength.value]} == set(range(FOLDS - 1))
    assert out.strength.value not in found
    assert found[rest[1].strength.value] == run.kept[rest[1].strength.value]


def test_a_class_gains_the_mean_of_its_differences_over_the_folds(run: Run) -> None:
    curve = class_curves(run)[1]
    gains = [class_iou(4.0, fold)[1] - class_iou(0.0, fold)[1] for fold in range(FOLDS)]
    point = next(point for point in curve.points if point.value == 4.0)
    assert point.difference == pytest.approx(np.mean(gains))
    assert curve.none == pytest.approx(np.mean([class_iou(0.0, fold)[1] for fold in range(FOLDS)]))


def test_a_setting_with_fewer_folds_is_compared_over_the_folds_that_both_have(run: Run) -> None:
    curve = class_curves(raced(run, 1.0, (2,)))[1]
    point = next(point for point in curve.points if point.value == 1.0)
    assert point.difference == pytest.approx(class_iou(1.0, 2)[1] - class_iou(0.0, 2)[1])


def test_the_interval_of_the_compared_setting_is_the_verdicts_and_holds_its_difference(run: Run) -> None:
    assert run.verdict is not None
    points = {point.value: point for point in class_curves(run)[2].points}
    assert points[4.0].interval == run.verdict.classes[2].difference_interval
    other = points[1.0]
    assert other.interval is not None
    assert other.difference is not None
    assert other.interval[0] < other.difference < other.interval[1]


def test_where_groups_were_resampled_other_settings_have_no_interval(run: Run) -> None:
    assert run.verdict is not None
    grouped = replace(run, verdict=replace(run.verdict, evidence={"resampled": "groups"}))
    points = {point.value: point.interval is None for point in class_curves(grouped)[2].points}
    assert points == {1.0: True, 4.0: False, 16.0: True}


def test_an_absent_class_has_neither_a_score_nor_differences(run: Run) -> None:
    curve = class_curves(run)[ABSENT]
    assert curve.none is None
    assert [point.difference for point in curve.points] == [None, None, None]


def test_confusions_are_summed_over_shared_folds_and_normalised_by_the_truth(run: Run) -> None:
    section = confusion_section(raced(run, 4.0, (0, 2)))
    assert section is not None
    assert section.note == "All validation images of folds 0, 2, which both settings have."
    total = sum(confusions_of(Shape(), 0.0, fold).sum(axis=0) for fold in (0, 2))
    shares = shares_of_truth(np.asarray(total))
    mistake = next(item for item in section.mistakes if (item.truth, item.prediction) == (0, 1))
    assert mistake.shares[0] == pytest.approx(shares[0, 1])
    assert np.nansum(shares, axis=1) == pytest.approx([0.0 if row == ABSENT else 1.0 for row in range(len(CLASSES))])


def test_many_classes_leave_the_most_mistaken_ones_and_the_rest_in_one_column() -> None:
    matrix = np.diag(np.full(50, 100))
    matrix[30, 49] = 60
    matrix[3, 5] = 40
    kept = shown_classes([matrix], at_most=4)
    assert kept == (3, 5, 30, 49)
    matrix[30, 10] = 40
    figure = confusion_figure(matrix, [f"c{k}" for k in range(50)], kept)
    assert figure.layout.xaxis.ticktext[-1] == OTHERS
    assert figure.data[0].customdata[2][4] == pytest.approx(40 / 200)


def test_the_largest_mistakes_come_first_and_never_the_diagonal() -> None:
    first, second = np.array([[8, 2], [5, 5]]), np.array([[9, 1], [1, 9]])
    found = largest_mistakes([first, second])
    assert [(item.truth, item.prediction, item.shares) for item in found] == [(1, 0, (0.5, 0.1)), (0, 1, (0.2, 0.1))]


def test_csv_has_strengths_in_place_of_positions_and_ends_of_bars() -> None:
    figure = go.Figure()
    figure.add_scatter(x=[-1.0, 0.0], y=[0.5, 0.6], name="<b>a</b>", error_y={"array": [0.1, 0.2]})
    figure.update_layout(xaxis={"title": "D"}, yaxis={"title": "mIoU"})
    rows = list(csv.reader(io.StringIO(figure_csv(figure, {-1.0: 0.0, 0.0: 8.0}))))
    assert rows[0] == ["series", "label", "D", "mIoU", "low", "high"]
    assert [row[:4] for row in rows[1:]] == [["a", "", "0.0", "0.5"], ["a", "", "8.0", "0.6"]]
    assert [float(row[5]) for row in rows[1:]] == [0.6, 0.8]


def test_an_evaluation_whose_matrix_does_not_fit_its_classes_is_refused(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "evaluation")
    path = folder / "evaluation.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"confusion": [[', '"confusion": [[1], ['), "utf-8")
    with pytest.raises(RunError, match=r"confusion: 7 rows of .* columns for 6 classes"):
        build_evaluation_report(folder)


def test_the_report_needs_no_torch() -> None:
    code = "import sys, segdecay.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_precision_recall_and_boundary_iou_stand_beside_iou(run: Run) -> None:
    """The trainings of the fixture say 1.1, .9 and .5 of their IoU, all of them alike."""
    scores = run.compared[0].record.validation
    assert scores is not None
    for index, line in enumerate(class_table(run).lines):
        own = scores.iou[index]
        expected = (None, None, None) if math.isnan(own) else pytest.approx((1.1 * own, 0.9 * own, 0.5 * own))
        assert (line.precision, line.recall, line.boundary) == expected
        assert line.support is not None


def test_the_page_of_an_evaluation_has_means_over_the_set_and_over_images(tmp_path: Path) -> None:
    page = build_evaluation_report(write_evaluation(tmp_path / "new")).read_text()
    for value in ("0.310", "0.320", "0.330", "0.340", "0.350", "0.360"):
        assert f"<td>{value}</td>" in page
    older = build_evaluation_report(write_evaluation(tmp_path / "old", of_older_version=True)).read_text()
    assert "<td>0.310</td>" not in older
    assert "weighted by true pixels" in older

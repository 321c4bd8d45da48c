"""`segdecay.plot`: the figures of the page as functions, several runs in one, and files for papers."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import pytest
from paths import ROOT
from report_numbers import Shape
from report_run import write_run
from small_search import SmallSearch

import segdecay
from segdecay import plot
from segdecay.errors import ConfigError, MissingPartError, RunError
from segdecay.report.facts.read import read_run
from segdecay.report.facts.tables import values_like_best
from segdecay.report.figures import paper
from segdecay.report.figures.score import score_figure
from segdecay.report.figures.several import several_scores_figure
from segdecay.runs.comparison import Comparison
from segdecay.runs.read import read_record
from segdecay.workflows.compare import Compared

DIGITS = ROOT / "docs" / "records" / "digits"
INCHES = (85 / 25.4, 2.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plot") / "run", Shape())


def test_a_figure_is_that_of_the_page(run: Path) -> None:
    facts = read_run(run)
    verdict, alike = facts.verdict, values_like_best(facts)
    assert verdict is not None
    assert alike
    found = plot.scores(run)
    assert isinstance(found, go.Figure)
    assert json.loads(found.to_json()) == json.loads(score_figure(verdict, alike).to_json())


@pytest.mark.parametrize(
    ("draw", "traces"),
    [
        (lambda run: plot.scores(run, what="difference"), 1),
        (lambda run: plot.scores(run, what="gap"), 2),
        (plot.classes, 1),
        (lambda run: plot.curves(run, what="objective", setting="none"), 8),
        (plot.confusion, 1),
        (lambda run: plot.confusion(run, setting="none"), 1),
        (plot.weights, 2),
        (lambda run: plot.weights(run, what="head"), 2),
        (lambda run: plot.images(run, at_most=2), 0),
    ],
)
def test_every_figure_is_drawn_for_paper_with_all_that_it_shows(draw: Any, traces: int, run: Path) -> None:
    figure = draw(run)
    assert len(figure.data) == traces
    axes: Any = paper.draw(figure, INCHES).axes[0]
    points = sum(len(one.x) for one in figure.data if one.type == "scatter" and "markers" in one.mode)
    assert sum(len(one.get_offsets()) for one in axes.collections) >= points
    for one in figure.data:
        if one.type == "heatmap":
            shown = sorted(text for line in one.text for text in line if text)
            assert sorted(text.get_text() for text in axes.texts) == shown
    assert len(axes.images) == len(figure.layout.images)
    if figure.layout.xaxis.tickvals is not None:
        assert len(axes.get_xticklabels()) == len(figure.layout.xaxis.tickvals)
    assert axes.get_xlabel() == paper.label_text(figure.layout.xaxis.title.text)


def test_points_and_intervals_are_where_the_numbers_say(run: Path) -> None:
    verdict = read_run(run).verdict
    assert verdict is not None
    axes: Any = paper.draw(plot.scores(run, what="difference"), INCHES).axes[0]
    known = [item.difference for item in verdict.settings if item.difference is not None and item.difference.mean]
    shown = [float(one.get_offsets()[0][1]) for one in axes.collections if type(one).__name__ == "PathCollection"]
    assert shown == pytest.approx([one.mean for one in known])
    (bars,) = [one for one in axes.collections if type(one).__name__ == "LineCollection"]
    assert [pytest.approx(line[:, 1]) for line in bars.get_segments()] == [one.interval for one in known]


def test_several_runs_are_drawn_in_one_figure(run: Path) -> None:
    figure = plot.scores(run, DIGITS, names=("scenes", "digits"))
    assert [one.name for one in figure.data] == ["scenes", "digits"]
    assert figure.data[0].line.color != figure.data[1].line.color
    (mean,) = [one for one in plot.scores(DIGITS).data if one.name.startswith("mean")]
    assert list(figure.data[1].y) == [value for value in mean.y if value is not None]
    two = plot.curves(run, run, names=("a", "b"))
    assert list(two.data[0].y) == list(two.data[1].y)
    assert [one.name for one in two.data] == ["a, validation", "b, validation"]


def test_runs_of_different_axes_are_not_drawn_on_one(run: Path) -> None:
    verdict = read_run(run).verdict
    assert verdict is not None
    with pytest.raises(ConfigError, match=r"(?s)one axis and one criterion.*a: total_decay by miou.*b: .* by worst"):
        several_scores_figure({"a": verdict, "b": replace(verdict, criterion="worst")})


def test_a_figure_of_a_real_search_and_of_an_evaluation(small_search: SmallSearch) -> None:
    matrix = plot.confusion(small_search.run)
    assert list(matrix.layout.xaxis.ticktext) == ["ground", "bright", "dark"]
    found = segdecay.evaluate(small_search.run, small_search.data, quiet=True)
    shares = np.asarray(plot.confusion(found).data[0].customdata, float)
    truth = np.asarray(found.evaluation.confusion, float)
    np.testing.assert_allclose(shares, truth / truth.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_comparison_is_drawn(tmp_path: Path) -> None:
    found = read_record(ROOT / "docs" / "records" / "compare" / "nuclei.json", Comparison)
    done = Compared(tmp_path, found, tmp_path / "report.html")
    ranking = plot.comparison(done)
    assert list(ranking.data[1].x) == [arm.mean for arm in found.arms]
    drawn: Any = paper.draw(plot.comparison(done, what="pairs"), INCHES).axes[0]
    assert len(drawn.get_yticklabels()) == len(found.arms)
    assert any(text.get_weight() == "bold" for text in drawn.texts) == any(pair.told_apart for pair in found.pairs)


@pytest.mark.filterwarnings("ignore:DejaVu Sans lacks")
def test_a_file_for_a_paper(run: Path, tmp_path: Path) -> None:
    figure = plot.scores(run)
    pdf = figure.save(tmp_path / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert b"FontFile2" in pdf  # embedded, as TrueType
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(85 / 25.4 * 72, abs=0.5)
    small = plot.Figure().add_scatter(x=[0, 1], y=[0.5, 0.7], name="mean")
    svg = small.save(tmp_path / "figure.svg", width_mm=175, height_mm=60).read_text(encoding="utf-8")
    assert 'width="496.062992pt"' in svg
    assert "<image" not in svg  # vectors alone
    assert "font-family" not in svg  # letters are outlines
    assert small.save(tmp_path / "again.svg", width_mm=175, height_mm=60).read_text(encoding="utf-8") == svg
    before = dict(mpl.rcParams)
    page = small.save(tmp_path / "figure.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page)  # nothing is loaded
    assert dict(mpl.rcParams) == before


def test_characters_that_a_font_lacks_are_named(tmp_path: Path) -> None:
    figure = plot.Figure().add_scatter(x=[0, 1], y=[1, 2], name="道 road")
    with pytest.warns(UserWarning, match="DejaVu Sans lacks 道, drawn as boxes"):
        plot.Figure(figure.update_layout(showlegend=True)).save(tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("call_it", "error", "said"),
    [
        (lambda _run: plot.scores(), ConfigError, "At least one run"),
        (
            lambda run: plot.scores(run, what=cast("Any", "points")),
            ConfigError,
            "what= takes score, paired, difference, gap; saw 'points'",
        ),
        (lambda run: plot.scores(run, run, what="gap"), ConfigError, "drawn for one run; saw 2"),
        (lambda run: plot.scores(run, names=("a", "b")), ConfigError, "names= takes a different name for each of 1"),
        (lambda _run: plot.scores(cast("Any", 3)), ConfigError, "saw int"),
        (lambda run: plot.curves(run, setting=cast("Any", "best")), ConfigError, "setting= takes chosen, none"),
        (plot.joint, RunError, "searched strengths alone"),
        (lambda run: plot.classes(run.parent), RunError, "not the folder of a run"),
        (plot.comparison, RunError, "comparison.json is missing"),
        (lambda run: plot.scores(run).save("figure.eps"), ConfigError, "saw 'figure.eps'"),
        (lambda run: plot.scores(run).save("figure.pdf", height_mm=0), ConfigError, "height_mm=0"),
        (
            lambda run: plot.scores(run).save("figure.pdf", font="Nonexistent"),
            ConfigError,
            "Unknown font 'Nonexistent'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told(call_it: Any, error: type[Exception], said: str, run: Path) -> None:
    with pytest.raises(error, match=said):
        call_it(run)
    assert not Path("figure.pdf").exists()


def test_without_matplotlib_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if name == "matplotlib":
            raise ImportError("no matplotlib")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingPartError, match=r"pip install 'segdecay\[matplotlib\]'"):
        plot.scores(run).save(tmp_path / "figure.svg")
    assert list(tmp_path.iterdir()) == []

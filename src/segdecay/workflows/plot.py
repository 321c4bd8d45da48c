"""The figures of a report as functions: plotly figures for notebooks, and files for papers.

Every function takes what `tune`, `train`, `compare` or `evaluate` returned, or the folder of a run. `scores` and
`curves` take several, drawn in one figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import plotly.graph_objects as go

from segdecay.errors import ConfigError, RunError
from segdecay.report.facts.comparison import read_comparison
from segdecay.report.facts.read import read_run
from segdecay.report.facts.run import Run, shared_folds, total_of
from segdecay.report.facts.tables import class_curves, values_like_best
from segdecay.report.figures import compare as compared_figures
from segdecay.report.figures import diagnostics
from segdecay.report.figures.classes import classes_figure
from segdecay.report.figures.confusion import confusion_figure, shown_classes
from segdecay.report.figures.curves import learning_figure, loss_limits, objective_figure, score_limits
from segdecay.report.figures.examples import ExampleRow, examples_figure
from segdecay.report.figures.joint import joint_figure
from segdecay.report.figures.paper import COLUMN_MM, FONT, Paper, paper_bytes
from segdecay.report.figures.score import difference_figure, gap_figure, paired_figure, score_figure
from segdecay.report.figures.several import several_curves_figure, several_scores_figure
from segdecay.report.pages.images import read_sheets
from segdecay.report.pages.strength import compared_word, other_tools, page_names, shown_settings
from segdecay.runs.comparison import Comparison
from segdecay.runs.read import read_record
from segdecay.runs.verdict import Verdict
from segdecay.utils.files import write_bytes
from segdecay.workflows.compare import Compared
from segdecay.workflows.evaluate import Evaluated
from segdecay.workflows.train import Trained
from segdecay.workflows.tune import Tuned

Result: TypeAlias = "Tuned | Trained | Compared | str | Path"
Setting = Literal["chosen", "none"]
PAPER = (".svg", ".pdf", ".png")
SCORES = ("score", "paired", "difference", "gap")
CURVES = ("score", "objective")
WEIGHTS = ("norms", "equilibrium", "zeros", "head")
COMPARISONS = ("ranking", "pairs", "classes")


class Figure(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A plotly figure, the one of the report, which also saves itself for papers."""

    def save(
        self,
        path: str | Path,
        *,
        width_mm: float = COLUMN_MM,
        height_mm: float | None = None,
        font: str = FONT,
        font_pt: float = 7.0,
    ) -> Path:
        """Write the figure: .svg or .pdf (vectors, fonts embedded), .png at 300 dpi, or .html (interactive, offline).

        Args:
            path: its suffix decides.
            width_mm: of the picture; 85 is a column of most journals, 175 a page. Not for .html.
            height_mm: None: in the proportions of the report.
            font: name of an installed font; a UserWarning names the characters that it lacks.
            font_pt: size of all texts.

        Returns:
            The path.

        Raises:
            ConfigError: another suffix, or a size that is not positive.
            MissingPartError: matplotlib is not installed.

        Example:
            >>> import tempfile
            >>> figure = Figure().add_scatter(x=[0, 1], y=[0.5, 0.7], name="mean")
            >>> Figure(figure).save(f"{tempfile.mkdtemp()}/scores.pdf").read_bytes()[:5]
            b'%PDF-'
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix == ".html":
            write_bytes(target, self.to_html(include_plotlyjs=True).encode())
            return target
        if suffix not in PAPER:
            raise ConfigError(f"save takes a file named {', '.join(PAPER)} or .html; saw '{target.name}'.")
        if min(width_mm, width_mm if height_mm is None else height_mm, font_pt) <= 0:
            raise ConfigError(f"save: sizes above 0 are needed; saw {width_mm=}, {height_mm=}, {font_pt=}.")
        size = Paper(width_mm, height_mm, font, font_pt)
        write_bytes(target, paper_bytes(self, suffix.removeprefix("."), size))
        return target


def scores(
    *runs: Result, what: Literal["score", "paired", "difference", "gap"] = "score", names: tuple[str, ...] | None = None
) -> Figure:
    """Score against strength of a search: mean with one standard error, and every fold; of several runs, their means.

    Args:
        runs: one search or more.
        what: of one run also "paired" (no decay against chosen, by fold), "difference" (from no decay, with its
            interval) or "gap" (train and validation).
        names: of the runs in the legend; the names of their folders by default.

    Raises:
        RunError: a run without a verdict. ConfigError: runs of different axes or criteria.
    """
    _validate("what", what, SCORES)
    verdicts = {name: _verdict(run) for name, run in _named(runs, names).items()}
    if len(verdicts) > 1:
        if what != "score":
            raise ConfigError(f"what={what!r} is drawn for one run; saw {len(verdicts)}.")
        return Figure(several_scores_figure(verdicts))
    (verdict,) = verdicts.values()
    if what == "score" and (_folder(runs[0]) / "trials").is_dir():  # a verdict alone has no counts
        facts = _facts(runs[0])
        return Figure(score_figure(verdict, values_like_best(facts), other_tools(facts)))
    draw = {"score": score_figure, "paired": paired_figure, "difference": difference_figure, "gap": gap_figure}
    return Figure(draw[what](verdict))


def classes(run: Result) -> Figure:
    """Every class at every strength: score minus score without decay, in percentage points.

    Raises:
        RunError: a run without a verdict.
    """
    facts = _facts(run)
    return Figure(classes_figure(_verdict_of(facts), facts.data, class_curves(facts)))


def curves(
    *runs: Result,
    what: Literal["score", "objective"] = "score",
    setting: Setting = "chosen",
    names: tuple[str, ...] | None = None,
) -> Figure:
    """Curves over epochs: scores, or both terms of the objective; thick the mean of the folds, thin each fold.

    Args:
        runs: searches or single trainings; of several the mean validation score of each.
        what: "score" or "objective".
        setting: of a search: "chosen" (the compared strength) or "none".
        names: as `scores`.

    Raises:
        RunError: a run that is not finished. ConfigError: an unknown name.
    """
    _validate("what", what, CURVES)
    facts = {name: _facts(run) for name, run in _named(runs, names).items()}
    trainings = {name: _trainings(one, setting) for name, one in facts.items()}
    if len(facts) > 1:
        if what != "score":
            raise ConfigError(f"what={what!r} is drawn for one run; saw {len(facts)}.")
        return Figure(several_curves_figure(trainings))
    ((name, one),) = facts.items()
    if what == "score":
        return Figure(learning_figure(trainings[name], score_limits(trainings[name])))
    return Figure(objective_figure(trainings[name], one.regularizer, loss_limits(trainings[name])))


def confusion(run: Result | Evaluated, *, setting: Setting = "chosen") -> Figure:
    """The confusion matrix over all validation images, or of an evaluation; rows are the truth.

    Args:
        run: a search, a training or an evaluation.
        setting: of a search: "chosen" (the compared strength) or "none", over the folds that both have.

    Raises:
        RunError: nothing was scored.
    """
    if isinstance(run, Evaluated):
        found, names = np.asarray(run.evaluation.confusion), [row.name for row in run.evaluation.classes]
        return Figure(confusion_figure(found, names, shown_classes([found])))
    facts = _facts(run)
    matrix = _matrix(facts, setting)
    return Figure(confusion_figure(matrix, facts.data.classes, shown_classes([matrix])))


def images(run: Result, *, at_most: int = 4) -> Figure:
    """Example images of a search with truth and both predictions.

    Raises:
        RunError: the run has no examples with masks.
    """
    facts = _facts(run)
    cases = facts.examples.cases[:at_most]
    if not cases or facts.verdict is None:
        raise RunError(f"{facts.folder} has no example images with masks: those of a search of segdecay have.")
    sheets = read_sheets(facts.folder / "examples", cases, facts.data.palette)
    rows = [
        ExampleRow(one.example.kind, one.width, one.height, (one.image, one.truth, one.zero, one.chosen))
        for one in sheets
    ]
    return Figure(examples_figure(rows, page_names(facts).none, compared_word(facts.verdict)))


def weights(run: Result, *, what: Literal["norms", "equilibrium", "zeros", "head"] = "norms") -> Figure:
    """The weights at the end of the training, without decay and with it.

    Args:
        run: a search or a training.
        what: "norms" of every layer, "equilibrium" (distance from it), exact "zeros", rows of the "head" against
            class frequency.

    Raises:
        RunError: the run measured none of it.
    """
    _validate("what", what, WEIGHTS)
    facts = _facts(run)
    none = page_names(facts).none
    series = [diagnostics.Series(key, is_none=key == none, trainings=own) for key, own in shown_settings(facts)]
    series = [item for item in series if item.readings]
    figure: go.Figure | None = None
    if series and what == "norms":
        figure = diagnostics.norms_figure(series)
    elif series and what == "equilibrium" and any(map(diagnostics.median_ratios, series)):
        figure = diagnostics.equilibrium_figure(series)
    elif series and what == "zeros":
        figure = diagnostics.sparsity_figure(series)
    elif series and what == "head":
        figure = diagnostics.head_figure(series, facts.data)
    if figure is None:
        raise RunError(f"{facts.folder}: nothing to draw for what={what!r}; its trainings measured none, or all are 0.")
    return Figure(figure)


def comparison(run: Compared | str | Path, *, what: Literal["ranking", "pairs", "classes"] = "ranking") -> Figure:
    """The arms of a comparison with intervals, all pairs, or every class against no decay.

    Raises:
        RunError: the run is no finished comparison.
    """
    _validate("what", what, COMPARISONS)
    found: Comparison = run.comparison if isinstance(run, Compared) else read_comparison(Path(run)).found
    draw = {
        "ranking": compared_figures.ranking_figure,
        "pairs": compared_figures.pairs_figure,
        "classes": compared_figures.classes_figure,
    }
    return Figure(draw[what](found))


def joint(run: Result) -> Figure:
    """The points of a joint search: learning rate (or the first searched value) against strength.

    Raises:
        RunError: the run searched strengths alone.
    """
    facts = _facts(run)
    if facts.joint is None or not facts.joint.points:
        raise RunError(f"{facts.folder} searched strengths alone; joint draws a run of tune with search=.")
    return Figure(joint_figure(facts.joint))


def _validate(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}= takes {', '.join(allowed)}; saw {value!r}.")


def _named(runs: tuple[Result, ...], names: tuple[str, ...] | None) -> Mapping[str, Result]:
    """Runs by name; a folder's name, with a number where two are equal."""
    if not runs:
        raise ConfigError("At least one run is needed: what tune, train or compare returned, or a run's folder.")
    if names is not None and (isinstance(names, str) or len({*names}) != len(runs)):
        raise ConfigError(f"names= takes a different name for each of {len(runs)} runs; saw {names!r}.")
    found: dict[str, Any] = {}
    for place, run in enumerate(runs):
        name = _folder(run).resolve().name if names is None else names[place]
        found[name if name not in found else f"{name} ({place + 1})"] = run
    return found


def _folder(run: Result) -> Path:
    if isinstance(run, str | Path):
        return Path(run)
    if not isinstance(run, Tuned | Trained | Compared):
        raise ConfigError(f"A run is what tune, train or compare returned, or its folder; saw {type(run).__name__}.")
    return run.run


def _facts(run: Result) -> Run:
    folder = _folder(run)
    if (folder / "comparison.json").is_file():
        raise RunError(f"{folder} is a comparison; segdecay.plot.comparison draws it.")
    return read_run(folder)


def _verdict(run: Result) -> Verdict:
    """The verdict alone, which needs no curves."""
    return run.verdict if isinstance(run, Tuned) else read_record(_folder(run) / "verdict.json", Verdict)


def _verdict_of(facts: Run) -> Verdict:
    if facts.verdict is None:
        raise RunError(f"{facts.folder} is a single training; this figure needs a search (tune).")
    return facts.verdict


def _trainings(facts: Run, setting: str) -> Any:
    _validate("setting", setting, ("chosen", "none"))
    found = facts.zero if setting == "none" else facts.compared
    if not found:
        raise RunError(f"{facts.folder} has no finished training at setting={setting!r}.")
    return found


def _matrix(facts: Run, setting: str) -> Any:
    """The summed matrix of a setting, over the folds that both settings have."""
    _validate("setting", setting, ("chosen", "none"))
    if facts.verdict is None:
        kept = next(iter(facts.kept.values()), ())
        folds: tuple[int, ...] = tuple(trial.fold for trial in kept)
    else:
        pair = (facts.verdict.compared, facts.verdict.none)
        chosen, none = (facts.kept.get(one.strength.value, ()) if one is not None else () for one in pair)
        kept = none if setting == "none" else chosen
        folds = shared_folds(chosen, none)
    if not kept or not folds:
        raise RunError(f"{facts.folder} scored no image at setting={setting!r}.")
    return total_of(kept, folds)

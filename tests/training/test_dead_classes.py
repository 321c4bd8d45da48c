"""Classes that a training finds and loses: the rule, the record, the lines for a person."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import write_run
from rich.console import Console
from shapes import small_config, small_task

from segdecay.errors import RunError
from segdecay.execution import Event
from segdecay.report import build_report
from segdecay.report.facts.run import CurveRow, Training
from segdecay.report.figures.curves import learning_figure
from segdecay.runs.records import Scores, StrengthRecord, TrialRecord
from segdecay.runs.verdict import Cost, Interval, Verdict, ZeroScore
from segdecay.training.dead_classes import Death, dead_classes, deaths_of, plain, tolls
from segdecay.training.loop import run_trial
from segdecay.training.validate import ScoredImages, score_images
from segdecay.utils.files import read_json, to_json
from segdecay.workflows.progress import ConsoleWatcher
from segdecay.workflows.tune import Tuned

NAMES, SUPPORT = ("road", "pole"), (500, 20)


def curve(*poles: float | None) -> list[dict[str, Any]]:
    """Every second epoch is scored."""
    lines: list[dict[str, Any]] = []
    for number, pole in enumerate(poles, start=1):
        lines.append({"epoch": 2 * number - 1, "validation_iou": None})
        lines.append({"epoch": 2 * number, "validation_iou": [0.9, pole]})
    return lines


@pytest.mark.parametrize(
    ("poles", "expected"),
    [
        ((0.2, 0.3, 0.0, 0.0), (Death("pole", 0.3, 4, 6),)),
        ((0.05, 0.001), (Death("pole", 0.05, 2, 4),)),
        ((0.3, 0.0, 0.2, 0.0), (Death("pole", 0.3, 2, 8),)),  # the last death counts
        ((0.3, 0.0, 0.2), ()),  # it came back
        ((0.049, 0.0), ()),  # never found
        ((0.3, 0.002), ()),  # weak, not dead
        ((0.0, 0.3), ()),
        ((None, None), ()),
        ((), ()),
    ],
)
def test_a_class_is_dead_when_it_was_found_and_ends_at_nothing(
    poles: tuple[float | None, ...], expected: tuple[Death, ...]
) -> None:
    assert dead_classes(curve(*poles), NAMES, SUPPORT) == expected


def test_a_class_without_validation_pixels_never_dies() -> None:
    assert dead_classes(curve(0.3, 0.0), NAMES, (500, 0)) == ()


def test_curves_of_older_versions_say_nothing() -> None:
    assert dead_classes([{"epoch": 1, "validation_miou": 0.4}], NAMES, SUPPORT) == ()


def record(value: float, fold: int, *deaths: Death) -> TrialRecord:
    strength = StrengthRecord("total_decay", value, value)
    return replace(_template(strength, fold), extra={"died": plain(deaths)})


def _template(strength: StrengthRecord, fold: int) -> TrialRecord:
    scores = Scores(0.5, (0.5, 0.5), (0.5, 0.5), 0.5, (4, 4), 1.0)
    return TrialRecord("s", strength, fold, 0, "finished", None, None, scores, 1, 1, 1.0, (1, 1))


def test_the_toll_counts_the_trainings_of_a_strength() -> None:
    pole = Death("pole", 0.3, 4, 6)
    records = [record(0, 0), record(0, 1), record(4, 1, pole), record(4, 0, replace(pole, epoch=8, best=0.2))]
    (toll,) = tolls(records)
    assert toll.sentence == (
        "pole died at D = 4 in 2 of 2 trials (fold 1 from epoch 8 on, fold 2 from epoch 6 on): its validation score "
        "had reached 0.300 and fell to 0."
    )


def test_deaths_at_none_are_named_so() -> None:
    (toll,) = tolls([record(0, 0, Death("pole", 0.3, 4, 6))])
    assert "died with no decay in 1 of 1 trials" in toll.sentence


def test_a_trial_keeps_the_iou_of_every_class_where_its_curve_is_scored(tmp_path: Path, shapes: Path) -> None:
    task, dataset = small_task(tmp_path / "trial", small_config(shapes))
    found = run_trial(task)
    lines = [json.loads(line) for line in (task.folder / "curve.jsonl").read_text().splitlines()]
    scored = [line for line in lines if line["validation_miou"] is not None]
    assert len(scored) >= 2
    assert all(len(line["validation_iou"]) == 3 for line in scored)
    assert all(line["validation_iou"] is None for line in lines if line["validation_miou"] is None)
    assert found.validation is not None
    assert lines[-1]["validation_iou"] == pytest.approx(list(found.validation.iou))
    expected = dead_classes(lines, dataset.classes, found.validation.support)
    assert found.extra["died"] == plain(expected)


def test_a_class_that_dies_in_a_trial_is_in_its_record(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is right on the way; at the last step everything is called background."""

    def scripted(*args: Any, **options: Any) -> ScoredImages:
        found = score_images(*args, **options)
        true = found.confusions.sum(axis=2)
        right = true[:, :, None] * np.eye(3, dtype=np.int64)
        lost = true[:, :, None] * np.eye(3, dtype=np.int64)[0]
        return replace(found, confusions=lost if options["with_boundaries"] else right)

    monkeypatch.setattr("segdecay.training.state.score_images", scripted)
    task, dataset = small_task(tmp_path / "trial", small_config(shapes))
    epochs = task.config.training.epochs
    died = deaths_of(run_trial(task))
    assert [death.name for death in died] == list(dataset.classes[1:])
    assert {(death.best, death.epoch) for death in died} == {(1.0, epochs)}


def test_a_line_of_the_terminal_names_the_class_once_a_trial(tmp_path: Path, shapes: Path) -> None:
    task, _ = small_task(tmp_path / "trial", small_config(shapes))
    task.folder.mkdir(parents=True)
    dead = record(4, 0, Death("pole", 0.3, 4, 6))
    (task.folder / "trial.json").write_text(to_json(dead))
    said = io.StringIO()
    with ConsoleWatcher(Console(file=said, width=200), quiet=False) as watcher:
        watcher.event(Event("finished", task))
    assert said.getvalue().count("died: pole (IoU 0.300 after epoch 4, 0 from epoch 6 on)") == 1


def test_the_verdict_in_the_terminal_counts_the_dead(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    mark_dead(folder, plain([Death("road", 0.3, 1, 2)]))
    said, at = io.StringIO(), StrengthRecord("total_decay", 4.0, 1.0)
    verdict = Verdict(
        "zero",
        "miou",
        "decoupled",
        at,
        at,
        Interval(0.5, None, None),
        ZeroScore(0.5, None),
        (),
        (),
        (0,),
        None,
        None,
        Cost(0, 0, 0.0),
        (),
        {},
        "So.",
        "",
    )
    with ConsoleWatcher(Console(file=said, width=200), quiet=True) as watcher:
        watcher.conclude(Tuned(folder, verdict, folder / "report.html", folder / "model"))
    assert said.getvalue().count("warning: road died at D = ") == 1


def mark_dead(folder: Path, died: Any) -> Path:
    """Write a death into one trial of a run at the compared strength."""
    path = max(folder.glob("trials/*/0-0/trial.json"))
    values = read_json(path)
    values["extra"]["died"] = died
    path.write_text(json.dumps(values))
    return path


def test_the_report_warns_of_the_class_with_strength_fold_and_epoch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert "fell to 0" not in build_report(folder).read_text()
    mark_dead(folder, plain([Death("road", 0.3, 1, 2)]))
    page = build_report(folder).read_text()
    assert "road died at" in page
    assert "(fold 1 from epoch 2 on)" in page
    assert "A cross marks where a class died." in page


def test_the_score_of_a_training_has_a_cross_where_a_class_died() -> None:
    rows = tuple(CurveRow(epoch, 1.0, 0.0, 1.0, validation_miou=0.1 * epoch) for epoch in (1, 2, 3))
    training = Training("fold 0, seed 0", record(4, 0, Death("pole", 0.3, 1, 2)), rows)
    (cross,) = [trace for trace in learning_figure([training], None).data if trace.name == "a class died"]
    assert (cross.x, cross.y) == ((2,), (0.2,))
    assert cross.text == ("pole died, fold 0, seed 0",)
    unhurt = replace(training, record=record(4, 0))
    assert "a class died" not in {trace.name for trace in learning_figure([unhurt], None).data}


def test_a_damaged_death_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = mark_dead(folder, [{"name": 3}])
    with pytest.raises(RunError, match="is damaged"):
        build_report(folder)
    assert path.exists()


def test_a_record_without_deaths_has_none() -> None:
    assert deaths_of(replace(record(0, 0), extra={})) == ()

"""Callbacks hear of every trial, epoch and verdict; one that raises is named, and the search goes on or stops."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from shapes import write_shapes

import segdecay
from segdecay.errors import ConfigError, RunError
from segdecay.workflows.callbacks import Trial

KEYS = {"model.width": 4, "model.depth": 2, "training.batch_size": 4}
OPTIONS: dict[str, Any] = {"epochs": 2, "set": KEYS, "workers": 0, "device": "cpu", "quiet": True}
AXIS = segdecay.Axis("smoothing", [0.1])
IMAGES = segdecay.UserData([f"image {number}" for number in range(9)], ["cell", "rest"])


def pretend(setting: segdecay.Setting, fold: segdecay.UserFold, seed: int) -> Any:
    """Trains nothing: better with smoothing."""
    right = 60 + (10 if setting.value == 0.1 else 0) + fold.number + seed
    return [[[right, 100 - right], [100 - right, right]] for _ in fold.validation]


def search(out: Path, *callbacks: Any) -> segdecay.Tuned:
    few: dict[str, Any] = {"search.resamples": 200}
    return segdecay.tune(
        IMAGES, train=pretend, axis=AXIS, folds=3, race=False, out=out, set=few, workers=0, quiet=True,
        callbacks=list(callbacks),
    )  # fmt: skip


class Heard(segdecay.Callback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def on_trial_start(self, trial: Trial) -> None:
        self.said.append(("start", trial.setting, trial.fold))

    def on_epoch(self, trial: Trial, epoch: int, epochs: int) -> None:
        self.said.append(("epoch", trial.fold, epoch, epochs))

    def on_trial_end(self, trial: Trial, record: Any) -> None:
        self.said.append(("end", trial.setting, trial.fold, record.status, len(trial.curve())))

    def on_verdict(self, done: Any) -> None:
        self.said.append(("verdict", done.verdict.kind))


class OnlyVerdict:
    """Derived from nothing: one method is enough."""

    def __init__(self) -> None:
        self.done: Any = None

    def on_verdict(self, done: Any) -> None:
        self.done = done


class Raising(segdecay.Callback):
    """Fails in every trial."""

    def on_trial_end(self, trial: Trial, record: Any) -> None:
        raise ValueError(f"no room for {record.status} {trial.fold}")


class Stopping(Raising):
    stops = True


def test_a_search_tells_every_trial_and_its_verdict(tmp_path: Path) -> None:
    heard, only = Heard(), OnlyVerdict()
    done = search(tmp_path / "run", heard, only)
    starts = [said for said in heard.said if said[0] == "start"]
    ends = [said for said in heard.said if said[0] == "end"]
    assert len(starts) == len(ends) == len(list(done.run.glob("trials/*/*/trial.json"))) >= 6
    assert {said[2] for said in starts} == {1, 2, 3}
    assert {said[3] for said in ends} == {"finished"}
    assert heard.said[-1] == ("verdict", done.verdict.kind)
    assert only.done.verdict == done.verdict
    again = Heard()
    search(tmp_path / "run", again)
    assert [said[0] for said in again.said] == ["verdict"]  # finished trials are not told again


def test_a_training_tells_its_epochs_and_its_curve(tmp_path: Path) -> None:
    heard, data = Heard(), write_shapes(tmp_path / "shapes", n_images=8)
    segdecay.train(data, out=tmp_path / "run", strength=0, callbacks=[heard], **OPTIONS)
    assert [said for said in heard.said if said[0] == "epoch"] == [("epoch", 0, 1, 2), ("epoch", 0, 2, 2)]
    assert heard.said[0][0] == "start"
    assert heard.said[-1][2:] == (0, "finished", 2)


def test_one_that_raises_is_named_once_and_the_search_goes_on(tmp_path: Path) -> None:
    heard = Heard()
    with pytest.warns(
        UserWarning, match="callback Raising.on_trial_end raised ValueError: no room for finished 1"
    ) as all_:
        done = search(tmp_path / "run", Raising(), heard)
    assert len([one for one in all_ if "callback" in str(one.message)]) == 1
    assert heard.said[-1] == ("verdict", done.verdict.kind)


def test_one_that_is_to_stop_stops_and_the_same_call_resumes(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"callback Stopping\.on_trial_end raised ValueError.*the same call resumes"):
        search(tmp_path / "run", Stopping())
    kept = len(list((tmp_path / "run").glob("trials/*/*/trial.json")))
    assert kept == 1
    heard = Heard()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = search(tmp_path / "run", heard)
    ends = len([said for said in heard.said if said[0] == "end"])
    assert ends == len(list(done.run.glob("trials/*/*/trial.json"))) - kept


@pytest.mark.parametrize("given", [[3], [Heard], [object()], Heard()])
def test_what_is_no_callback_is_refused_before_anything_is_written(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="callbacks"):
        segdecay.tune(IMAGES, train=pretend, axis=AXIS, out=tmp_path / "run", workers=0, quiet=True, callbacks=given)
    assert not (tmp_path / "run").exists()

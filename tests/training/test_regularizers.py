"""Regularizers in a whole run: bounds, options, dropout in the model, axes relative to sizes, state across a stop."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shapes import small_config, small_task, write_shapes

from segdecay.config.schema import RunConfig, parse_config, to_plain, to_yaml
from segdecay.decay import REGULARIZERS, Binding, Bucket, OptimizerTraits, group_parameters
from segdecay.decay.axes import StrengthAxis, relative_axis
from segdecay.decay.regularizers.decoupled import Decoupled
from segdecay.errors import ConfigError, DecayError
from segdecay.execution.options import Execution
from segdecay.models.unet import UNet
from segdecay.report import read_verdict
from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Interval, Kind, SettingSummary
from segdecay.search.sentences import sentence_of
from segdecay.search.study import next_strength, start_grid
from segdecay.search.verdict import Decision
from segdecay.training.checkpoint import FILE
from segdecay.training.loop import Interrupted, run_trial
from segdecay.training.preflight import Preflight
from segdecay.training.setup import TrialTask, strength_of
from segdecay.utils.files import read_json
from segdecay.utils.yaml import load_yaml
from segdecay.workflows.progress import settings_table
from segdecay.workflows.request import check_names
from segdecay.workflows.steps import paste_of, value_of
from segdecay.workflows.train import train
from segdecay.workflows.tune import Tuned, tune


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def plan(self, *_arguments: Any) -> None:
        pass

    def begin(self, *_arguments: Any) -> None:
        pass

    def event(self, _event: Any) -> None:
        pass


def tuned(tmp_path: Path, **sections: Any) -> Tuned:
    data = write_shapes(tmp_path / "data", 12)
    sections["training"] = {"epochs": 6} | sections.get("training", {})
    sections["optimizer"] = {"lr": 0.02} | sections.get("optimizer", {})
    sections["search"] = {"folds": 2, "grid": None} | sections.get("search", {})
    config = small_config(data, **sections)
    assert check_names(config) == []
    return tune(config, tmp_path / "run", Execution(workers=0, device="cpu", cache=tmp_path / "cache"), Silent())


def strict_json(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{path.name} holds {word}, which is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_tune_with_max_norm_goes_from_no_bound_down_and_its_json_has_no_infinity(tmp_path: Path) -> None:
    done = tuned(tmp_path, decay={"regularizer": "max_norm"}, search={"grid": [0.5, 2]})
    kept = strict_json(done.run / "verdict.json")
    values = [row["strength"]["value"] for row in kept["settings"]]
    assert values[:3] == [None, 2.0, 0.5]
    assert all(later < 0.5 for later in values[3:])
    assert {row["strength"]["axis"] for row in kept["settings"]} == {"max_norm"}
    assert {row["strength"]["lambda"] for row in kept["settings"]} == {None}
    for path in done.run.rglob("*.json"):
        strict_json(path)
    verdict = read_verdict(done.run)
    assert verdict.none is not None
    assert verdict.none.strength.value == math.inf
    assert not verdict.has_lambda
    page = done.report.read_text(encoding="utf-8")
    assert "max norm c" in page
    assert "no bound" in page
    assert (done.run / "trials" / "max_norm=inf" / "0-0" / "trial.json").exists()


def test_every_filter_of_a_trial_stays_inside_its_bound(tmp_path: Path) -> None:
    config = small_config(write_shapes(tmp_path / "data"), decay={"regularizer": "max_norm"}, optimizer={"lr": 0.05})
    task, _ = small_task(tmp_path / "trial", config, value=0.5)
    record = run_trial(task)
    assert record.strength == StrengthRecord("max_norm", 0.5)
    norms = [
        float(weight.flatten(1).norm(dim=1).max())
        for name, weight in load_file(task.folder / "model.safetensors").items()
        if weight.ndim == 4
    ]
    assert max(norms) == pytest.approx(0.5, rel=1e-5)
    free, _ = small_task(tmp_path / "free", config, value=math.inf)
    run_trial(free)
    loose = load_file(free.folder / "model.safetensors")
    assert max(float(w.flatten(1).norm(dim=1).max()) for w in loose.values() if w.ndim == 4) > 1


def test_tune_with_l2_sp_takes_options_and_pastes_them(tmp_path: Path) -> None:
    decay = {"regularizer": "l2_sp", "options": {"mode": "decoupled", "new": []}}
    done = tuned(tmp_path, decay=decay, search={"grid": [0, 1]})
    kept = strict_json(done.run / "verdict.json")
    assert kept["settings"][1]["strength"]["axis"] == "total_decay"
    assert kept["settings"][1]["strength"]["lambda"] > 0
    config = small_config(tmp_path / "data", decay=decay)
    taken = replace(done.verdict, strength=StrengthRecord("total_decay", 1.0))
    pasted = paste_of(config, taken, Preflight(group_parameters(UNet(3, 3, width=4, depth=2)), 0.0, 0), 12)
    assert "attach(optimizer, model, 'l2_sp'" in pasted
    assert "options={'mode': 'decoupled', 'new': []}" in pasted
    assert load_yaml((done.run / "run.yaml").read_text(encoding="utf-8"))["decay"]["options"] == decay["options"]


def test_tune_with_dropout_builds_every_model_with_its_p_and_ships_it(tmp_path: Path) -> None:
    done = tuned(tmp_path, decay={"regularizer": "dropout"}, search={"grid": [0.4], "rule": "one-se"})
    kept = strict_json(done.run / "verdict.json")
    assert [row["strength"]["value"] for row in kept["settings"]][:2] == [0.0, 0.4]
    assert done.model is not None
    card = read_json(done.model / "model.json")
    assert card["model"]["dropout"] == kept["strength"]["value"]
    trials = [read_json(done.run / "trials" / f"dropout={p}" / "0-0" / "trial.json") for p in ("0", "0.4")]
    assert trials[0]["train"]["loss"] != trials[1]["train"]["loss"]


def test_a_shipped_model_has_the_dropout_that_it_was_trained_with(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data")
    config = small_config(data, decay={"regularizer": "dropout", "value": 0.25}, training={"epochs": 1})
    done = train(config, tmp_path / "run", Execution(workers=0, device="cpu", cache=tmp_path / "cache"), Silent())
    assert read_json(done.model / "model.json")["model"]["dropout"] == 0.25
    assert done.record.strength == StrengthRecord("dropout", 0.25)


def test_dropout_needs_the_built_in_network_and_a_free_model_dropout() -> None:
    def faults(**model: Any) -> list[str]:
        return check_names(small_config("x", decay={"regularizer": "dropout"}, model=model))

    assert faults() == []
    (message,) = faults(name="smp:unet", width=None, depth=None)
    assert "sets the Dropout2d of the built-in U-Net (unet-tiny, unet-small); saw model.name=smp:unet" in message
    (message,) = faults(dropout=0.1)
    assert "decay.regularizer=dropout searches model.dropout; saw it set to 0.1" in message


def test_options_are_checked_with_the_names() -> None:
    (message,) = check_names(small_config("x", decay={"regularizer": "l2_sp", "options": {"mod": "coupled"}}))
    assert "Unknown option of 'l2_sp' 'mod'" in message
    (message,) = check_names(small_config("x", decay={"regularizer": "decoupled", "options": {"mode": "coupled"}}))
    assert "Regularizer 'decoupled' has no options; saw mode" in message


def test_a_grid_with_infinity_survives_yaml() -> None:
    config = small_config("x", decay={"regularizer": "max_norm"}, search={"grid": [math.inf, 2.0]})
    assert parse_config(load_yaml(to_yaml(config))) == config
    assert to_plain(config)["search"]["grid"] == [math.inf, 2.0]
    with pytest.raises(ConfigError, match="each at least 0"):
        small_config("x", search={"grid": [0.0, math.nan]})


def test_grids_where_less_is_stronger() -> None:
    default = (math.inf, 4.0, 2.0)
    assert start_grid(None, default, none=math.inf, largest=math.inf) == [math.inf, 4.0, 2.0]
    assert start_grid([1.0, math.inf, 3.0], default, none=math.inf, largest=math.inf) == [math.inf, 3.0, 1.0]
    assert next_strength([math.inf, 4.0, 1.0], none=math.inf, largest=math.inf) == 0.25
    assert next_strength([math.inf, 4.0], none=math.inf, largest=math.inf) == 1.0
    assert next_strength([0, 0.3, 0.5], none=0.0, largest=1.0) == pytest.approx(0.5 / 0.6)
    assert next_strength([0, 0.3, 0.6], none=0.0, largest=1.0) is None


def test_none_cannot_be_searched_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Regularizer 'none' has no strength to search\. Use `segdecay train`"):
        tuned(tmp_path, decay={"regularizer": "none"})


def test_tables_and_sentence_of_a_bound_speak_of_no_decay(tmp_path: Path) -> None:
    done = tuned(tmp_path, decay={"regularizer": "cpr", "options": {"kappa": "factor"}}, search={"grid": [1.0]})
    page = done.report.read_text(encoding="utf-8")
    page = page[page.index("<body") : page.index("</main>")]
    assert "The regularizer cpr adds no penalty λR" in page
    for wrong in ("best with decay", "no decay", "decays harder", "total decay D", "τ, epochs"):
        assert wrong not in page, wrong
    columns = [str(column.header) for column in settings_table(done.verdict).columns]
    assert columns[:2] == ["k", "mIoU"]
    assert "ecay" not in done.verdict.sentence


@pytest.mark.parametrize(("regularizer", "grid"), [("max_norm", [0.0, 1.0]), ("dropout", [0.2, 1.0])])
def test_a_grid_off_the_axis_is_refused_before_anything_runs(
    tmp_path: Path, regularizer: str, grid: list[float]
) -> None:
    with pytest.raises(DecayError, match="must be"):
        tuned(tmp_path, decay={"regularizer": regularizer}, search={"grid": grid})
    assert not (tmp_path / "run").exists()


def test_lambda_on_an_axis_without_one_is_refused_with_the_reason() -> None:
    config = small_config("x", decay={"regularizer": "max_norm", "lambda": 0.1})
    with pytest.raises(ConfigError, match=r"max_norm has no λ: it bounds norms\. Give --strength on the axis"):
        value_of(config, 10)


def test_strengths_of_bounds_read_back_from_json() -> None:
    for value in (math.inf, 2.0):
        strength = StrengthRecord("max_norm", value)
        assert StrengthRecord.from_json(json.loads(json.dumps(strength.to_json()))) == strength
        assert strength.is_none == math.isinf(value)


def decision(kind: Kind, axis: str, values: list[float], alike: tuple[float, ...], best: int) -> Decision:
    settings = tuple(SettingSummary(StrengthRecord(axis, value), (0.5,), 0.5, 0.1, None) for value in values)
    nothing = Interval(None, None, None)
    gain = Interval(0.01, 0.02, (-0.01, 0.03))
    return Decision(kind, best, 0, best, 0, nothing, nothing, gain, settings, (), alike, 2, 3)


def test_a_verdict_about_bounds_or_dropout_does_not_speak_of_decay() -> None:
    none = decision("zero", "max_norm", [math.inf, 4.0, 2.0], (4.0, 2.0), 0)
    assert sentence_of(none, ()).startswith(
        "Training without the bound scored best; 3 folds, 2 strengths compared. Strengths down to 2 "
    )
    flat = decision("flat", "dropout", [0.0, 0.1, 0.3], (0.1, 0.3), 1)
    said = sentence_of(flat, ())
    assert said.startswith(
        "Dropout makes no difference that these data can show: the best strength, dropout p = 0.1, differs from no "
        "dropout by +0.010 mIoU"
    )
    assert (
        "Strengths from 0.1 to 0.3 cannot be told apart from no dropout, so the refit trains without dropout." in said
    )
    decay = decision("zero", "total_decay", [0.0, 0.5, 2.0], (0.5,), 0)
    assert sentence_of(decay, ()).endswith("Strengths up to 0.5 cannot be told apart from it.")
    better = decision("edge", "max_norm", [math.inf, 4.0, 2.0], (), 2)
    assert sentence_of(better, ()).startswith("max norm c = 2 beats no bound by +0.010 mIoU")


# --- regularizers of other kinds, registered here
# -------------------------------------------------------------------------


class Sized(Decoupled):
    """Decoupled, tuned relative to the size of the weights."""

    name = "sized"

    def axis(self, optimizer: OptimizerTraits) -> StrengthAxis:
        del optimizer
        return relative_axis()

    def size(self, binding: Binding) -> float:
        sizes = [binding.parameters[name].detach().abs().flatten() for name in binding.decayed()]
        return float(torch.cat(sizes).median())


class Remembering(Decoupled):
    """Shrinks by what it counted and by a tensor it keeps."""

    name = "remembering"

    def __init__(self) -> None:
        self.calls, self.kept = 0, torch.zeros(2)

    def before_update_(self, bucket: Bucket) -> None:
        self.calls += 1
        self.kept = self.kept + self.calls
        for parameter in bucket.parameters:
            parameter.mul_(1 - 1e-4 * float(self.kept.sum()))

    def state_dict(self) -> dict[str, object]:
        return {"calls": self.calls, "kept": [self.kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls, self.kept = state["calls"], state["kept"][0].clone()


def test_a_relative_axis_gets_its_size_from_the_fresh_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGULARIZERS, "sized", Sized)
    done = tuned(tmp_path, decay={"regularizer": "sized"}, search={"grid": [0, 0.5]})
    kept = strict_json(done.run / "verdict.json")["settings"][1]["strength"]
    assert kept["axis"] == "relative_shrinkage"
    trial = read_json(done.run / "trials" / "relative_shrinkage=0.5" / "0-0" / "trial.json")["strength"]
    config = small_config(
        tmp_path / "data", decay={"regularizer": "sized"}, training={"epochs": 6}, optimizer={"lr": 0.02}
    )
    unit = strength_of(config, 0.5, 12, size=1.0).lambda_
    assert unit is not None
    assert 0.01 < kept["lambda"] / unit < 1  # the median size of a weight
    assert trial["lambda"] == pytest.approx(1.5 * kept["lambda"], rel=0.2)  # 2 batches of a fold, 3 of all images
    assert strength_of(config, 0.5, 12).lambda_ is None


def test_train_by_lambda_on_a_relative_axis_asks_for_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGULARIZERS, "sized", Sized)
    config = small_config("x", decay={"regularizer": "sized", "lambda": 0.3})
    value = value_of(config, 12, lambda: 0.25)
    assert strength_of(config, value, 12, size=0.25).lambda_ == pytest.approx(0.3)


def stopped_and_resumed(task: TrialTask, after: int) -> None:
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_trial(task, stop=lambda: next(asked) >= after)
    assert (task.folder / "checkpoint" / FILE).exists()
    run_trial(task)


@pytest.mark.parametrize("regularizer", ["l2_sp", "max_norm", "remembering"])
def test_a_trial_that_was_stopped_ends_bitwise_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regularizer: str
) -> None:
    monkeypatch.setitem(REGULARIZERS, "remembering", Remembering)
    config: RunConfig = small_config(
        write_shapes(tmp_path / "data"), decay={"regularizer": regularizer}, training={"epochs": 2}
    )
    whole, _ = small_task(tmp_path / "whole", config, value=1.0)
    run_trial(whole)
    broken = replace(whole, folder=tmp_path / "broken")
    stopped_and_resumed(broken, 3)
    ours, theirs = (load_file(task.folder / "model.safetensors") for task in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

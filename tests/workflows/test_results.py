"""Results as data: frames, plain values, one line of text, and HTML for a notebook."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from small_search import SmallSearch

import segdecay
from segdecay import decay
from segdecay.errors import MissingPartError
from segdecay.report import read_verdict
from segdecay.runs.comparison import Comparison
from segdecay.runs.read import read_record
from segdecay.runs.records import trial_from_json
from segdecay.runs.verdict import Caution
from segdecay.utils.files import read_json
from segdecay.workflows.compare import Compared
from segdecay.workflows.train import Trained
from segdecay.workflows.tune import Tuned


@pytest.fixture
def done(small_search: SmallSearch) -> Tuned:
    run = small_search.run
    return Tuned(run, read_verdict(run), run / "report.html", run / "model")


def test_a_row_of_the_trials_is_a_trial(done: Tuned) -> None:
    frame = done.trials_dataframe()
    assert len(frame) == 4
    assert sorted(zip(frame["value"], frame["fold"], strict=True)) == [(0, 1), (0, 2), (2, 1), (2, 2)]
    record = read_json(done.run / "trials" / "total_decay=2" / "1-0" / "trial.json")
    (row,) = frame[(frame["value"] == 2) & (frame["fold"] == 2)].to_dict("records")
    assert row["miou"] == record["validation"]["miou"]
    assert row["train_miou"] == record["train"]["miou"]
    assert row["iou: dark"] == record["validation"]["iou"][2]
    assert (row["lambda"], row["status"], row["epochs"]) == (record["strength"]["lambda"], "finished", 6)
    assert frame.groupby("value")["miou"].mean().max() == pytest.approx(done.verdict.selection.mean)


def test_settings_and_classes_are_those_of_the_verdict(done: Tuned) -> None:
    settings = done.settings_dataframe()
    assert list(settings["value"]) == [0, 2]
    assert list(settings["score"]) == [item.mean for item in done.verdict.settings]
    assert settings["is_chosen"].sum() == 1
    difference = done.verdict.settings[1].difference
    assert difference is not None
    assert difference.interval is not None
    assert settings["difference_low"][1] == difference.interval[0]
    assert settings["difference"].isna().tolist() == [True, False]
    assert list(settings["fold 2"]) == [item.folds[1] for item in done.verdict.settings]
    classes = done.classes_dataframe()
    assert list(classes["class"]) == ["ground", "bright", "dark"]
    assert list(classes["no_decay"]) == [row.zero for row in done.verdict.classes]
    assert done.verdict.test is not None
    assert classes["test_chosen"][0] == done.verdict.test.chosen.classes["ground"]


def test_plain_values_are_those_of_the_file(done: Tuned) -> None:
    plain = json.loads(json.dumps(done.to_dict()))
    paths = {key: plain.pop(key) for key in ("run", "report", "model")}
    assert plain == json.loads((done.run / "verdict.json").read_text(encoding="utf-8"))
    assert paths["model"] == str(done.run / "model")


def test_a_result_prints_as_one_line(done: Tuned) -> None:
    said = repr(done)
    assert len(said.splitlines()) == 1
    assert len(said) - len(str(done.run)) < 100
    assert f"D = {done.verdict.strength.value:g}, mIoU {done.verdict.selection.mean:.3f}" in said


def test_a_notebook_shows_verdict_figure_and_cautions(done: Tuned) -> None:
    hostile = Caution("made_up", "fewer than <3> groups & more", "score")
    shown = replace(done, verdict=replace(done.verdict, cautions=(*done.verdict.cautions, hostile)))._repr_html_()
    assert shown.count("<svg") == 1
    assert "Train without weight decay" in shown
    assert "fewer than &lt;3&gt; groups &amp; more" in shown
    for caution in done.verdict.cautions:
        assert caution.sentence.split("&")[0].split("<")[0] in shown
    assert "<script" not in shown


@pytest.fixture
def trained(small_search: SmallSearch) -> Trained:
    """The refit of the search, as a run of `train` keeps its training."""
    run = small_search.run
    record = trial_from_json(read_json(run / "refit" / "chosen" / "trial.json"))
    return Trained(run, record, run / "report.html", run / "model")


def test_a_single_training_as_data(trained: Trained) -> None:
    assert trained.record.validation is not None
    frame = trained.classes_dataframe()
    assert list(frame["validation_iou"]) == list(trained.record.validation.iou)
    assert list(frame["class"]) == ["ground", "bright", "dark"]
    assert f"validation mIoU {trained.record.validation.miou:.3f}" in repr(trained)
    assert trained.to_dict()["setting"] == trained.record.setting
    assert "<td>bright</td>" in trained._repr_html_()


def test_an_evaluation_as_data(small_search: SmallSearch) -> None:
    found = segdecay.evaluate(small_search.run, small_search.data, quiet=True)
    assert found.images_dataframe()["miou"].tolist() == [row.miou for row in found.evaluation.images]
    classes = found.classes_dataframe()
    assert classes["iou"].tolist() == [row.iou.mean for row in found.evaluation.classes]
    assert (classes["iou_low"] <= classes["iou"]).all()
    assert f"part test, 4 images: mIoU {found.evaluation.miou.mean:.3f}" in repr(found)
    assert "<td>dark</td>" in found._repr_html_()
    assert found.to_dict()["miou"]["mean"] == found.evaluation.miou.mean


def test_a_check_as_data(small_search: SmallSearch) -> None:
    found = segdecay.check(small_search.data, folds=2, quiet=True)
    frame = found.classes_dataframe()
    assert found.folds is not None
    assert frame[["fold 1", "fold 2"]].to_numpy().tolist() == [list(row) for row in found.folds.table]
    assert frame["pixels"].sum() == 16 * 256
    assert len(found.findings_dataframe()) == len(found.findings)
    assert "images: test 4, train 12; 3 classes" in repr(found)
    assert "<td>ground</td>" in found._repr_html_()


def test_a_comparison_as_data(tmp_path: Path) -> None:
    found = read_record(ROOT / "docs" / "records" / "compare" / "nuclei.json", Comparison)
    done = Compared(tmp_path, found, tmp_path / "report.html")
    arms = done.arms_dataframe()
    assert arms["arm"].tolist() == [arm.name for arm in found.arms]
    assert arms["score"].tolist() == [arm.mean for arm in found.arms]
    assert len(done.pairs_dataframe()) == len(found.arms) * (len(found.arms) - 1) // 2
    assert done.pairs_dataframe()["p_holm"].tolist() == [pair.p_holm for pair in found.pairs]
    assert len(done.classes_dataframe()) == sum(len(arm.classes) for arm in found.arms)
    assert f"{found.arms[0].name} {found.arms[0].mean:.3f}" in repr(done)
    assert "<td>l1</td>" in done._repr_html_()
    assert [arm["name"] for arm in done.to_dict()["arms"]] == [arm.name for arm in found.arms]


def test_the_partition_and_the_audit_as_data() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    partition = decay.group_parameters(net)
    frame = partition.dataframe()
    assert frame["parameter"].tolist() == [name for name, _ in net.named_parameters()]
    assert frame["numbers"].sum() == sum(one.numel() for one in net.parameters())
    assert repr(partition) == "Partition(6 parameters: body 1, head 1, norm 2, bias 2, frozen 0)"
    assert "<td>2.weight</td>" in partition._repr_html_()
    found = segdecay.audit((net, torch.optim.Adam(net.parameters(), weight_decay=1e-4)))
    rows = found.dataframe()
    assert rows["is_decayed"].all()
    assert rows["decayed_by"][0] == "Adam(weight_decay)"
    assert len(found.findings_dataframe()) == len(found.findings) > 0
    assert "6 parameters" in repr(found)
    assert "<li>" in found._repr_html_()


def test_without_pandas_the_extra_is_named(done: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if name == "pandas":
            raise ImportError("no pandas")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingPartError, match=r"pip install 'segdecay\[pandas\]'"):
        done.settings_dataframe()

"""`segdecay audit` as a user types it: tables, JSON, exit codes, and every way a build function can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from segdecay.cli.main import run

PROGRAM = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

def clean():
    model = net()
    groups = [{"params": [model[0].weight, model[3].weight], "weight_decay": 0.05},
              {"params": [*model[1].parameters(), model[0].bias, model[3].bias], "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=0.01), cross_entropy

def twice():
    model, weight_decay = net(), 1e-4
    def loss(output, target):
        return cross_entropy(output, target) + weight_decay * sum(torch.norm(p) for p in model.parameters())
    return model, torch.optim.Adam(model.parameters(), weight_decay=weight_decay), loss

def shaped():
    model = net()
    def loss(output, target):
        assert output.shape == (3, 7)
        return cross_entropy(output, target) + 1e-4 * sum(p.square().sum() for p in model.parameters())
    return model, torch.optim.SGD(model.parameters(), lr=0.1), loss, (3, 7), (3,)

def scheduled():
    model = net()
    return model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)

def needs(data, fold, size=3): return net()
def fails(): raise FileNotFoundError("images/ is not here")
def text(): return "a model"
def three(): return net(), net(), None
def alone(): return (net(),)
def swapped():
    model, optimizer = scheduled()
    return optimizer, model
def foreign(): return net(), torch.optim.SGD(net().parameters(), lr=0.1)
number = 3
"""


@pytest.fixture(autouse=True)
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program_of_a_test.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "broken_of_a_test.py").write_text("import torch\n1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "program_of_a_test", None)
    del sys.modules["program_of_a_test"]


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str, code: int
) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["segdecay", "audit", *arguments])
    with pytest.raises(SystemExit) as ended:
        run()
    out, err = capsys.readouterr()
    assert ended.value.code == code, out + err
    return out, err


def test_a_clean_program_ends_with_0(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = said(capsys, monkeypatch, "program_of_a_test:clean", code=0)
    assert "0.weight" in out
    assert "AdamW(weight_decay) decoupled 0.05" in out
    assert "wrong" not in out
    assert err == ""


def test_a_wrong_program_ends_with_1_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = said(capsys, monkeypatch, "program_of_a_test:twice", code=1)
    for code in ("wrong: decays_twice", "wrong: norm_not_squared", "doubtful: bias_decayed"):
        assert code in out


def test_json_holds_table_and_findings_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = said(capsys, monkeypatch, "program_of_a_test:twice", "--json", code=1)
    found: dict[str, Any] = json.loads(out)
    assert found["schema_version"] == 1
    assert found["is_wrong"] is True
    assert found["findings"][0].keys() == {"code", "level", "parameters", "message", "advice"}
    row = found["parameters"][0]
    assert (row["name"], row["shape"], row["module"], row["optimizer_groups"]) == (
        "0.weight",
        [4, 3, 3, 3],
        "Conv2d",
        [0],
    )
    assert [decay["source"] for decay in row["decays"]] == ["optimizer", "loss"]
    assert found["loss"]["status"] == "examined"


def test_shapes_after_the_loss_are_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = said(capsys, monkeypatch, "program_of_a_test:shaped", "--lambda", "1e-4", code=1)
    assert "output (3, 7), target (3,)" in out
    assert "wrong: half_missing" in out
    said(capsys, monkeypatch, "program_of_a_test:shaped", "--lambda", "2e-4", code=0)


def test_total_decay_and_timescale_come_with_epochs_and_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--epochs", "4", "--steps-per-epoch", "50", "--json"]
    out, _ = said(capsys, monkeypatch, "program_of_a_test:scheduled", *options, code=0)
    row = json.loads(out)["parameters"][0]
    assert row["total_decay"] == pytest.approx(200 * 0.1 * 0.01)
    assert row["timescale_epochs"] == pytest.approx(1 / (50 * 0.1 * 0.01))
    out, _ = said(capsys, monkeypatch, "program_of_a_test:scheduled", *options, "--schedule", "cosine", code=0)
    assert json.loads(out)["parameters"][0]["total_decay"] == pytest.approx(200 * 0.1 * 0.01 / 2, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["program_of_a_test:needs"], "it needs data, fold, but is called without arguments"),
        (["program_of_a_test:fails"], "it raised FileNotFoundError: images/ is not here"),
        (["program_of_a_test:text"], "returned a str; (model, optimizer)"),
        (["program_of_a_test:alone"], "returned a tuple of 1"),
        (["program_of_a_test:three"], "the optimizer is a Sequential; a torch.optim.optimizer.Optimizer is needed"),
        (["program_of_a_test:swapped"], "the model is a SGD"),
        (["program_of_a_test:foreign"], "None of the 6 parameters of SGD is in Sequential"),
        (["program_of_a_test:claen"], "has no function 'claen'. Did you mean 'clean'?"),
        (["program_of_a_test:number"], "has no function 'number'.\n"),
        (["program_of_a_test"], "takes package.module:build"),
        (["nothing.here:build"], "nothing.here cannot be imported"),
        (["broken_of_a_test:build"], "cannot be imported from"),
        (["program_of_a_test:clean", "--epochs", "3"], "--epochs needs --steps-per-epoch"),
        (["program_of_a_test:clean", "--schedule", "cosin"], "Did you mean 'cosine'?"),
        (["program_of_a_test:clean", "--clip-norm", "-1"], "clip_norm must be a finite number above 0; saw -1.0"),
    ],
)
def test_what_cannot_be_audited_is_a_user_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    out, err = said(capsys, monkeypatch, *arguments, code=2)
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_both_swapped_parts_are_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, err = said(capsys, monkeypatch, "program_of_a_test:swapped", code=2)
    assert "the model is a SGD" in err
    assert "the optimizer is a Sequential" in err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = said(capsys, monkeypatch, "--help", code=0)
    assert "Example: segdecay audit" in out

"""What both callbacks stand on: options, looking ahead, state as JSON, and imports that wait."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, SequentialLR

from segdecay.decay import Strength, handle_of
from segdecay.errors import DecayError, MissingPartError
from segdecay.integrations.trainer import Ahead, Attachments, ScheduleCopy
from segdecay.integrations.transformers import from_json, to_json


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    return done.stdout


# --- imports ----------------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_neither_torch_nor_a_trainer() -> None:
    code = "import sys, segdecay.integrations as i; print([m for m in ('torch', 'lightning', 'pytorch_lightning', "
    assert run(code + "'transformers') if m in sys.modules])") == "[]\n"


@pytest.mark.parametrize(("name", "blocked"), [("lightning", ["pytorch_lightning"]), ("transformers", [])])
def test_a_missing_trainer_is_named_with_the_extra_that_brings_it(
    name: str, blocked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, find = [name, *blocked], importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda one, package=None: None if one in missing else find(one, package)
    )
    for one in missing:
        for loaded in [one, *(module for module in sys.modules if module.startswith(f"{one}."))]:
            monkeypatch.setitem(sys.modules, loaded, None)  # a test before may have imported it
    monkeypatch.delitem(sys.modules, f"segdecay.integrations.{name}", raising=False)
    with pytest.raises(MissingPartError) as caught:
        importlib.import_module(f"segdecay.integrations.{name}")
    assert f"pip install 'segdecay[{name}]'" in str(caught.value)
    assert f"{name}" in str(caught.value).split(" is not installed")[0]


def test_pytorch_lightning_serves_where_lightning_is_missing_by_an_attribute_of_the_package() -> None:
    code = """
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda one, *rest: None if one == "lightning" else find(one, *rest)
sys.modules["lightning"] = None
import segdecay.integrations
ours = segdecay.integrations.lightning.LightningDecay
import pytorch_lightning
print(issubclass(ours, pytorch_lightning.Callback))
"""
    assert run(code) == "True\n"


# --- options ----------------------------------------------------------------------------------------------------------


def test_all_faults_of_the_options_are_told_at_once_before_any_training() -> None:
    with pytest.raises(DecayError) as raised:
        Attachments("decoupld", {"strenght": 0.1, "strength": "0.1", "total_decay": 2.0})
    said = str(raised.value)
    assert "Did you mean 'decoupled'?" in said
    assert "Did you mean 'strength'?" in said
    assert "strength=Strength.from_total_decay(…)" in said
    assert "must be a number; saw the text '0.1'" in said


def test_options_reach_attach() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    attachments = Attachments("decoupled", {"strength": 0.5, "multipliers": {"head": 0.1}, "take_over": True})
    optimizer = AdamW(net.parameters(), weight_decay=0.2)
    attachments.attach_([optimizer], net, never())
    assert attachments.handles[0].strengths() == {"0.weight": 0.5, "0.bias": None, "1.weight": 0.05, "1.bias": None}
    attachments.detach_()
    assert optimizer.param_groups[0]["weight_decay"] == 0.2


def test_attaching_again_lets_the_first_handles_go() -> None:
    net = nn.Linear(2, 1)
    optimizer = SGD(net.parameters(), lr=0.1)
    attachments = Attachments("l2", {"strength": 0.5})
    attachments.attach_([optimizer], net, never())
    (first,) = attachments.handles
    attachments.attach_([optimizer], net, never())
    assert not first.is_attached()
    assert handle_of(optimizer) is attachments.handles[0]


def test_where_one_optimizer_is_refused_none_is_attached() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizers = [SGD(net[0].parameters(), lr=0.1), LBFGS(net[1].parameters())]
    with pytest.raises(DecayError, match=r"Optimizer 2 of 2 \(LBFGS\)"):
        Attachments("l2", {"strength": 0.5}).attach_(optimizers, net, never())
    assert handle_of(optimizers[0]) is None


def test_total_decay_on_an_axis_without_it_is_refused_with_the_reason() -> None:
    net = nn.Linear(2, 1)
    attachments = Attachments("l2", {"strength": Strength.from_total_decay(1.0)})
    with pytest.raises(DecayError, match=r"D has no meaning here.*Give strength=λ"):
        attachments.attach_([torch.optim.Adam(net.parameters())], net, never())


@pytest.mark.parametrize(
    ("regularizer", "asked", "options", "strength"),
    [
        ("l2_sp", Strength.from_total_decay(0.5), None, 0.25),  # coupled: Σ η·λ/(1−μ)
        ("l2_sp", Strength.from_total_decay(0.5), {"mode": "decoupled"}, 2.5),
        ("l2_sp", Strength.from_timescale(5.0), {"mode": "decoupled"}, 1.0),  # 2 steps an epoch at the peak rate of .1
        ("decoupled", Strength.from_axis(0.5), None, 2.5),
        ("corrected", Strength.from_total_decay(0.3), None, 2.0),  # Σ η²/η_max = .15
        ("max_norm", Strength.from_axis(0.5), None, 0.5),
        ("cpr", Strength.from_axis(2.0), {"kappa": "factor", "mu": 0.5}, 2.0),
    ],
)
def test_what_depends_on_the_schedule_and_on_the_regularizers_options_reaches_attach(
    regularizer: str, asked: Strength, options: dict[str, Any] | None, strength: float
) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    attachments = Attachments(regularizer, {"strength": asked, "options": options})
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    attachments.attach_([optimizer], net, Ahead(lambda _: [0.05, 0.1, 0.05], lambda: 2.0))
    assert attachments.handles[0].strength == pytest.approx(strength, rel=1e-12)
    kept = attachments.state_dict()
    attachments.attach_([optimizer], net, Ahead(lambda _: [0.05, 0.1, 0.05], lambda: 2.0), kept)
    assert attachments.handles[0].strength == pytest.approx(strength, rel=1e-12)
    attachments.detach_()


@pytest.mark.parametrize("regularizer", ["max_norm", "cpr"])
def test_a_bound_has_no_total_decay(regularizer: str) -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(DecayError, match="D has no meaning here: it bounds"):
        Attachments(regularizer, {"strength": Strength.from_total_decay(1.0)}).attach_(
            [AdamW(net.parameters(), weight_decay=0.0)], net, never()
        )


def test_a_strength_that_is_missing_is_told_before_any_training() -> None:
    with pytest.raises(DecayError, match=r"Give strength: λ, one λ for each group, or a Strength"):
        Attachments("l2", {"take_over": True})


def test_a_foreign_state_is_refused() -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(DecayError, match="'handles' is missing; saw epoch"):
        Attachments("l2", {"strength": 1.0}).attach_([SGD(net.parameters(), lr=0.1)], net, never(), {"epoch": 3})


def never() -> Ahead:
    """A future that must not be asked for."""

    def fail(*_: object) -> list[float]:
        raise AssertionError("asked for learning rates")

    return Ahead(fail, lambda: float(len(fail())))


# --- looking ahead ----------------------------------------------------------------------------------------------------


def make_sgd() -> SGD:
    return SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)


def test_copied_schedules_give_the_rates_of_the_real_ones() -> None:
    real = make_sgd()
    schedulers = [OneCycleLR(real, 0.5, total_steps=20), LambdaLR(make_sgd(), lambda step: 1 / (step + 1))]
    for scheduler in schedulers:
        copied = ScheduleCopy(scheduler.optimizer, [scheduler])
        ahead = []
        for _ in range(10):
            ahead.append(copied.rate())
            copied.step_(0)
        after = []
        for _ in range(10):
            after.append(scheduler.optimizer.param_groups[0]["lr"])
            scheduler.optimizer.step()
            scheduler.step()
        assert ahead == after


def test_a_schedule_in_parts_is_copied_with_its_parts() -> None:
    optimizer = make_sgd()
    whole = SequentialLR(optimizer, [LambdaLR(optimizer, lambda _: 0.1), CosineAnnealingLR(optimizer, 4)], [2])
    copied = ScheduleCopy(optimizer, [whole])
    for _ in range(6):
        copied.step_(0)
    assert copied.rate() == pytest.approx(0.0, abs=1e-9)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_schedule_that_cannot_be_copied_is_named() -> None:
    class Stubborn(LambdaLR):
        def __deepcopy__(self, memo: dict[int, object]) -> Stubborn:
            raise TypeError("holds a socket")

    optimizer = make_sgd()
    with pytest.raises(DecayError, match=r"cannot be copied.*Stubborn: holds a socket.*learning_rates=\["):
        ScheduleCopy(optimizer, [Stubborn(optimizer, lambda _: 1.0)])


# --- state as JSON ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_tensors_survive_json_bit_for_bit(dtype: torch.dtype) -> None:
    import json

    tensor = (torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 9).to(dtype).T
    back = from_json(json.loads(json.dumps(to_json({"a": [tensor, 0.1, None, True, "x"], "b": (1, {"c": tensor})}))))
    assert torch.equal(back["a"][0], tensor)
    assert isinstance(back["a"][0], Tensor)
    assert back["a"][0].dtype == dtype
    assert back["a"][1:] == [0.1, None, True, "x"]
    assert torch.equal(back["b"][1]["c"], tensor)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2.0}}, [object()]])
def test_what_json_would_change_is_refused(value: object) -> None:
    with pytest.raises(DecayError, match="only plain values and tensors"):
        to_json(value)

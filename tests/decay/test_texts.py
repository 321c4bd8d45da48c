"""What the package says: lines to paste, which run and do the same; and each regularizer's documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import segdecay.decay
from segdecay.decay import (
    REGULARIZERS,
    Regularizer,
    attach,
    build_regularizer,
    describe_regularizer,
    group_parameters,
    paste_lines,
    regularizer_names,
)
from segdecay.errors import DecayError

torch.set_num_threads(1)
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class Net(nn.Module):
    """Has a token and a layer scale that a rule by dimension would decay."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 4), 0.5))
        self.stem = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.stem(x) + self.token).tanh())
        return logits


def make_net() -> Net:
    torch.manual_seed(0)
    return Net()


def fit(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    for step in range(5):
        optimizer.zero_grad()
        model(torch.randn(3, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def run_lines(lines: str, model: nn.Module) -> torch.optim.Optimizer:
    scope: dict[str, Any] = {"model": model}
    exec(lines, scope)  # noqa: S102 - the lines are meant to be run, and are ours
    optimizer: torch.optim.Optimizer = scope["optimizer"]
    return optimizer


@pytest.mark.parametrize("multipliers", [None, {"head": 0.5}, {"norm": 1.0, "bias": 0.25}])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("regularizer", ["none", "l2", "decoupled"])
def test_the_lines_to_paste_train_bitwise_as_the_regularizer_does(
    regularizer: str, name: str, multipliers: dict[str, float] | None
) -> None:
    strength = 0.0 if regularizer == "none" else 0.3
    options: dict[str, Any] = {"momentum": 0.9} if name == "sgd" else {"betas": (0.9, 0.99)}
    ours = make_net()
    optimizer = OPTIMIZERS[name](ours.parameters(), lr=0.01, weight_decay=0.0, **options)  # type: ignore[call-arg]
    attach(optimizer, ours, regularizer, strength=strength, multipliers=multipliers)
    pasted = make_net()
    lines = paste_lines(
        regularizer, name, strength, 0.01, options=options, partition=group_parameters(pasted), multipliers=multipliers
    )
    expected = fit(ours, optimizer)
    found = fit(pasted, run_lines(lines, pasted))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_names_whose_decay_is_not_by_dimension_are_written_out_and_no_others() -> None:
    partition = group_parameters(make_net())
    lines = paste_lines("decoupled", "adamw", 0.3, 0.01, partition=partition)
    assert "'token': 0.0," in lines
    assert "stem" not in lines
    assert "not_by_dimension" not in paste_lines("decoupled", "adamw", 0.3, 0.01)


def test_the_lines_say_which_mechanism_of_torch_they_use() -> None:
    assert "torch.optim.AdamW(" in paste_lines("decoupled", "adam", 0.3, 0.01)
    assert "torch.optim.Adam(" in paste_lines("l2", "adamw", 0.3, 0.01)
    assert "torch has no SGD with decay of this kind" in paste_lines("decoupled", "sgd", 0.3, 0.01)


@pytest.mark.parametrize(("regularizer", "name"), [("decoupled", "sgd"), ("l1", "adamw"), ("corrected", "adam")])
def test_lines_that_attach_do_bit_for_bit_what_attach_does(regularizer: str, name: str) -> None:
    lines = paste_lines(regularizer, name, 0.25, 0.1)
    assert f"handle = attach(optimizer, model, {regularizer!r}, strength=0.25" in lines
    pasted, ours = make_net(), make_net()
    theirs = run_lines(lines, pasted)
    optimizer = OPTIMIZERS[name](ours.parameters(), lr=0.1, weight_decay=0.0)  # type: ignore[call-arg]
    attach(optimizer, ours, regularizer, strength=0.25, options={"peak_lr": 0.1} if regularizer == "corrected" else {})
    start = [parameter.detach().clone() for parameter in ours.parameters()]
    fit(pasted, theirs)
    fit(ours, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(pasted.parameters(), ours.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(start, ours.parameters(), strict=True))


def test_the_lines_say_when_they_stop_being_valid() -> None:
    decoupled = paste_lines("decoupled", "adamw", 0.5, 0.1, learning_rates=[0.1] * 10)
    assert "keep D = 0.5: λ = D / Σ η over all steps." in decoupled
    coupled = paste_lines("l2", "sgd", 0.5, 0.1, options={"momentum": 0.9}, learning_rates=[0.1] * 10)
    assert "keep D = 5: λ = D / (Σ η · 10) over all steps, to first order." in coupled
    assert "choose λ again: through adam no formula carries it over" in paste_lines("l2", "adam", 0.5, 0.1)
    assert "AdamW's default is 0.01" in paste_lines("none", "adamw", 0.0, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("l3", "sgd", 0.1, 0.1), "Unknown regularizer 'l3'"),
        (("l2", "rmsprop", 0.1, 0.1), "Lines to paste exist for sgd, adam, adamw; saw 'rmsprop'"),
        (("l2", "sgd", -0.1, 0.1), "λ must be a finite number"),
    ],
)
def test_lines_that_cannot_be_written_are_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(DecayError, match=message):
        paste_lines(*arguments)


def test_multipliers_without_a_partition_are_an_error() -> None:
    with pytest.raises(DecayError, match="give the partition too"):
        paste_lines("l2", "sgd", 0.1, 0.1, multipliers={"head": 2.0})


@pytest.mark.parametrize("name", regularizer_names())
def test_every_regularizer_documents_itself_with_all_sections(name: str) -> None:
    text = describe_regularizer(name)
    assert text.startswith(f"{name}:  {REGULARIZERS[name].formula}\n  that is:  {REGULARIZERS[name].plain_formula}")
    assert REGULARIZERS[name].plain_formula.isascii()
    for section in Regularizer.SECTIONS:
        assert re.search(rf"^{section}: \S", text, re.MULTILINE), section
    assert max(len(line) for line in text.splitlines()) <= 120


def test_an_unknown_regularizer_is_not_described() -> None:
    with pytest.raises(DecayError, match=r"Unknown regularizer 'decopled'.*Did you mean 'decoupled'"):
        describe_regularizer("decopled")


@pytest.mark.parametrize("name", regularizer_names())
def test_the_registry_builds_each_regularizer_afresh_under_its_own_name(name: str) -> None:
    assert build_regularizer(name).name == name
    assert build_regularizer(name) is not build_regularizer(name)


def test_every_public_name_exists_once() -> None:
    names = segdecay.decay.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(segdecay.decay, name) for name in names)


def test_importing_the_package_warns_of_nothing_and_needs_torch_alone() -> None:
    code = (
        "import sys, segdecay.decay; "
        "others = {'timm', 'torchvision', 'sklearn', 'pydantic', 'lightning_fabric'};"
        "rest = others & {m.split('.')[0] for m in sys.modules};"
        "own = {m for m in sys.modules if m.startswith('segdecay.') and not m.startswith('segdecay.decay')};"
        "print(sorted(rest), sorted(own))"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == (
        "[] ['segdecay.errors', 'segdecay.utils', 'segdecay.utils.plugins', 'segdecay.utils.tables']"
    )
    assert run.stderr == ""

"""`segdecay strength`: the arithmetic of its report, what it prints, its exit codes, and the page about it."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call
from paths import ROOT
from torch import nn

import segdecay.cli.main as cli
from segdecay.config.schema import parse_config
from segdecay.decay import Strength, attach, group_parameters
from segdecay.decay.conventions import CONVENTIONS
from segdecay.errors import ConfigError, DecayError, SegdecayError
from segdecay.training.optim import learning_rates
from segdecay.training.strength_units import StrengthReport, StrengthRequest, report_strength

PAGE = (ROOT / "docs" / "strength.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```console\n\$ segdecay (.*)\n((?:.*\n)*?)```", PAGE)


def printed(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    cli.app(shlex.split(arguments), standalone_mode=False)
    return capsys.readouterr().out


def report(asked: StrengthRequest, *, images: int = 80, **sections: Any) -> StrengthReport:
    return report_strength(parse_config({"data": {"path": "x"}, **sections}), images, asked)


def value_of(found: StrengthReport, name: str) -> float | None:
    (row,) = (row for row in found.conventions if row.name == name)
    return row.value


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_page_shows_what_the_command_prints(
    arguments: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(arguments, capsys) == output


def test_the_page_has_examples_and_a_row_for_every_convention() -> None:
    assert len(EXAMPLES) == 5
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| (λ.*|[a-z_]+: .*) \|$", PAGE, flags=re.MULTILINE))
    assert rows == {name: convention.formula() for name, convention in CONVENTIONS.items()}


def test_the_python_of_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        exec(code, {})  # noqa: S102 - our own page
        (said,) = re.findall(r"# ([\d.]+)", code)
        assert capsys.readouterr().out.strip() == said


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_share_left_of_an_idle_weight_is_what_torch_leaves() -> None:
    found = report(StrengthRequest(lambda_=3.0), optimizer={"lr": 0.02}, training={"epochs": 3, "batch_size": 16})
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=1.0, weight_decay=3.0)
    config = parse_config({"data": {"path": "x"}})
    for rate in learning_rates(config.schedule, 0.02, found.steps):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert found.steps == 15
    assert found.remaining == pytest.approx(weight.item(), rel=1e-12)
    assert found.peak_shrinkage == pytest.approx(0.06)
    assert found.largest_lambda == pytest.approx(50.0)


def test_one_strength_is_the_same_by_lambda_timescale_total_decay_or_convention() -> None:
    plan: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 0.02}, "decay": {"regularizer": "l2"}}
    first = report(StrengthRequest(lambda_=0.001), **plan)
    for asked in (
        StrengthRequest(timescale_epochs=first.timescale_epochs),
        StrengthRequest(total_decay=first.total_decay),
        StrengthRequest(convention=f"timm-sgdw={value_of(first, 'timm-sgdw')}"),
        StrengthRequest(convention=f"keras-l2={value_of(first, 'keras-l2')}"),
    ):
        assert report(asked, **plan).lambda_ == pytest.approx(0.001, rel=1e-12)
    assert first.timescale_epochs == pytest.approx(0.1 / (0.02 * 0.001 * 10))
    assert (value_of(first, "torch-sgd"), value_of(first, "keras-l2")) == (0.001, 0.0005)


def test_batch_accumulation_and_epochs_set_the_steps() -> None:
    found = report(StrengthRequest(lambda_=1.0), images=100, training={"epochs": 7, "batch_size": 8, "accumulate": 4})
    assert found.steps == 7 * 4  # 13 batches, 4 a step
    coarse = report(StrengthRequest(lambda_=1.0), images=100, training={"epochs": 7, "batch_size": 8, "accumulate": 8})
    assert found.timescale_epochs == pytest.approx((coarse.timescale_epochs or math.nan) / 2)


def test_batch_and_accumulation_of_the_training_reach_the_conventions() -> None:
    found = report(StrengthRequest(lambda_=1e-3), training={"batch_size": 24, "accumulate": 3})
    assert value_of(found, "ultralytics") == pytest.approx(1e-3 * 64 / 72)


def test_coupled_through_adam_has_no_total_decay_and_says_why() -> None:
    found = report(StrengthRequest(lambda_=1e-4), optimizer={"name": "adam"}, decay={"regularizer": "l2"})
    assert (found.timescale_epochs, found.total_decay, found.remaining, found.largest_total_decay) == (None,) * 4
    assert "Σ η·λ predicts nothing" in found.reason
    assert value_of(found, "torch-adamw") is None
    assert value_of(found, "torch-adam") == 1e-4


def _idle(regularizer: str, found: StrengthReport, optimizer: str, rates: list[float], start: float = 1.0) -> float:
    """What the regularizer itself leaves of a weight without gradient, attached to torch's optimizer."""
    norm = nn.LayerNorm(1) if regularizer == "corrected" else nn.Identity()
    net = nn.Sequential(nn.Linear(1, 1, bias=False), norm, nn.Linear(1, 1, bias=False)).double()
    nn.init.constant_(net[0].get_parameter("weight"), start)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    trained = kind(net.parameters(), lr=max(rates), weight_decay=0.0)
    partition = group_parameters(net, feeds_norm=["0.weight"] if regularizer == "corrected" else None)
    attach(
        trained,
        net,
        regularizer,
        strength=Strength.from_lambda(found.lambda_, learning_rates=rates),
        partition=partition,
    )
    if regularizer == "l2_sp":
        nn.init.constant_(net[0].get_parameter("weight"), start + 1.0)
    for rate in rates:
        trained.param_groups[0]["lr"] = rate
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        trained.step()
    return net[0].get_parameter("weight").item()


@pytest.mark.parametrize(("regularizer", "shift"), [("cautious", 0.0), ("corrected", 0.0), ("l2_sp", 1.0)])
def test_what_other_regularizers_leave_of_an_idle_weight_is_what_they_do(regularizer: str, shift: float) -> None:
    plan: dict[str, Any] = {"optimizer": {"lr": 0.02}, "training": {"epochs": 3}, "decay": {"regularizer": regularizer}}
    found = report(StrengthRequest(lambda_=3.0), **plan)
    rates = list(learning_rates(parse_config({"data": {"path": "x"}}).schedule, 0.02, found.steps))
    assert found.remaining == pytest.approx(_idle(regularizer, found, "adamw", rates) - shift, rel=1e-9)
    assert report(StrengthRequest(total_decay=found.total_decay), **plan).lambda_ == pytest.approx(3.0)


@pytest.mark.parametrize("regularizer", ["l1", "group_lasso"])
def test_a_length_is_taken_off_by_l1_and_its_kin(regularizer: str) -> None:
    decay = {"regularizer": regularizer}
    plan: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 0.02, "momentum": 0.0}, "decay": decay}
    found = report(StrengthRequest(lambda_=0.01), **plan)
    rates = list(learning_rates(parse_config({"data": {"path": "x"}}).schedule, 0.02, found.steps))
    assert found.path == pytest.approx(9.0 - _idle(regularizer, found, "sgd", rates, 9.0), rel=1e-9)
    assert (found.total_decay, found.timescale_epochs, found.largest_lambda) == (None, None, None)


def test_other_regularizers_are_printed_with_their_rule_and_what_d_means(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed("strength --images 80 --regularizer cautious --lambda 0.5", capsys)
    assert "D bounds the decay from above" in said
    assert "which acts as θ ← " in said
    said = printed("strength --images 80 --regularizer l1 --optimizer sgd --lambda 0.01 --to sklearn-lasso", capsys)
    assert "= Σ η·λ/(1−μ) is subtracted from a weight that gets no gradient, whatever its size" in said
    assert "any η·λ is allowed" in said
    assert "sklearn-lasso       alpha = 0.005" in printed(
        "strength --images 80 --regularizer l1 --optimizer sgd --lambda 0.01 --to sklearn-lasso --reduction mean",
        capsys,
    )


def test_where_the_first_order_fails_a_finding_says_so_for_both_regularizers() -> None:
    sgd = {"name": "sgd", "lr": 0.01, "momentum": 0.99}
    (coupled,) = report(StrengthRequest(total_decay=8.0), optimizer=sgd, decay={"regularizer": "l2"}).findings
    assert "is not far below (1−√μ)²" in coupled
    (decoupled,) = report(StrengthRequest(total_decay=8.0), optimizer=sgd).findings
    assert decoupled == f"As coupled decay (torch-sgd and similar): {coupled}"
    assert report(StrengthRequest(total_decay=8.0)).findings == ()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ("--images 10 --lambda -1", DecayError, "must be a finite number, 0 or more; saw -1.0"),
        ("--images 10 --lambda nan", DecayError, "must be a finite number, 0 or more; saw nan"),
        ("--images 10 --timescale 0", DecayError, "τ in epochs must be a finite number above 0; saw 0.0"),
        ("--images 10 --lambda 1000", DecayError, "η·λ = 3: it would.*must stay below 333.333"),
        ("--images 10 --total-decay 1e9", DecayError, "It must stay below 81"),
        ("--images 10 --from adamw-paper=1", DecayError, "must stay below 333.333"),
        ("--images 10 --from torch-adam=1e-4", DecayError, "no formula turns into 'decoupled' on adamw"),
        ("--images 10 --regularizer l2 --total-decay 1", DecayError, "D has no meaning here: adamw divides"),
        ("--images 10 --regularizer l2 --timescale 1", DecayError, "τ has no meaning here: adamw divides"),
        (
            "--images 10 --regularizer none --lambda 0",
            ConfigError,
            "exist for l2, decoupled, .*; saw regularizer 'none'",
        ),
        ("--images 10 --regularizer max_norm --lambda 1", ConfigError, "'max_norm' has no λ, as it bounds norms"),
        ("--images 10 --regularizer cpr --lambda 1", ConfigError, "'cpr' has no λ, as it bounds Σ θ²"),
        ("--images 10 --regularizer dropout --lambda 1", ConfigError, "'dropout' has no λ, as it zeroes features"),
        (
            "--images 10 --regularizer group_lasso --total-decay 1",
            DecayError,
            "every weight by the same amount.*Give --lambda",
        ),
        (
            "--images 10 --regularizer l1 --timescale 1",
            DecayError,
            "τ has no meaning here: under adamw the step of each weight",
        ),
        ("--images 10 --regularizer scheduled --optimizer sgd --lambda 1", ConfigError, "second moment"),
        ("--images 10 --regularizer cautious --lambda 1000", DecayError, "must stay below 333.333"),
        ("--images 10", ConfigError, "One strength is needed, by --lambda.*saw none"),
        ("--images 10 --lambda 1 --timescale 1", ConfigError, "saw --lambda, --timescale"),
        ("--lambda 1", ConfigError, "--images; saw none"),
        ("--images 0 --lambda 1", ConfigError, "--images; saw 0"),
        ("--images 10 --from torch-adamw", ConfigError, "--from takes NAME=VALUE.*saw 'torch-adamw'"),
        ("--images 10 --lambda 1 --to torch-admw", ConfigError, "Did you mean 'torch-adamw'"),
    ],
)
def test_what_has_no_answer_is_refused_with_what_is_allowed(
    arguments: str, kind: type[SegdecayError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        cli.app(["strength", *shlex.split(arguments)], standalone_mode=False)


def test_all_faults_are_one_message_and_exit_code_2() -> None:
    options = "--optimizer adan --lr nan --regularizer decoupld --from torch-sdg=x --to keras"
    said = call("strength", *options.split(), code=2).err
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 7
    for word in ("optimizer.lr", "'adan'", "'decoupled'", "--images", "'torch-sgd'", "NAME=VALUE", "'keras-l2'"):
        assert word in said


def test_an_unknown_optimizer_is_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        cli.app(["strength", "--optimizer", "adan", "--images", "8", "--lambda", "1"], standalone_mode=False)
    told = (
        "optimizer.name: Unknown optimizer 'adan'; allowed: adamw, adam, sgd, rmsprop, lion, muon. Did you mean 'adam'?"
    )
    assert str(caught.value) == f"{told} Others: torch:NAME, timm:NAME, package.module:build."


def test_json_holds_the_report_and_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed("strength --images 80 --lambda 0.5 --to adamw-paper --to torch-sgd --json", capsys))
    assert found["lambda_"] == 0.5
    assert found["steps"] == 800
    assert [row["name"] for row in found["conventions"]] == ["adamw-paper", "torch-sgd"]
    assert found["conventions"][0]["value"] == pytest.approx(0.0015)
    assert found["conventions"][1]["value"] is None
    assert "Keep D instead" in found["conventions"][1]["reason"]


def test_the_training_of_a_run_is_read_from_its_run_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("command: tune\ndata: {path: x}\noptimizer: {lr: 0.02}\ntraining: {epochs: 4}\n")
    said = printed(f"strength --config {shlex.quote(str(path))} --images 80 --lambda 0.5", capsys)
    assert said.startswith("decoupled on adamw: 40 steps in 4 epochs, cosine from lr 0.02\n")


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Example: segdecay strength" in printed("strength --help", capsys)

"""One small program with each mistake, and one without it."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from segdecay.decay import REGULARIZERS, Audit, attach, audit, group_parameters, optimizer_groups
from segdecay.decay.audit.decay_findings import MECHANISM_TEXTS
from segdecay.decay.audit.penalty_findings import FORM_FINDINGS
from segdecay.decay.audit.subject import AuditFinding
from segdecay.decay.regularizers.decoupled import Decoupled
from segdecay.errors import DecayError

Program = Callable[[], Audit]


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def sgd(net: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})


def spared(net: nn.Module, kind: type[torch.optim.Optimizer] = torch.optim.AdamW, **options: Any) -> Audit:
    """An optimizer whose groups are as they should be."""
    groups = optimizer_groups(group_parameters(net), strength=0.05)
    return audit(net, kind(groups, **{"lr": 0.01, **options}))


def with_penalty(penalty: Callable[[nn.Module], Tensor | float], **options: Any) -> Audit:
    net = small_net()
    return audit(net, sgd(net), lambda output, target: cross_entropy(output, target) + penalty(net), **options)


def half_squares(net: nn.Module) -> Tensor:
    total = torch.stack([p.square().sum() for p in net.parameters()]).sum()
    return torch.mul(total, 0.5e-4)


def squares(net: nn.Module) -> Tensor:
    return 2 * half_squares(net)


def norms(net: nn.Module) -> Tensor:
    return 1e-4 * torch.stack([torch.norm(p) for p in net.parameters()]).sum()


def joint_norm(net: nn.Module) -> Tensor:
    return torch.mul(torch.cat([p.flatten() for p in net.parameters()]).norm(), 1e-4)


def roots(net: nn.Module) -> Tensor:
    return 1e-4 * torch.stack([p.square().sum().sqrt() for p in net.parameters()]).sum()


def from_state(net: nn.Module) -> Tensor:
    return 1e-4 * torch.stack([value.float().norm() for value in net.state_dict().values()]).sum()


def from_numbers(net: nn.Module) -> float:
    return 1e-4 * sum(float(p.data.norm()) for p in net.parameters())


def both(penalty: Callable[[nn.Module], Tensor], weight_decay: float) -> Audit:
    net = small_net()
    return audit(net, sgd(net, weight_decay=weight_decay), lambda o, t: cross_entropy(o, t) + penalty(net))


def named_groups(name_is_spared: Callable[[str], bool], net: nn.Module) -> Audit:
    named = list(net.named_parameters())
    groups = [
        {"params": [p for name, p in named if not name_is_spared(name)], "weight_decay": 0.05},
        {"params": [p for name, p in named if name_is_spared(name)], "weight_decay": 0.0},
    ]
    return audit(net, torch.optim.AdamW(groups, lr=0.01))


def in_own_group(net: Attention) -> Audit:
    groups = optimizer_groups(group_parameters(net), strength=0.05)
    for group in groups:
        group["params"] = [p for p in group["params"] if p is not net.query_proj.weight]
    groups.append({"params": [net.query_proj.weight], "weight_decay": 0.0})
    return audit(net, torch.optim.AdamW(groups, lr=0.01))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 4, 4))
        self.query_proj = nn.Linear(4, 4)
        self.key_proj = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def swapped(before: bool) -> Audit:
    net = small_net()
    optimizer = None if before else sgd(net)
    net[3] = nn.Conv2d(4, 5, 1)
    return audit(net, optimizer or sgd(net))


def twice_in_one(twice: bool) -> Audit:
    net = small_net()
    optimizer = sgd(net)
    if twice:
        optimizer.param_groups.append({**optimizer.param_groups[0], "params": [net[0].weight]})
    return audit(net, optimizer)


def frozen(*, gradient: Tensor | None, keep: bool = True) -> Audit:
    net = small_net()
    weight = next(net.parameters())
    weight.requires_grad = False
    weight.grad = gradient
    held = net.parameters() if keep else [p for p in net.parameters() if p.requires_grad]
    return audit(net, torch.optim.SGD(held, lr=0.1, weight_decay=1e-4))


def zero_gradient(value: float) -> Audit:
    net = small_net()
    for p in net.parameters():
        p.grad = torch.full_like(p, value)
    return audit(net, sgd(net, weight_decay=1e-4))


def half(dtype: torch.dtype, weight_decay: float, **options: Any) -> Audit:
    net = small_net().to(dtype)
    return audit(net, torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=weight_decay, **options))


def times_batch(output: Tensor, net: nn.Module) -> Tensor:
    return output.shape[0] * half_squares(net)


def batch(multiplied: bool) -> Audit:
    net = small_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + (times_batch(output, net) if multiplied else half_squares(net))

    return audit(net, sgd(net), loss)


def dropped(words: tuple[str, ...]) -> Audit:
    net = nn.ModuleDict({"body": small_net(), "head": nn.Conv2d(2, 2, 1)})
    return audit(net, torch.optim.SGD([p for n, p in net.named_parameters() if any(w in n for w in words)], lr=0.1))


def strange(kind: str) -> Audit:
    class Odd(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.1})

    net = small_net()
    return audit(net, Odd(net.parameters()) if kind == "odd" else sgd(net, weight_decay=0.1))


CASES: dict[str, tuple[str, str, Program, Program]] = {  # code, level, with the mistake, without
    "a penalty and weight_decay": (
        "decays_twice", "wrong", lambda: both(half_squares, 1e-4), lambda: both(half_squares, 0.0)
    ),
    "norms": ("norm_not_squared", "wrong", lambda: with_penalty(norms), lambda: with_penalty(half_squares)),
    "one norm of all": ("norm_not_squared", "wrong", lambda: with_penalty(joint_norm), lambda: with_penalty(squares)),
    "a root of zero": ("penalty_not_finite", "wrong", lambda: with_penalty(roots), lambda: with_penalty(norms)),
    "the half is missing": (
        "half_missing", "wrong",
        lambda: with_penalty(squares, lambda_meant=1e-4), lambda: with_penalty(half_squares, lambda_meant=1e-4),
    ),
    "another factor": (
        "other_strength", "doubtful",
        lambda: with_penalty(half_squares, lambda_meant=1e-5), lambda: with_penalty(half_squares, lambda_meant=1e-4),
    ),
    "λ is told": ("penalty_in_loss", "note", lambda: with_penalty(squares), lambda: with_penalty(lambda _: 0.0)),
    "a negative penalty": (
        "penalty_grows_weights", "wrong",
        lambda: with_penalty(lambda net: -half_squares(net)), lambda: with_penalty(half_squares),
    ),
    "state_dict": ("penalty_without_gradient", "wrong", lambda: with_penalty(from_state), lambda: with_penalty(norms)),
    "numbers": (
        "penalty_without_gradient", "doubtful", lambda: with_penalty(from_numbers), lambda: with_penalty(lambda _: 0.1)
    ),
    "times the batch": (
        "penalty_grows_with_batch", "wrong", lambda: batch(multiplied=True), lambda: batch(multiplied=False)
    ),
    "clipping": (
        "clipping_swallows", "wrong",
        lambda: with_penalty(lambda net: 1e5 * half_squares(net), clip_norm=1.0),
        lambda: with_penalty(lambda _: 0.0, clip_norm=1.0),
    ),
    "clipping, perhaps": (
        "clipping_would_act", "note", lambda: with_penalty(half_squares), lambda: with_penalty(lambda _: 0.0)
    ),
    "zero biases": (
        "unknown_at_zero", "note",
        lambda: with_penalty(half_squares),
        lambda: with_penalty(lambda net: half_squares([*net.children()][3])),
    ),
    "absolute values": (
        "l1_in_loss", "note",
        lambda: with_penalty(lambda net: 1e-4 * torch.stack([p.abs().sum() for p in net.parameters()]).sum()),
        lambda: with_penalty(squares),
    ),
    "AdamW's default": (
        "default_decay", "doubtful",
        lambda: audit(net := small_net(), torch.optim.AdamW(net.parameters())),
        lambda: audit(net := small_net(), torch.optim.AdamW(net.parameters(), weight_decay=0.02)),
    ),
    "ASGD's default": (
        "default_decay", "doubtful",
        lambda: audit(net := small_net(), torch.optim.ASGD(net.parameters())),
        lambda: audit(net := small_net(), torch.optim.ASGD(net.parameters(), lambd=0.0)),
    ),
    "Adam's weight_decay": (
        "coupled_through_adaptive", "doubtful",
        lambda: audit(net := small_net(), torch.optim.Adam(net.parameters(), weight_decay=1e-4)),
        lambda: audit(net := small_net(), torch.optim.AdamW(net.parameters(), weight_decay=1e-4)),
    ),
    "norms decay": ("norm_decayed", "doubtful", lambda: strange("sgd"), lambda: spared(small_net())),
    "biases decay": ("bias_decayed", "doubtful", lambda: strange("sgd"), lambda: spared(small_net())),
    "positions decay": (
        "position_decayed", "doubtful",
        lambda: audit(net := Attention(), sgd(net, weight_decay=0.1)), lambda: spared(Attention()),
    ),
    "'query' anywhere": (
        "filter_spares_weights", "wrong",
        lambda: named_groups(lambda name: "query" in name or "bias" in name or "norm" in name, Attention()),
        lambda: named_groups(lambda name: "bias" in name or "norm" in name, Attention()),
    ),
    "the filter upside down": (
        "filter_spares_weights", "wrong",
        lambda: named_groups(lambda name: "bias" not in name and "norm" not in name, Attention()),
        lambda: named_groups(lambda name: "bias" in name or "norm" in name, Attention()),
    ),
    "a layer is spared in a group of its own": (
        "filter_spares_weights", "doubtful",
        lambda: in_own_group(Attention()), lambda: named_groups(lambda name: name.endswith("bias"), Attention()),
    ),
    "one layer is spared": (
        "filter_spares_weights", "doubtful",
        lambda: named_groups(lambda name: name.startswith("key_proj"), Attention()),
        lambda: named_groups(lambda name: name.endswith("bias"), Attention()),
    ),
    "the logits layer is spared": (
        "head_spared", "doubtful",
        lambda: named_groups(lambda name: name.startswith("head") or name.endswith("bias"), Attention()),
        lambda: named_groups(lambda name: name.startswith(("head", "key_proj")), Attention()),
    ),
    "in no group": ("in_no_group", "wrong", lambda: dropped(("body.0", "head")), lambda: dropped(("body", "head"))),
    "a whole part in no group": ("in_no_group", "doubtful", lambda: dropped(("head",)), lambda: dropped(("",))),
    "in two groups": ("in_two_groups", "wrong", lambda: twice_in_one(twice=True), lambda: twice_in_one(twice=False)),
    "frozen, with a gradient": (
        "frozen_decays", "wrong",
        lambda: frozen(gradient=torch.zeros(4, 3, 3, 3)), lambda: frozen(gradient=None),
    ),
    "frozen, in the group": (
        "frozen_in_decayed_group", "note", lambda: frozen(gradient=None), lambda: frozen(gradient=None, keep=False)
    ),
    "gradients of zeros": (
        "zero_gradient_decays", "doubtful", lambda: zero_gradient(0.0), lambda: zero_gradient(1.0)
    ),
    "the head was swapped": ("replaced_after", "wrong", lambda: swapped(before=False), lambda: swapped(before=True)),
    "bf16": ("lost_in_half", "wrong", lambda: half(torch.bfloat16, 0.19), lambda: half(torch.bfloat16, 0.21)),
    "fp16": ("lost_in_half", "wrong", lambda: half(torch.float16, 0.02), lambda: half(torch.float32, 0.02)),
    "bf16, fused": (
        "lost_in_half", "doubtful",
        lambda: half(torch.bfloat16, 0.1, fused=True), lambda: half(torch.bfloat16, 0.3, fused=True),
    ),
    "before a norm layer": (
        "only_effective_rate", "note", lambda: spared(small_net()),
        lambda: spared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))),
    ),
    "one step removes all": (
        "removes_weights", "wrong",
        lambda: spared(small_net(), lr=20.0), lambda: spared(small_net(), lr=19.0),
    ),
    "nothing decays": ("no_decay", "note", lambda: swapped(before=True), lambda: strange("sgd")),
    "an unknown optimizer": ("mechanism_unknown", "note", lambda: strange("odd"), lambda: strange("sgd")),
}  # fmt: skip


def only(found: Audit, code: str) -> list[AuditFinding]:
    return [finding for finding in found.findings if finding.code == code]


@pytest.mark.parametrize("name", CASES)
def test_the_mistake_is_found_and_its_absence_is_not(name: str) -> None:
    code, level, mistaken, right = CASES[name]
    (finding,) = only(mistaken(), code)
    assert finding.level == level
    assert finding.message.endswith(".")
    assert finding.advice.endswith(".")
    assert [f for f in only(right(), code) if f.level == level] == []


def test_the_recipe_that_goes_round_has_its_three_mistakes_named() -> None:
    torch.manual_seed(0)
    weight_decay = 1e-4
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 15 * 15, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=weight_decay)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        penalty = weight_decay * sum(torch.norm(p) for p in model.parameters())
        return torch.add(cross_entropy(output, target), penalty)

    found = audit(model, optimizer, loss)
    names = tuple(name for name, _ in model.named_parameters())
    assert found.codes("wrong") == ("decays_twice", "norm_not_squared")
    assert only(found, "decays_twice")[0].parameters == names
    assert only(found, "norm_not_squared")[0].parameters == names
    assert only(found, "bias_decayed")[0].parameters == ("0.bias", "4.bias")
    assert found.is_wrong


def test_findings_name_exactly_their_parameters() -> None:
    assert only(swapped(before=False), "replaced_after")[0].parameters == ("3.weight", "3.bias")
    assert only(twice_in_one(twice=True), "in_two_groups")[0].parameters == ("0.weight",)
    assert only(dropped(("body.0", "head")), "in_no_group")[0].parameters == (
        "body.1.weight", "body.1.bias", "body.3.weight", "body.3.bias",
    )  # fmt: skip
    assert only(CASES["'query' anywhere"][2](), "filter_spares_weights")[0].parameters == ("query_proj.weight",)
    assert only(spared(small_net()), "only_effective_rate")[0].parameters == ("0.weight",)


def test_wrong_findings_come_first() -> None:
    levels = [finding.level for finding in both(norms, 1e-4).findings]
    assert levels == sorted(levels, key=("wrong", "doubtful", "note").index)
    assert len(set(levels)) == 3


def test_decay_that_leaves_everything_is_told_from_d() -> None:
    net = small_net()
    default = torch.optim.AdamW(net.parameters())
    rates = [1e-3 * step / 20000 for step in range(20000, 0, -1)]
    found = audit(net, default, learning_rates=rates)
    assert found.rows[0].total_decay == pytest.approx(0.1, rel=1e-3)
    assert only(found, "decay_does_nothing") == []
    weaker = audit(net, default, learning_rates=rates[::4])
    assert (
        "D is 0.025 at most: 97.5% of a weight that gets no gradient is left"
        in only(weaker, "decay_does_nothing")[0].message
    )
    assert "it is 50% of what the peak rate would give" in only(found, "decay_follows_rate")[0].message
    assert only(audit(net, default, learning_rates=[1e-3] * 9000), "decay_follows_rate") == []


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_shows_timescale_and_total_decay_of_coupled_and_decoupled() -> None:
    net = small_net()
    rates = [0.1] * 50
    coupled = audit(net, sgd(net, weight_decay=0.01), learning_rates=rates, steps_per_epoch=10).rows[0]
    assert coupled.total_decay == pytest.approx(50 * 0.1 * 0.01 / (1 - 0.9))
    assert coupled.timescale_epochs == pytest.approx((1 - 0.9) / (0.1 * 0.01 * 10))
    adamw = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.01)
    decoupled = audit(net, adamw, learning_rates=rates, steps_per_epoch=10).rows[0]
    assert decoupled.total_decay == pytest.approx(50 * 0.1 * 0.01)
    assert decoupled.timescale_epochs == pytest.approx(1 / (0.1 * 0.01 * 10))


def test_coupled_decay_through_adam_has_neither_timescale_nor_total_decay() -> None:
    net = small_net()
    adam = torch.optim.Adam(net.parameters(), weight_decay=0.01)
    row = audit(net, adam, learning_rates=[0.1] * 50, steps_per_epoch=10).rows[0]
    assert (row.timescale_epochs, row.total_decay) == (None, None)
    assert row.is_decayed


def test_groups_with_other_rates_decay_in_proportion() -> None:
    net = small_net()
    groups: list[dict[str, Any]] = [
        {"params": net[0].parameters(), "lr": 0.1},
        {"params": [*net[1].parameters(), *net[3].parameters()]},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.2, weight_decay=0.5)
    torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: float(step > 0))  # a warm-up from 0
    rows = {row.name: row for row in audit(net, adamw, learning_rates=[0.1] * 4).rows}
    assert rows["0.weight"].total_decay == pytest.approx(4 * 0.1 * 0.5)
    assert rows["3.weight"].total_decay == pytest.approx(4 * 0.2 * 0.5)


def test_an_attached_regularizer_is_part_of_the_table() -> None:
    net = small_net()
    optimizer = sgd(net)
    handle = attach(optimizer, net, "decoupled", strength=0.01)
    rows = {row.name: row for row in audit(net, optimizer, learning_rates=[0.1] * 50).rows}
    (decay,) = rows["0.weight"].decays
    assert (decay.source, decay.mechanism, decay.strength) == ("regularizer", "decoupled", 0.01)
    assert rows["0.weight"].total_decay == pytest.approx(50 * 0.1 * 0.01)
    assert rows["1.weight"].decays == ()
    assert audit(net, optimizer).codes("wrong") == ()
    optimizer.param_groups[0]["weight_decay"] = 0.1
    assert only(audit(net, optimizer), "decays_twice")[0].parameters == ("0.weight", "3.weight")
    handle.detach()
    assert audit(net, optimizer).rows[0].decays[0].source == "optimizer"


def test_regularizers_that_combine_do_not_decay_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bound(Decoupled):
        name = "max_norm"

    monkeypatch.setitem(REGULARIZERS, "max_norm", Bound)
    net = small_net()
    optimizer = sgd(net)
    handles = [attach(optimizer, net, regularizer, strength=0.01) for regularizer in ("decoupled", "max_norm")]
    found = audit(net, optimizer)
    assert len(found.rows[0].decays) == len(handles) == 2
    assert found.codes("wrong") == ()


def test_a_regularizer_through_adam_is_as_doubtful_as_adams_own_decay() -> None:
    net = small_net()
    adam = torch.optim.Adam(net.parameters())
    attach(adam, net, "l2", strength=0.01)
    assert only(audit(net, adam), "coupled_through_adaptive")[0].parameters == ("0.weight", "3.weight")


def test_print_shows_every_parameter_and_finding() -> None:
    found = both(norms, 1e-4)
    text = str(found)
    assert all(row.name in text for row in found.rows)
    assert all(finding.message in text and finding.advice in text for finding in found.findings)
    assert "No findings." in str(replace(found, findings=()))


# --- what cannot be audited -------------------------------------------------------------------------------------------


def test_an_optimizer_of_another_model_is_an_error() -> None:
    with pytest.raises(DecayError, match=r"None of the 6 parameters of SGD is in Sequential.*another model"):
        audit(small_net(), sgd(small_net()))
    net = small_net()
    with pytest.raises(DecayError, match="copied since"):
        audit(copy.deepcopy(net), sgd(net))


def test_all_faulty_arguments_are_reported_at_once() -> None:
    net = small_net()
    with pytest.raises(DecayError) as caught:
        audit(net, sgd(net), "loss", learning_rates=[], steps_per_epoch=0, clip_norm=-1.0, lambda_meant=float("nan"))  # type: ignore[arg-type]
    text = str(caught.value)
    for said in (
        "loss must be a function",
        "steps_per_epoch must be",
        "clip_norm must be",
        "lambda_meant must be",
        "No learning rates",
    ):
        assert said in text
    with pytest.raises(DecayError, match=r"model must be a torch\.nn\.Module; saw str"):
        audit("net", sgd(net))  # type: ignore[arg-type]
    with pytest.raises(DecayError, match=r"A torch\.optim\.Optimizer is needed; saw Sequential"):
        audit(net, net)  # type: ignore[arg-type]


def test_a_partition_of_another_model_is_an_error() -> None:
    net = small_net()
    with pytest.raises(DecayError, match="The partition is not of this model"):
        audit(net, sgd(net), partition=group_parameters(small_net()))


def test_a_model_without_any_layer_is_audited_all_the_same() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.ones(2, 2))

    net = Bare()
    assert audit(net, sgd(net, weight_decay=0.1)).rows[0].is_decayed


def test_every_finding_is_documented() -> None:
    said = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    sources = Path(inspect.getfile(Audit)).parent.glob("*_findings.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    codes = set(re.findall(r'Finding\(\s*"(\w+)"', text)) | {code for code, _, _ in FORM_FINDINGS.values()}
    codes |= {code for code, *_ in (*CASES.values(), *MECHANISM_TEXTS.values())} | {"decay_by_hook", "decay_in_step"}
    assert len(codes) > 30
    assert [code for code in sorted(codes) if f"`{code}`" not in said] == []

"""Every regularizer through what people wrap models and optimizers in: compiled, DDP, sharded, tied, several
optimizers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from trainers import Net, make_batches, make_net, weights

from segdecay.decay import REGULARIZERS, Handle, Strength, attach, handle_of
from segdecay.errors import DecayError

torch.set_num_threads(1)
RATES = (0.02, 0.03, 0.01)
ASKED: dict[str, dict[str, Any]] = {
    "l2": {"strength": 0.5},
    "decoupled": {"strength": 2.0},
    "l1": {"strength": 0.3},
    "elastic_net": {"strength": 0.3},
    "group_lasso": {"strength": 0.1},
    "l2_sp": {"strength": 2.0},
    "max_norm": {"strength": 0.4},
    "cpr": {"strength": 0.5, "options": {"kappa": "factor"}},
    "cautious": {"strength": 2.0},
    "corrected": {"strength": Strength.from_lambda(2.0, learning_rates=RATES)},
    "scheduled": {"strength": 0.1},
}
NEEDS_WHOLE = ("group_lasso", "max_norm", "cpr", "scheduled")


@pytest.fixture
def _one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of one, over a file."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=RATES[0], weight_decay=0.0)


def train(model: nn.Module, *optimizers: Optimizer) -> None:
    for rate, (images, masks) in zip(RATES, make_batches(len(RATES)), strict=True):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), masks))
        for optimizer in optimizers:
            optimizer.step()


def expected(regularizer: str) -> list[Tensor]:
    """The weights of the bare model."""
    model = make_net()
    optimizer = adamw(model)
    attach(optimizer, model, regularizer, **ASKED[regularizer])
    train(model, optimizer)
    return weights(model)


def is_same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_every_regularizer_that_acts_through_an_optimizer_is_here() -> None:
    assert set(ASKED) == {name for name, kind in REGULARIZERS.items() if not kind.in_model} - {"none"}


@pytest.mark.parametrize("regularizer", ASKED)
def test_a_compiled_model_is_trained_to_the_same_bits(regularizer: str) -> None:
    model = make_net()
    compiled = cast("nn.Module", torch.compile(model, backend="eager"))
    optimizer = adamw(compiled)
    handle = attach(optimizer, compiled, regularizer, **ASKED[regularizer])
    train(compiled, optimizer)
    assert list(handle.strengths()) == [name for name, _ in model.named_parameters()]
    assert is_same(weights(model), expected(regularizer))
    torch.compiler.reset()


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("regularizer", ASKED)
def test_a_model_in_ddp_is_trained_to_the_same_bits(regularizer: str) -> None:
    model = make_net()
    wrapped = DistributedDataParallel(model)
    optimizer = adamw(wrapped)
    handle = attach(optimizer, wrapped, regularizer, **ASKED[regularizer])
    train(wrapped, optimizer)
    assert list(handle.strengths()) == [name for name, _ in model.named_parameters()]
    assert is_same(weights(model), expected(regularizer))


@pytest.mark.parametrize(
    "regularizer", [regularizer for regularizer in ASKED if regularizer != "scheduled"]
)  # a mean an optimizer
def test_each_of_two_optimizers_gets_the_regularizer_for_its_own_weights(regularizer: str) -> None:
    model = make_net()
    before = [*model.conv.parameters(), *model.norm.parameters()]  # together: group_lasso shrinks both as one
    halves = [AdamW(part, lr=RATES[0], weight_decay=0.0) for part in (before, list(model.head.parameters()))]
    for optimizer in halves:
        attach(optimizer, model, regularizer, **ASKED[regularizer])
    train(model, *halves)
    assert is_same(weights(model), expected(regularizer))


class Tied(Net):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.again = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Conv2d(2, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.again(self.conv(images).relu()).relu())
        return logits


@pytest.mark.parametrize("regularizer", ASKED)
def test_a_weight_under_two_names_is_acted_on_once(regularizer: str) -> None:
    """Given the same gradients, as one weight under one name."""
    torch.manual_seed(0)
    tied = Tied()
    tied.again.weight = tied.conv.weight
    alone = copy.deepcopy(tied)
    del alone.again.weight
    for model in (tied, alone):
        optimizer = adamw(model)
        attach(optimizer, model, regularizer, **ASKED[regularizer])
        for rate in RATES:
            optimizer.param_groups[0]["lr"] = rate
            draw = torch.Generator().manual_seed(1)
            for _, parameter in sorted(model.named_parameters()):
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()
    assert torch.equal(tied.conv.weight, alone.conv.weight)
    assert torch.equal(tied.again.weight, tied.conv.weight)


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("regularizer", NEEDS_WHOLE)
def test_sharded_weights_are_refused_by_rules_that_need_whole_ones(regularizer: str) -> None:
    model = make_net()
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (1,)))
    optimizer = adamw(model)
    with pytest.raises(DecayError, match=rf"'{regularizer}' needs whole weights, and 6 are sharded .*conv\.weight"):
        attach(optimizer, model, regularizer, **ASKED[regularizer])
    assert handle_of(optimizer) is None


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("regularizer", ["decoupled", "l2", "cautious"])
def test_sharded_weights_are_decayed_by_rules_for_single_numbers(regularizer: str) -> None:
    model = make_net()
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (1,)))
    optimizer = adamw(model)
    handle: Handle = attach(optimizer, model, regularizer, **ASKED[regularizer])
    train(model, optimizer)
    whole = [cast("Any", parameter).full_tensor().detach() for parameter in model.parameters()]
    assert handle.steps == len(RATES)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, expected(regularizer), strict=True))


@pytest.mark.parametrize(
    ("dtype", "kernel", "same"),
    [
        (torch.float32, {"foreach": False}, True),
        (torch.float32, {"foreach": True}, True),
        (torch.bfloat16, {"foreach": False}, True),
        (torch.bfloat16, {"foreach": True}, False),
    ],
)
def test_decoupled_is_adamw_bit_for_bit_within_the_limits_that_its_documentation_names(
    dtype: torch.dtype, kernel: dict[str, bool], same: bool
) -> None:
    ends = []
    for own, ours in ((0.3, 0.0), (0.0, 0.3)):
        torch.manual_seed(0)
        net = nn.Linear(64, 64, bias=False).to(dtype)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=own, **kernel)  # type: ignore[arg-type]
        if ours:
            attach(optimizer, net, "decoupled", strength=ours)
        for step in range(3):
            net.weight.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(step)).to(dtype)
            optimizer.step()
        ends.append(net.weight.detach().clone())
    assert torch.equal(*ends) is same

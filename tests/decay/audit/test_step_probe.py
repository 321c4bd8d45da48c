"""What a training step does beside fitting the data is told as it is, and everything is put back."""

from __future__ import annotations

import copy
import importlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer as po
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from segdecay.decay import Audit, attach, audit

Step = Callable[[], object]
lookahead: Any = importlib.import_module("timm.optim.lookahead").Lookahead
X, Y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
LAMBDA, RATE = 0.01, 0.1


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def half_squares(net: nn.Module) -> Tensor:
    return torch.stack([p.square().sum() for p in net.parameters() if p.ndim > 1]).sum() / 2


def told(found: Audit, source: str, name: str = "0.weight") -> list[tuple[str, float | None]]:
    (row,) = [row for row in found.rows if row.name == name]
    return [(d.mechanism, d.strength and round(d.strength, 5)) for d in row.decays if d.source == source]


def plain(net: nn.Module, optimizer: Any, penalty: Callable[[nn.Module], Any] = lambda _: 0.0) -> Step:
    def step() -> None:
        optimizer.zero_grad()
        (cross_entropy(net(X), Y) + penalty(net)).backward()
        optimizer.step()

    return step


def sgd(net: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=RATE, **options)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_penalty_in_a_step_has_its_lambda_and_what_has_none_has_none() -> None:
    net = layers()
    optimizer = sgd(net)
    found = audit(net, optimizer, step=plain(net, optimizer, lambda n: LAMBDA * half_squares(n)))
    assert told(found, "loss") == [("squared", LAMBDA)]
    assert told(found, "loss", "0.bias") == []
    assert audit(net, optimizer, step=plain(net, optimizer)).codes() == ("no_decay",)


def test_a_penalty_is_read_behind_a_grad_scaler_and_behind_clipping() -> None:
    net = layers()
    optimizer = sgd(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def scaled() -> None:
        optimizer.zero_grad()
        scaler.scale(cross_entropy(net(X), Y) + LAMBDA * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    def clipped() -> None:
        optimizer.zero_grad()
        (cross_entropy(net(X), Y) + LAMBDA * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
        optimizer.step()

    for step in (scaled, clipped):
        found = audit(net, optimizer, step=step)
        assert (told(found, "loss"), told(found, "step")) == ([("squared", LAMBDA)], [])


def test_a_closure_is_a_step_too() -> None:
    net = layers()
    optimizer = sgd(net)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(net(X), Y) + LAMBDA * half_squares(net)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    found = audit(net, optimizer, step=lambda: optimizer.step(closure))
    assert told(found, "loss") == [("squared", LAMBDA)]
    assert found.step.passes == 1


def multiplied(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_parameter("0.weight").mul_(1 - RATE * LAMBDA)


def bounded(net: nn.Module) -> None:
    with torch.no_grad():
        net.get_parameter("0.weight").clamp_(-0.1, 0.1)


def added(net: nn.Module) -> None:
    weight = net.get_parameter("0.weight")
    assert weight.grad is not None
    weight.grad.add_(weight.detach(), alpha=LAMBDA)


@pytest.mark.parametrize("by", ["step", "hook"])
@pytest.mark.parametrize(
    ("change", "before", "mechanism"),
    [
        (multiplied, True, ("decoupled", LAMBDA)),
        (multiplied, False, ("decoupled", LAMBDA)),
        (bounded, True, ("unknown", None)),
        (bounded, False, ("unknown", None)),
        (added, True, ("coupled", LAMBDA)),
    ],
)
def test_what_is_done_by_hand_or_by_a_hook_of_the_optimizer(
    change: Callable[[nn.Module], None], before: bool, mechanism: tuple[str, float | None], by: str
) -> None:
    net = layers()
    optimizer = sgd(net)
    if by == "hook":
        register = optimizer.register_step_pre_hook if before else optimizer.register_step_post_hook
        register(lambda *_: change(net))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(X), Y).backward()  # type: ignore[no-untyped-call]
        if by == "step" and before:
            change(net)
        optimizer.step()
        if by == "step" and not before:
            change(net)

    found = audit(net, optimizer, step=step)
    assert told(found, by) == [mechanism]
    assert told(found, by, "4.weight") == []
    (code,) = set(found.codes()) & {"decay_in_step", "decay_by_hook"}
    assert code == f"decay_{'by_hook' if by == 'hook' else 'in_step'}"
    assert found.codes("wrong") == ()
    assert ("doubtful" if mechanism[1] is None else "note") in {f.level for f in found.findings if f.code == code}


def test_a_hook_on_a_parameter_is_no_penalty_of_the_loss() -> None:
    net = layers()
    weight = net.get_parameter("4.weight")
    weight.register_hook(lambda g: g + LAMBDA * weight.detach())  # type: ignore[no-untyped-call]
    optimizer = sgd(net)
    found = audit(net, optimizer, step=plain(net, optimizer, lambda n: LAMBDA * half_squares(n)))
    assert told(found, "hook", "4.weight") == [("coupled", LAMBDA)]
    assert told(found, "loss", "4.weight") == [("squared", LAMBDA)]
    assert [f.parameters for f in found.findings if f.code == "decays_twice"] == [("4.weight",)]


def test_gradients_that_are_only_scaled_decay_nothing() -> None:
    net = layers()
    net.get_parameter("4.weight").register_hook(lambda g: 0.1 * g)  # type: ignore[no-untyped-call]
    optimizer = sgd(net)

    def step() -> None:
        optimizer.zero_grad()
        (cross_entropy(net(X), Y) + LAMBDA * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        for p in net.parameters():
            nn.utils.clip_grad_norm_([p], 1e-3)  # each by a factor of its own
        optimizer.step()

    found = audit(net, optimizer, step=step)
    assert found.codes("wrong") == ()
    assert {d.source for row in found.rows for d in row.decays} == {"loss"}


@pytest.mark.parametrize(
    "wrap", [lookahead, po.Lookahead, po.TRAC, po.ScheduleFreeWrapper, lambda one: one], ids=lambda wrap: wrap.__name__
)
def test_what_a_wrapper_does_to_the_weights_is_no_decay_by_hand(wrap: Any) -> None:
    net = layers()
    optimizer = wrap(torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.02))
    getattr(optimizer, "train", lambda: None)()
    step = plain(net, optimizer)
    for _ in range(3):
        step()
    found = audit(net, optimizer, step=step)
    assert {d.source for row in found.rows for d in row.decays} == {"optimizer"}
    is_bare = isinstance(optimizer, torch.optim.AdamW)
    assert ("other_mechanism" in found.codes()) is not is_bare


def test_sam_is_one_step_of_two_passes() -> None:
    net = layers()
    optimizer: Any = po.SAM(net.parameters(), torch.optim.SGD, lr=RATE, momentum=0.9, weight_decay=1e-3)

    def step() -> None:
        for half in (optimizer.first_step, optimizer.second_step):
            cross_entropy(net(X), Y).backward()  # type: ignore[no-untyped-call]
            half(zero_grad=True)

    found = audit(net, optimizer, step=step)
    assert (found.step.passes, told(found, "optimizer"), told(found, "step")) == (2, [("coupled", 1e-3)], [])


def test_the_penalty_of_every_part_of_a_batch_names_the_passes() -> None:
    net = layers()
    optimizer = sgd(net)

    def step() -> None:
        optimizer.zero_grad()
        for part in range(2):
            half = slice(2 * part, 2 * part + 2)
            (cross_entropy(net(X[half]), Y[half]) / 2 + LAMBDA * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    found = audit(net, optimizer, step=step, lambda_meant=LAMBDA)
    (message,) = [f.message for f in found.findings if f.code == "other_strength"]
    assert "2 times" in message
    assert "A step makes 2 backward passes, and the penalty joins each" in message


class Returns(nn.Module):
    """A network that returns its scores inside something."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.wrap = nn.Linear(3, 2), wrap

    def forward(self, x: Tensor) -> Any:
        """Scores, wrapped."""
        return self.wrap(self.layer(x))


class Opaque:
    """Holds a tensor where nothing finds it."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores


@pytest.mark.parametrize(
    ("wrap", "unwrap"), [(lambda s: {"out": s}, lambda o: o["out"]), (lambda s: [s, None], lambda o: o[0])]
)
def test_scores_inside_of_mappings_and_lists_are_found(wrap: Any, unwrap: Any) -> None:
    net = Returns(wrap)
    optimizer = sgd(net)

    def step() -> None:
        optimizer.zero_grad()
        (cross_entropy(unwrap(net(X)), Y) + LAMBDA * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    assert told(audit(net, optimizer, step=step), "loss", "layer.weight") == [("squared", LAMBDA)]


def test_a_second_network_is_no_copy_and_one_with_the_same_values_is() -> None:
    net, other = layers(), layers()
    for seed, p in enumerate(other.parameters()):
        nn.init.normal_(p, generator=torch.Generator().manual_seed(seed))
    optimizer = sgd(net)

    def judged(n: nn.Module) -> Tensor:
        scores: Tensor = other(n(X).repeat(1, 2)[:, :3]).sum()
        return scores

    assert "penalty_on_copy" not in audit(net, optimizer, step=plain(net, optimizer, judged)).codes()
    counted = copy.deepcopy(net)
    found = audit(net, optimizer, step=plain(net, optimizer, lambda _: half_squares(counted)))
    assert found.codes("wrong") == ("penalty_on_copy",)


def test_an_average_of_the_weights_is_a_copy_too_where_a_loss_is_given() -> None:
    net = layers()
    average = copy.deepcopy(net)
    with torch.no_grad():
        for p in average.parameters():
            p.mul_(0.9)
    found = audit(net, sgd(net), lambda o, t: cross_entropy(o, t) + half_squares(average))
    assert found.codes("wrong") == ("penalty_on_copy",)
    fixed = average.requires_grad_(requires_grad=False)

    def pull(output: Tensor, target: Tensor) -> Tensor:
        pairs = zip(net.parameters(), fixed.parameters(), strict=True)
        return cross_entropy(output, target) + torch.stack([(p - q).square().sum() for p, q in pairs]).sum()

    assert audit(net, sgd(net), pull).codes("wrong") == ()


# --- what cannot be examined ------------------------------------------------------------------------------------------


def without_backward(net: nn.Module, optimizer: Any) -> Step:
    del net
    step: Step = optimizer.step
    return step


def without_update(net: nn.Module, optimizer: Any) -> Step:
    del optimizer
    return lambda: cross_entropy(net(X), Y).backward()  # type: ignore[no-untyped-call]


def that_raises(net: nn.Module, optimizer: Any) -> Step:
    return lambda: net(optimizer)


def that_takes_a_batch(net: nn.Module, optimizer: Any) -> Any:
    del optimizer

    def step(batch: Tensor) -> object:
        return net(batch)

    return step


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (without_backward, "no gradient reached"),
        (without_update, "no optimizer that was given took a step"),
        (that_raises, "it raised TypeError"),
        (that_takes_a_batch, "it raised TypeError"),
    ],
)
def test_a_step_that_cannot_be_examined_says_why(make: Any, reason: str) -> None:
    net = layers()
    optimizer = sgd(net)
    found = audit(net, optimizer, step=make(net, optimizer))
    assert found.step.status == "not examined"
    assert reason in found.step.reason
    assert "step_not_examined" in found.codes("doubtful")


def test_an_output_in_which_no_tensor_is_found_is_not_examined() -> None:
    net = Returns(Opaque)
    optimizer = sgd(net)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(X).scores, Y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    found = audit(net, optimizer, step=step)
    assert "the model returns a Opaque, in which no tensor with gradient is found" in found.step.reason


def test_a_step_takes_the_place_of_a_loss_that_calls_the_model() -> None:
    net = layers()
    optimizer = sgd(net)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(net(X), Y) + 0 * (output.sum() + target.sum())

    assert "loss_not_examined" in audit(net, optimizer, loss).codes()
    assert "loss_not_examined" not in audit(net, optimizer, loss, step=plain(net, optimizer)).codes()


# --- nothing changes --------------------------------------------------------------------------------------------------


def state_of(net: nn.Module, optimizer: Any) -> Any:
    """Everything that must be the same after, as a copy."""
    held = {
        "model": net.state_dict(),
        "gradients": [p.grad for p in net.parameters()],
        "trains": [p.requires_grad for p in net.parameters()],
        "modes": [m.training for m in net.modules()],
        "optimizer": optimizer.state_dict(),
        "rates": [group.get("lr") for group in optimizer.param_groups],
        "hooks": [len(p._backward_hooks or ()) for p in net.parameters()],
        "random": (torch.get_rng_state(), random.getstate()),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index] # noqa: NPY002
    }
    return copy.deepcopy(held)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


MAKES: dict[str, Callable[[nn.Module], Any]] = {
    "sgd": lambda net: sgd(net, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda net: torch.optim.AdamW(net.parameters(), lr=1e-3),
    "a rate that is a tensor": lambda net: torch.optim.AdamW(net.parameters(), lr=torch.tensor(1e-3)),
    "lookahead": lambda net: lookahead(torch.optim.AdamW(net.parameters(), lr=1e-3), k=2),
    "lookahead of po": lambda net: po.Lookahead(torch.optim.AdamW(net.parameters(), lr=1e-3), k=2),
    "schedule-free": lambda net: po.ScheduleFreeAdamW(net.parameters(), lr=1e-3, weight_decay=0.1),
    "adagrad": lambda net: torch.optim.Adagrad(net.parameters(), lr=1e-2, weight_decay=1e-3),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", MAKES)
def test_a_step_leaves_every_bit_as_it_was(kind: str, fails: bool) -> None:
    net = layers()
    net.get_parameter("4.bias").requires_grad = False
    net.get_parameter("4.weight").register_hook(lambda g: g + 0.1)  # type: ignore[no-untyped-call]
    optimizer = MAKES[kind](net)
    inner = plain(net, optimizer, lambda n: LAMBDA * half_squares(n))
    for _ in range(3):
        inner()
    before, weights = state_of(net, optimizer), [p.data_ptr() for p in net.parameters()]
    states = {id(p): id(optimizer.state[p]) for p in net.parameters() if p in optimizer.state}

    def step() -> None:
        net.eval()
        np.random.rand()  # noqa: NPY002
        optimizer.param_groups[0]["lr"] = 7.0
        inner()
        if fails:
            raise KeyboardInterrupt if kind == "sgd" else RuntimeError

    if fails and kind == "sgd":
        with pytest.raises(KeyboardInterrupt):
            audit(net, optimizer, step=step)
    else:
        found = audit(net, optimizer, step=step)
        assert found.step.status == ("not examined" if fails else "examined"), found.step.reason
    assert same(before, state_of(net, optimizer))
    assert weights == [p.data_ptr() for p in net.parameters()]
    assert states == {id(p): id(optimizer.state[p]) for p in net.parameters() if p in optimizer.state}
    inner()


def test_an_attached_regularizer_is_in_the_table_and_does_not_act_in_the_audit() -> None:
    net = layers()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    handle = attach(optimizer, net, "decoupled", strength=0.5)
    step = plain(net, optimizer)
    step()
    found = audit(net, optimizer, step=step)
    assert (told(found, "regularizer"), told(found, "hook")) == ([("decoupled", 0.5)], [])
    assert handle.steps == 1
    step()
    assert handle.steps == 2

"""The probe of a loss: forms from gradients, losses that own parameters or call the model, and nothing is changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from segdecay.decay import Audit, audit
from segdecay.decay.audit.forms import possible_forms, settle_forms
from segdecay.decay.audit.untouched import untouched

Loss = Callable[[Any, Any], Any]


def small_net(outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, outputs, 1))


def probe(loss: Loss, net: nn.Module, **options: Any) -> Audit:
    return audit(net, torch.optim.SGD(net.parameters(), lr=0.1), loss, **options)


def total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()


FORMS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "squared": lambda ws: 0.5 * 0.3 * total([w.square().sum() for w in ws]),
    "norm": lambda ws: 0.3 * total([w.norm() for w in ws]),
    "joint_norm": lambda ws: 0.3 * torch.cat([w.flatten() for w in ws]).norm(),
    "row_norm": lambda ws: 0.3 * total([w.flatten(1).norm(dim=1).sum() for w in ws]),
    "l1": lambda ws: 0.3 * total([w.abs().sum() for w in ws]),
    "elastic": lambda ws: total([0.5 * 0.3 * w.square().sum() + 0.1 * w.abs().sum() for w in ws]),
    "toward": lambda ws: 0.5 * 0.3 * total([(w - 1).square().sum() for w in ws]),
    "unknown": lambda ws: 0.3 * total([w.pow(4).sum() for w in ws]),
}


@pytest.mark.parametrize("kind", FORMS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e2))
def test_the_form_of_a_penalty_is_read_from_gradients(kind: str, seed: int, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights = [torch.nn.Parameter(scale * torch.randn(shape, generator=draw)) for shape in ((4, 3, 3), (5, 2), (2, 6))]
    gradients = torch.autograd.grad(FORMS[kind]([*weights]), weights, create_graph=True)
    curvatures = torch.autograd.grad(
        gradients, weights, [w.detach() for w in weights], allow_unused=True, materialize_grads=True
    )
    named = {str(index): parts for index, parts in enumerate(zip(weights, gradients, curvatures, strict=True))}
    possible = {name: possible_forms(w, g, h) for name, (w, g, h) in named.items()}
    forms = settle_forms(possible, {name: float(w.detach().norm()) for name, (w, _, _) in named.items()})
    assert {form.kind for form in forms.values()} == {kind}
    if kind != "unknown":
        assert all(form.coefficient == pytest.approx(0.3, rel=2e-3) for form in forms.values())


@pytest.mark.parametrize("kind", ["squared", "norm", "l1", "row_norm"])
def test_without_second_derivatives_tensors_are_compared(kind: str) -> None:
    draw = torch.Generator().manual_seed(1)
    weights = {str(side): torch.randn(side, 3, generator=draw).requires_grad_() for side in (2, 5, 9)}
    gradients = torch.autograd.grad(FORMS[kind]([*weights.values()]), [*weights.values()])
    possible = {name: possible_forms(w, g, None) for (name, w), g in zip(weights.items(), gradients, strict=True)}
    forms = settle_forms(possible, {name: float(w.detach().norm()) for name, w in weights.items()})
    assert {form.kind for form in forms.values()} == {kind}


def test_gains_of_one_are_read_as_the_other_tensors_are() -> None:
    weight, gain = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.ones(4)
    l1 = {name: possible_forms(w, w.sign(), torch.zeros_like(w)) for name, w in (("w", weight), ("gain", gain))}
    assert set(l1["gain"]) == {"norm", "l1"}
    assert settle_forms(l1, {"w": float(weight.norm()), "gain": 2.0})["gain"].kind == "l1"


def test_half_precision_weights_are_read_with_its_own_tolerance() -> None:
    net = small_net().to(torch.bfloat16)
    found = probe(lambda o, t: cross_entropy(o, t) + 5e-4 * total([p.square().sum() for p in net.parameters()]), net)
    assert found.loss.forms["0.weight"].kind == "squared"
    assert found.loss.forms["0.weight"].coefficient == pytest.approx(1e-3, rel=0.02)


def test_a_loss_without_penalty_reaches_nothing() -> None:
    found = probe(cross_entropy, small_net())
    assert (found.loss.status, dict(found.loss.forms)) == ("examined", {})
    assert found.loss.reason == "output (2, 2, 16, 16), target (2, 16, 16) of class indices"


@pytest.mark.parametrize(
    ("loss", "outputs", "shape"),
    [
        (binary_cross_entropy_with_logits, 1, "output (2, 1, 16, 16), target (2, 1, 16, 16) of 0 and 1"),
        (mse_loss, 3, "output (2, 3, 16, 16), target (2, 3, 16, 16) of 0 and 1"),
        (nn.BCELoss(), 1, "output (2, 1, 16, 16) between 0 and 1, target (2, 1, 16, 16) of 0 and 1"),
        (nn.MultiMarginLoss(), 3, "output (2, 3), target (2,) of class indices"),
    ],
)
def test_usual_losses_are_called_with_what_they_take(loss: Loss, outputs: int, shape: str) -> None:
    assert probe(loss, small_net(outputs)).loss.reason == shape


def test_an_unusual_loss_is_examined_with_the_shapes_that_are_given() -> None:
    net = small_net()

    def loss(output: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        value = cross_entropy(output["out"], target["mask"]) + mse_loss(output["aux"], target["depth"])
        return {"loss": value + 1e-3 * total([p.square().sum() for p in net[3].parameters()])}

    assert probe(loss, net).loss.status == "not examined"
    found = probe(
        loss,
        net,
        output={"out": (2, 5, 4, 4), "aux": (2, 4, 4)},
        target={"mask": (2, 4, 4), "depth": torch.ones(2, 4, 4)},
    )
    assert found.loss.status == "examined"
    assert found.loss.forms.keys() == {"3.weight", "3.bias"}


@pytest.mark.parametrize(
    "loss",
    [
        lambda _output, _target: 1.0,
        lambda _output, _target: torch.tensor(1.0),
        lambda _output: _output.mean(),
        lambda _output, _target, _weights: _output.mean(),
        lambda _output, _target: 1 / 0,
    ],
    ids=["a number", "no gradient", "one argument", "three arguments", "raises"],
)
def test_a_loss_that_cannot_be_probed_is_not_examined_and_not_clean(loss: Loss) -> None:
    found = probe(loss, small_net())
    assert found.loss.status == "not examined"
    assert found.codes("doubtful") == ("loss_not_examined",)
    assert "no_decay" not in found.codes()
    assert "output (2, 2, 16, 16), target (2, 16, 16)" in found.findings[0].message


def test_a_model_without_values_is_not_examined() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    found = probe(cross_entropy, net)
    assert found.loss.status == "not examined"
    assert "meta" in found.loss.reason


def test_a_loss_that_calls_the_model_is_recognised_before_the_model_runs() -> None:
    net = small_net()
    images = torch.randn(2, 3, 8, 8)

    def loss(_output: Tensor, target: Tensor) -> Tensor:
        scores = net(images)
        return cross_entropy(scores, target[:, :6, :6])

    found = probe(loss, net)
    assert found.loss.reason == "the loss calls the model itself (Sequential)"
    assert found.codes("wrong") == ()
    assert int(net[1].num_batches_tracked) == 0  # type: ignore[arg-type]
    net(images)
    assert int(net[1].num_batches_tracked) == 1  # type: ignore[arg-type]


def test_a_loss_that_calls_a_part_and_hides_the_error_is_recognised_too() -> None:
    net = small_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        try:
            net[0](torch.zeros(1, 3, 8, 8))
        except Exception:  # noqa: BLE001 - the point of the test
            return cross_entropy(output, target)
        return output.mean()

    assert probe(loss, net).loss.reason == "the loss calls the model itself (Conv2d)"


class Margin(nn.Module):
    """A loss with a matrix of its own, which the model may hold too."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(self.layer(output) * self.temperature, target)


def test_parameters_that_the_loss_owns_are_recognised_and_not_flagged() -> None:
    net = small_net()
    shared = Margin(nn.Conv2d(2, 2, 1))
    net.append(shared.layer)
    found = probe(shared, net)
    assert found.loss.status == "examined"
    assert found.loss.owned == ("4.bias", "4.weight")
    assert (dict(found.loss.forms), found.codes("wrong")) == ({}, ())
    optimizer = torch.optim.SGD([*net.parameters(), shared.temperature], lr=0.1)
    assert "strangers" not in audit(net, optimizer, shared).codes()
    assert "strangers" in audit(net, optimizer, cross_entropy).codes()


def test_a_penalty_on_a_part_that_the_loss_holds_is_still_seen() -> None:
    class Penalised(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return cross_entropy(output, target) + 0.1 * total([p.norm() for p in self.part.parameters()])

    net = small_net()
    assert "norm_not_squared" in probe(Penalised(net[0]), net).codes("wrong")


def test_a_criterion_inside_the_model_may_run() -> None:
    net = small_net()
    criterion = nn.CrossEntropyLoss()
    net.add_module("criterion", criterion)
    assert probe(criterion, net).loss.status == "examined"


def test_zero_biases_are_unknown_and_not_spared() -> None:
    net = small_net()
    nn.init.zeros_(net[0].bias)  # type: ignore[arg-type]
    found = probe(lambda o, t: cross_entropy(o, t) + 0.1 * total([p.norm() for p in net.parameters()]), net)
    row = {row.name: row for row in found.rows}["0.bias"]
    assert row.is_unknown
    assert not row.is_decayed
    apart = probe(lambda o, t: cross_entropy(o, t) + 0.1 * net[3].weight.norm(), net)  # type: ignore[operator]
    assert not {row.name: row for row in apart.rows}["0.bias"].is_unknown


def test_counting_running_statistics_is_told() -> None:
    net = small_net()
    found = probe(lambda o, t: cross_entropy(o, t) + total([v.float().norm() for v in net.state_dict().values()]), net)
    (finding,) = [f for f in found.findings if f.code == "penalty_without_gradient"]
    assert len(finding.parameters) == 6
    assert "counts buffers: buffer 1.running_mean" in finding.message


def test_a_loss_that_only_logs_norms_is_clean() -> None:
    net = small_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            total([p.norm() for p in net.parameters()])
        return cross_entropy(output, target)

    assert probe(loss, net).codes() == ("no_decay",)


# --- nothing is changed -----------------------------------------------------------------------------------------------


def everything(net: nn.Module) -> list[Any]:
    state: list[Any] = [(name, value.clone()) for name, value in net.state_dict().items()]
    state += [(name, p.grad, None if p.grad is None else p.grad.clone()) for name, p in net.named_parameters()]
    state += [module.training for module in net.modules()]
    state += [p.requires_grad for p in net.parameters()]
    return [*state, torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index]  # noqa: NPY002


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, list | tuple):
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    else:
        assert before == after


def wild(net: nn.Sequential, *, fails: bool) -> Loss:
    """A loss that changes all it can reach."""
    first, norm, last = net[0], net[1], net[3]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        torch.randn(3)
        random.random()
        np.random.rand()  # noqa: NPY002
        net.train(mode=not net.training)
        assert norm.running_mean is not None
        norm.running_mean += 1
        norm.running_var = torch.full((4,), 7.0)
        first.weight.data.mul_(2)
        last.requires_grad_(requires_grad=False)
        torch.autograd.backward(first.weight.sum() * 3)
        if fails:
            raise KeyError("fails")
        return cross_entropy(output, target)

    return loss


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_an_audit_changes_no_weight_gradient_buffer_mode_or_random_state(*, fails: bool, training: bool) -> None:
    net = small_net().train(mode=training)
    net[0].eval()
    net[0].weight.grad = torch.ones(4, 3, 3, 3)
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=0.1)
    before, gradient = everything(net), net[0].weight.grad
    state = optimizer.state_dict()
    audit(net, optimizer, wild(net, fails=fails))
    assert_same(before, everything(net))
    assert net[0].weight.grad is gradient
    assert optimizer.state_dict() == state
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_an_interrupted_audit_changes_nothing_either() -> None:
    net = small_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        wild(net, fails=False)(output, target)
        raise KeyboardInterrupt

    before = everything(net)
    with pytest.raises(KeyboardInterrupt):
        probe(loss, net)
    assert_same(before, everything(net))
    net(torch.zeros(1, 3, 8, 8))  # and the model may be called again


def test_state_of_a_loss_module_is_left_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls: Tensor
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            return cross_entropy(output, target)

    loss = Counting()
    assert probe(loss, small_net()).loss.status == "examined"
    assert float(loss.calls) == 0


def test_an_audit_works_under_no_grad_and_inference_mode() -> None:
    net = small_net()
    penalised: Loss = lambda o, t: cross_entropy(o, t) + 0.1 * total([p.norm() for p in net.parameters()])  # noqa: E731
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert "norm_not_squared" in probe(penalised, net).codes("wrong")


def test_expanded_buffers_are_no_obstacle() -> None:
    net = small_net()
    net.register_buffer("grid", torch.zeros(1).expand(5))
    assert probe(cross_entropy, net).loss.status == "examined"


def test_a_loss_that_knows_its_batch_size_is_examined() -> None:
    net = small_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        penalty = 0.1 * total([p.norm() for p in net.parameters()])
        return cross_entropy(output.reshape(2, 2, 16, 16), target) + penalty

    assert probe(loss, net).codes("wrong") == ("norm_not_squared",)


def test_untouched_gives_back_nan_weights_too() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.fill_(float("nan"))
    with untouched(net):
        net.weight.data.zero_()
    assert bool(net.weight.isnan().all())


def test_a_loss_is_examined_where_the_first_weights_are_complex() -> None:
    net = nn.Module()
    net.spectral, net.out = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat)), nn.Conv2d(4, 2, 1)
    found = audit(net, torch.optim.AdamW(net.parameters(), weight_decay=0.0), nn.CrossEntropyLoss())
    assert found.loss.status == "examined"
    assert found.loss.forms == {}

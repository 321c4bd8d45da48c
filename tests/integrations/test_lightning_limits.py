"""Lightning's callback: total decay and timescale from its schedules, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import (
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from trainers import Net, make_net
from trainers_lightning import (
    Adversary,
    Module,
    Rates,
    adamw,
    decayed_adamw,
    fit,
    halves,
    loader,
    make_trainer,
    sgd,
    stairs,
)

from segdecay.decay import Strength, group_parameters, handle_of
from segdecay.errors import DecayError
from segdecay.integrations.lightning import LightningDecay

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]


# --- total decay and timescale ----------------------------------------------------------------------------------------


def warmup(model: nn.Module) -> Any:
    optimizer = sgd(model)
    parts = [LinearLR(optimizer, 0.1, total_iters=2), ExponentialLR(optimizer, 0.8)]
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": SequentialLR(optimizer, parts, [2]), "interval": "step"},
    }


def every_other_batch(model: nn.Module) -> Any:
    optimizer = sgd(model)
    return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.7), "interval": "step", "frequency": 2}]


def one_cycle(model: nn.Module) -> Any:
    optimizer = adamw(model)
    return [optimizer], [{"scheduler": OneCycleLR(optimizer, 0.05, total_steps=20), "interval": "step"}]


def two_schedules(model: nn.Module) -> Any:
    optimizer = sgd(model)
    first = {"scheduler": ExponentialLR(optimizer, 0.9), "interval": "step"}
    return [optimizer], [first, ExponentialLR(optimizer, 0.5)]


@pytest.mark.parametrize("build", [sgd, warmup, stairs, every_other_batch, one_cycle, two_schedules])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"max_steps": 7}, {"max_epochs": 3}])
def test_total_decay_is_reached_over_the_rates_that_the_fit_really_had(
    build: Callable[[Net], Any], options: dict[str, Any]
) -> None:
    decay, rates = LightningDecay("decoupled", strength=Strength.from_total_decay(0.2)), Rates()
    make_trainer(decay, rates, **{"max_epochs": 5, **options}).fit(Module(build), loader())
    assert decay.handles[0].strength * math.fsum(rates.seen) == pytest.approx(0.2, rel=1e-12)


def test_looking_ahead_leaves_the_real_schedule_alone() -> None:
    seen = []
    for target in ({"strength": 0.1}, {"strength": Strength.from_total_decay(0.2)}):
        rates = Rates()
        make_trainer(LightningDecay("decoupled", **target), rates, max_epochs=4).fit(Module(one_cycle), loader())
        seen.append(rates.seen)
    assert seen[0] == seen[1]


def test_a_schedule_that_refers_to_the_module_does_not_copy_it() -> None:
    class Curved(Module):
        def configure_optimizers(self) -> Any:
            optimizer = sgd(self.net)
            return [optimizer], [{"scheduler": LambdaLR(optimizer, self.curve), "interval": "step"}]

        def curve(self, step: int) -> float:
            return 1 / (1 + step)

        def __deepcopy__(self, memo: dict[int, Any]) -> Curved:
            raise AssertionError("copied")

    decay, rates = LightningDecay("l2", strength=Strength.from_total_decay(0.2)), Rates()
    make_trainer(decay, rates).fit(Curved(sgd), loader())
    assert decay.handles[0].strength * math.fsum(rates.seen) / (1 - 0.9) == pytest.approx(0.2)


def test_a_timescale_counts_optimizer_steps_an_epoch_at_the_peak_rate() -> None:
    decay = LightningDecay("decoupled", strength=Strength.from_timescale(5.0))
    fit(decay, stairs, accumulate_grad_batches=2)
    assert decay.handles[0].strength == pytest.approx(1 / (0.1 * 2 * 5.0))


def test_the_options_of_a_regularizer_decide_what_its_total_decay_means() -> None:
    decay, rates = (
        LightningDecay("l2_sp", strength=Strength.from_total_decay(0.2), options={"mode": "decoupled"}),
        Rates(),
    )
    make_trainer(decay, rates).fit(Module(stairs), loader())
    assert decay.handles[0].strength * math.fsum(rates.seen) == pytest.approx(0.2)


def test_bounds_are_held_with_their_options() -> None:
    bound, factor = (
        LightningDecay("max_norm", strength=Strength.from_axis(0.2)),
        LightningDecay("cpr", strength=Strength.from_axis(0.5), options={"kappa": "factor"}),
    )
    module = fit(bound, sgd)
    assert module.net.conv.weight.flatten(1).norm(dim=1).max().item() <= 0.2 * (1 + 1e-6)
    start = make_net().conv.weight.square().sum().item()
    assert fit(factor, sgd, max_epochs=10).net.conv.weight.square().sum().item() < start


def test_learning_rates_given_replace_those_looked_up() -> None:
    decay = LightningDecay("decoupled", strength=Strength.from_total_decay(0.2, learning_rates=[0.1] * 4))
    with pytest.warns(UserWarning, match="no rate is given for it"):  # the training takes more steps
        fit(decay, sgd)
    assert decay.handles[0].strength == pytest.approx(0.5)


# --- what does not fit ------------------------------------------------------------------------------------------------


def plateau(model: nn.Module) -> Any:
    optimizer = sgd(model)
    scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "loss", "strict": False}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def two_rates(model: Net) -> Optimizer:
    rest = [*model.norm.parameters(), *model.head.parameters()]
    groups: list[dict[str, Any]] = [{"params": model.conv.parameters(), "lr": 0.01}, {"params": rest}]
    return SGD(groups, lr=0.1)


@pytest.mark.parametrize(
    ("build", "options", "said"),
    [
        (plateau, {}, r"ReduceLROnPlateau follows a metric.*learning_rates=\["),
        (two_rates, {}, r"different learning rates \(0.01, 0.1\).*learning_rates=\["),
        (sgd, {"max_epochs": -1, "limit_train_batches": 2}, r"no end.*learning_rates=\["),
    ],
)
def test_rates_that_cannot_be_known_are_asked_for(
    build: Callable[[Net], Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DecayError, match=said):
        fit(LightningDecay("decoupled", strength=Strength.from_total_decay(0.2)), build, **options)


def test_a_module_that_steps_schedules_itself_is_asked_for_the_rates() -> None:
    class UserFunction(Module):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            del metric
            scheduler.step()

    with pytest.raises(DecayError, match=r"UserFunction overrides lr_scheduler_step.*learning_rates=\["):
        make_trainer(LightningDecay("decoupled", strength=Strength.from_total_decay(0.2))).fit(
            UserFunction(stairs), loader()
        )


def test_manual_optimization_is_asked_for_the_rates_and_for_steps_an_epoch() -> None:
    with pytest.raises(DecayError, match=r"Optimizer 1 of 2 \(SGD\): With manual optimization.*learning_rates=\["):
        make_trainer(LightningDecay("decoupled", strength=Strength.from_total_decay(0.2))).fit(
            Adversary(halves), loader()
        )
    given = LightningDecay("decoupled", strength=Strength.from_timescale(2.0, learning_rates=[0.1]))
    one = Adversary(sgd)
    with pytest.raises(DecayError, match=r"manual optimization.*steps_per_epoch="):
        make_trainer(given).fit(one, loader())


def test_rates_of_one_optimizer_are_refused_for_two() -> None:
    decay = LightningDecay("decoupled", strength=Strength.from_total_decay(0.2, learning_rates=[0.1]))
    with pytest.raises(DecayError, match="learning_rates are of one optimizer, and this trainer has 2"):
        make_trainer(decay).fit(Adversary(halves), loader())


def test_optimizers_that_share_parameters_are_refused_by_name_and_none_is_attached() -> None:
    held: list[Optimizer] = []

    def build(model: Net) -> list[Optimizer]:
        held.extend([SGD(model.parameters(), lr=0.1), SGD(model.head.parameters(), lr=0.1)])
        return held

    with pytest.raises(DecayError, match=r"2 parameters are in more than one optimizer.*net\.head\.weight"):
        make_trainer(LightningDecay("l2", strength=0.1)).fit(Adversary(build), loader())
    assert [handle_of(one) for one in held] == [None, None]


def test_a_refused_second_optimizer_is_named_and_the_first_is_let_go() -> None:
    held: list[Optimizer] = []

    def build(model: Net) -> list[Optimizer]:
        held.extend([SGD(model.conv.parameters(), lr=0.1), LBFGS(model.head.parameters())])
        return held

    with pytest.raises(DecayError, match=r"Optimizer 2 of 2 \(LBFGS\): LBFGS is refused"):
        make_trainer(LightningDecay("l2", strength=0.1)).fit(Adversary(build), loader())
    assert handle_of(held[0]) is None


def test_decay_of_the_optimizer_itself_is_refused_without_take_over() -> None:
    with pytest.raises(DecayError, match=r"AdamW decays already: weight_decay = 0\.3.*take_over=True"):
        fit(LightningDecay("decoupled", strength=0.1), decayed_adamw)


def test_a_partition_of_a_part_is_refused_and_one_of_the_module_is_taken() -> None:
    module = Module(adamw)
    part = LightningDecay("decoupled", strength=0.1, partition=group_parameters(module.net))
    with pytest.raises(DecayError, match="The partition is not of this model"):
        make_trainer(part).fit(module, loader())
    whole = LightningDecay(
        "decoupled", strength=0.1, partition=group_parameters(module, rules={"net.conv.*": "norm"}, head="net.head")
    )
    make_trainer(whole).fit(module, loader())
    assert whole.handles[0].strengths()["net.conv.weight"] is None


def test_an_optimizer_replaced_after_the_start_is_not_left_without_decay_in_silence() -> None:
    class Replacing(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, Module)
            trainer.strategy.optimizers = [sgd(pl_module.net)]

    with pytest.raises(DecayError, match=r"replaced after decay was attached \(SGD\)"):
        make_trainer(LightningDecay("l2", strength=0.1), Replacing()).fit(Module(sgd), loader())


def test_a_checkpoint_of_another_number_of_optimizers_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(LightningDecay("l2", strength=0.1))
    trainer.fit(Module(sgd), loader())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(DecayError, match="decay for 1 optimizers, this trainer has 2"):
        make_trainer(LightningDecay("l2", strength=0.1)).fit(
            Adversary(halves), loader(), ckpt_path=tmp_path / "one.ckpt"
        )

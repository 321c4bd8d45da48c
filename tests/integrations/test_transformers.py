"""transformers' callback against torch's own decay, bit for bit, through accelerate's wrapped step."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from trainers import decayed_groups, make_net, same, train_plainly
from trainers_transformers import Endless, Rates, StopAt, adamw, make_trainer, sgd, trained
from transformers import Trainer, TrainerCallback

from segdecay.decay import Strength, group_parameters, handle_of
from segdecay.decay.regularizers.base import bare_optimizer
from segdecay.errors import DecayError
from segdecay.integrations.transformers import TransformersDecay

pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")


# --- equal to torch's own decay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("regularizer", "build", "build_user_model"),
    [
        ("l2", sgd, lambda groups: SGD(groups, lr=0.1, momentum=0.9)),
        ("decoupled", adamw, lambda groups: AdamW(groups, lr=0.01)),
    ],
)
def test_training_equals_torchs_own_weight_decay_bit_for_bit(
    tmp_path: Path, regularizer: str, build: Any, build_user_model: Any, clip: float, accumulate: int
) -> None:
    decay = TransformersDecay(regularizer, strength=0.1)
    trainer = make_trainer(tmp_path, decay, build=build, max_grad_norm=clip, gradient_accumulation_steps=accumulate)
    net = trained(trainer)
    own = make_trainer(
        tmp_path,
        build=lambda model: build_user_model(decayed_groups(model, 0.1)),
        max_grad_norm=clip,
        gradient_accumulation_steps=accumulate,
    )
    assert same(net, trained(own))
    assert decay.handles[0].steps == (6 if accumulate == 1 else 4)


def test_a_plain_loop_gives_the_same_weights(tmp_path: Path) -> None:
    net = trained(make_trainer(tmp_path, TransformersDecay("l2", strength=0.1), build=sgd, max_grad_norm=0.05))
    plain = make_net()
    train_plainly(plain, SGD(decayed_groups(plain, 0.1), lr=0.1, momentum=0.9), clip=0.05)
    assert same(net, plain)


def test_the_optimizer_that_the_trainer_makes_itself_is_found(tmp_path: Path) -> None:
    decay = TransformersDecay("decoupled", strength=0.1)
    net = trained(make_trainer(tmp_path, decay))
    own = make_trainer(tmp_path, build=lambda model: AdamW(decayed_groups(model, 0.1), lr=0.01, fused=True))
    assert decay.handles[0].steps == 6
    assert same(net, trained(own))
    assert not same(net, trained(make_trainer(tmp_path)))


def test_bf16_equals_a_plain_loop_under_autocast(tmp_path: Path) -> None:
    net = trained(make_trainer(tmp_path, TransformersDecay("decoupled", strength=0.5), build=adamw, bf16=True))
    plain = make_net()
    precision = partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=True)
    train_plainly(plain, AdamW(decayed_groups(plain, 0.5), lr=0.01), precision=precision)
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


# --- resuming and detaching -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "rebuilt"),
    [
        ({"strength": 2.0}, True),
        ({"strength": Strength.from_total_decay(0.3)}, False),
        ({"strength": Strength.from_timescale(20.0)}, True),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, target: dict[str, Any], rebuilt: bool) -> None:
    settings: dict[str, Any] = {"lr_scheduler_type": "cosine", "num_train_epochs": 4, "weight_decay": 0.3}
    whole = TransformersDecay("decoupled", take_over=True, **target)
    unbroken = trained(make_trainer(tmp_path / "whole", whole, **settings))
    cut = make_trainer(
        tmp_path / "cut", TransformersDecay("decoupled", take_over=True, **target), StopAt(5), **settings
    )
    assert not same(trained(cut), unbroken)
    second = TransformersDecay("decoupled", take_over=True, **target)
    settings["restore_callback_states_from_checkpoint"] = rebuilt
    trainer = make_trainer(tmp_path / "moved", second, **settings)
    (tmp_path / "cut" / "checkpoint-5").rename(tmp_path / "elsewhere")
    resumed = trained(trainer, resume_from_checkpoint=str(tmp_path / "elsewhere"))
    assert same(resumed, unbroken)
    used = [one for one in trainer.callback_handler.callbacks if isinstance(one, TransformersDecay)]
    assert used[0].handles[0].steps == whole.handles[0].steps == 12
    assert used[0].handles[0].strength == whole.handles[0].strength
    assert trainer.optimizer is not None
    decays = {group["weight_decay"] for group in bare_optimizer(trainer.optimizer).param_groups}
    assert decays == {0.3, 0.0}


def test_the_strength_of_the_checkpoint_is_used_and_another_one_asked_for_is_named(tmp_path: Path) -> None:
    trained(make_trainer(tmp_path, TransformersDecay("decoupled", strength=1.0), StopAt(3)))
    decay = TransformersDecay("decoupled", strength=2.0)
    with pytest.warns(UserWarning, match="checkpoint's strength 1 is used, not the 2 asked for"):
        trained(make_trainer(tmp_path, decay), resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert decay.handles[0].strength == 1.0


def test_a_checkpoint_without_decay_can_be_resumed_with_it(tmp_path: Path) -> None:
    trained(make_trainer(tmp_path, StopAt(4)))
    decay = TransformersDecay("decoupled", strength=Strength.from_total_decay(0.1))
    trained(make_trainer(tmp_path, decay), resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert decay.handles[0].steps == 2
    assert decay.handles[0].strength == pytest.approx(0.1 / (2 * 0.01))


def test_a_partition_is_kept_on_resuming_and_refused_where_the_trainer_would_lose_it(tmp_path: Path) -> None:
    def start(folder: Path, **options: Any) -> tuple[Trainer, TransformersDecay]:
        trainer = make_trainer(folder, **options)
        assert trainer.model is not None
        decay = TransformersDecay("decoupled", strength=0.1, partition=group_parameters(trainer.model, head="net.conv"))
        trainer.add_callback(decay)
        return trainer, decay

    trainer, _ = start(tmp_path)
    trainer.add_callback(StopAt(3))
    trained(trainer)
    checkpoint = str(tmp_path / "checkpoint-3")
    trainer, decay = start(tmp_path)
    trained(trainer, resume_from_checkpoint=checkpoint)
    assert decay.handles[0].steps == 6
    trainer, _ = start(tmp_path, restore_callback_states_from_checkpoint=True)
    with pytest.raises(DecayError, match=r"cannot hold partition\. Leave it False"):
        trained(trainer, resume_from_checkpoint=checkpoint)


def test_the_state_in_a_checkpoint_is_plain_json(tmp_path: Path) -> None:
    trained(make_trainer(tmp_path, TransformersDecay("decoupled", strength=0.1), StopAt(3)))
    text = (tmp_path / "checkpoint-3" / "trainer_state.json").read_text(encoding="utf-8")
    (handle,) = json.loads(text)["stateful_callbacks"]["TransformersDecay"]["attributes"]["checkpointed"]["handles"]
    assert (handle["regularizer"], handle["strength"], handle["steps"]) == ("decoupled", 0.1, 3)


def test_after_training_the_optimizer_is_as_it_was_and_can_be_trained_again(tmp_path: Path) -> None:
    decay = TransformersDecay("decoupled", strength=0.1, take_over=True)
    trainer = make_trainer(tmp_path, decay, weight_decay=0.3)
    for _ in range(2):
        trainer.train()
        assert trainer.optimizer is not None
        assert decay.handles[0].steps == 6
        assert not decay.handles[0].is_attached()
        assert handle_of(trainer.optimizer) is None
        assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.3, 0.0}


def test_training_that_raised_is_followed_by_training_that_works(tmp_path: Path) -> None:
    class Breaking(TrainerCallback):
        broken = True

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if self.broken and state.global_step == 2:
                raise ValueError("broken")

    decay, breaking = TransformersDecay("decoupled", strength=0.1), Breaking()
    trainer = make_trainer(tmp_path, decay, breaking)
    with pytest.raises(ValueError, match="broken"):
        trainer.train()
    assert decay.handles[0].is_attached()
    decay.detach()
    assert trainer.optimizer is not None
    assert handle_of(trainer.optimizer) is None
    breaking.broken = False
    trainer.train()
    assert decay.handles[0].steps == 6


# --- total decay and timescale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_scheduler_type": "cosine", "warmup_steps": 3},
        {"lr_scheduler_type": "polynomial", "gradient_accumulation_steps": 2},
        {"lr_scheduler_type": "linear", "max_steps": 7},
        {"build": sgd, "schedule": partial(ExponentialLR, gamma=0.8)},
        {"lr_scheduler_type": "linear", "max_steps": 7, "data": Endless()},
    ],
)
def test_total_decay_is_reached_over_the_rates_that_training_really_had(tmp_path: Path, options: Any) -> None:
    decay, rates = TransformersDecay("decoupled", strength=Strength.from_total_decay(0.05)), Rates()
    make_trainer(tmp_path, decay, rates, **options).train()
    assert decay.handles[0].strength * math.fsum(rates.seen) == pytest.approx(0.05, rel=1e-12)
    plain = Rates()
    make_trainer(tmp_path, plain, **options).train()
    assert plain.seen == rates.seen


def test_the_options_of_a_regularizer_decide_what_its_total_decay_means(tmp_path: Path) -> None:
    decay, rates = (
        TransformersDecay("l2_sp", strength=Strength.from_total_decay(0.2), options={"mode": "decoupled"}),
        Rates(),
    )
    make_trainer(tmp_path, decay, rates, build=sgd, schedule=partial(ExponentialLR, gamma=0.8)).train()
    assert decay.handles[0].strength * math.fsum(rates.seen) == pytest.approx(0.2)


def test_bounds_are_held_with_their_options(tmp_path: Path) -> None:
    net = trained(make_trainer(tmp_path, TransformersDecay("max_norm", strength=Strength.from_axis(0.2)), build=sgd))
    assert net.conv.weight.flatten(1).norm(dim=1).max().item() <= 0.2 * (1 + 1e-6)
    factor = make_trainer(
        tmp_path, TransformersDecay("cpr", strength=Strength.from_axis(0.5), options={"kappa": "factor"}), build=sgd
    )
    start = make_net().conv.weight.square().sum().item()
    assert trained(factor).conv.weight.square().sum().item() < start


def test_a_timescale_counts_optimizer_steps_an_epoch_at_the_peak_rate(tmp_path: Path) -> None:
    decay = TransformersDecay("decoupled", strength=Strength.from_timescale(5.0))
    make_trainer(tmp_path, decay, lr_scheduler_type="cosine", gradient_accumulation_steps=2).train()
    assert decay.handles[0].strength == pytest.approx(1 / (0.01 * 2 * 5.0))


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_a_schedule_that_follows_a_metric_is_asked_for_its_rates(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        TransformersDecay("decoupled", strength=Strength.from_total_decay(0.1)),
        build=adamw,
        schedule=ReduceLROnPlateau,
    )
    with pytest.raises(DecayError, match=r"ReduceLROnPlateau follows a metric.*learning_rates=\["):
        trainer.train()


def test_data_without_a_length_is_asked_for_steps_an_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, TransformersDecay("decoupled", strength=Strength.from_timescale(5.0)), max_steps=4, data=Endless()
    )
    with pytest.raises(DecayError, match=r"no length.*steps_per_epoch="):
        trainer.train()


def test_a_scheduler_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    stranger = ExponentialLR(sgd(nn.Linear(1, 1)), 0.9)
    trainer = make_trainer(
        tmp_path,
        TransformersDecay("decoupled", strength=Strength.from_total_decay(0.1)),
        build=adamw,
        schedule=lambda _: stranger,
    )
    with pytest.raises(DecayError, match="ExponentialLR is not a scheduler of the trainer's optimizer"):
        trainer.train()


def test_decay_in_the_training_arguments_is_refused_without_take_over(tmp_path: Path) -> None:
    with pytest.raises(DecayError, match=r"AdamW decays already: weight_decay = 0\.3.*take_over=True"):
        make_trainer(tmp_path, TransformersDecay("decoupled", strength=0.1), weight_decay=0.3).train()

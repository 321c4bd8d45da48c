"""Lightning's callback against plain torch loops: the same weights, bit for bit, in every way Lightning steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader
from trainers import (
    Batch,
    BuildOptimizer,
    Net,
    decayed_groups,
    make_batches,
    make_net,
    same,
    train_plainly,
)

from segdecay.decay import group_parameters, handle_of
from segdecay.errors import DecayError
from segdecay.integrations.lightning import Decay

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]


class Module(LightningModule):
    def __init__(self, build: Callable[[nn.Module], Any], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = make_net() if net is None else net
        self.build = build

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        images, masks = batch
        logits = self.net(images.to(next(self.net.parameters()).dtype) if images.dtype != torch.float64 else images)
        return F.cross_entropy(logits, masks)

    def configure_optimizers(self) -> Any:
        return self.build(self.net)


class Adversary(Module):
    """Two optimizers, stepped by hand, the first with a closure."""

    automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # type: ignore[override]
        first, second = self.optimizers()  # type: ignore[misc, unused-ignore]

        def closure() -> Tensor:
            first.zero_grad()
            loss = super(Adversary, self).training_step(batch, batch_idx)
            self.manual_backward(loss)
            return loss

        first.step(closure=closure)
        second.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        second.step()
        return loss


class Rates(Callback):
    """The learning rate of every optimizer step, as it was."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        del trainer, pl_module
        self.seen.append(float(optimizer.param_groups[0]["lr"]))


def loader() -> DataLoader[Batch]:
    return DataLoader(make_batches(), batch_size=None)  # type: ignore[arg-type]


def make_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False}
    settings |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(callbacks=list(callbacks), **{**settings, **options})


def fit(decay: Decay, build: Callable[[nn.Module], Any], **options: Any) -> Module:
    module = Module(build)
    make_trainer(decay, **options).fit(module, loader())
    return module


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.0)


def halves(model: nn.Module) -> list[Optimizer]:
    assert isinstance(model, Net)
    rest = [*model.norm.parameters(), *model.head.parameters()]
    return [SGD(model.conv.parameters(), lr=0.1), AdamW(rest, lr=0.01, weight_decay=0.0)]


# --- equal to torch's own decay ---------------------------------------------------------------------------------------

TORCH: dict[str, tuple[BuildOptimizer, Callable[[list[dict[str, Any]]], Optimizer]]] = {
    "l2": (sgd, lambda groups: SGD(groups, lr=0.1, momentum=0.9)),
    "decoupled": (adamw, lambda groups: AdamW(groups, lr=0.01)),
}


@pytest.mark.parametrize("policy", TORCH)
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fit_equals_torchs_own_weight_decay_bit_for_bit(policy: str, clip: float | None, accumulate: int) -> None:
    build, build_own = TORCH[policy]
    decay = Decay(policy, strength=0.1)
    module = fit(decay, build, gradient_clip_val=clip, accumulate_grad_batches=accumulate)
    plain = make_net()
    steps = train_plainly(plain, build_own(decayed_groups(plain, 0.1)), clip=clip, accumulate=accumulate)
    assert same(module.net, plain)
    assert decay.handles[0].steps == steps


def test_clipping_before_and_not_after_the_penalty_is_what_the_oracle_tells_apart() -> None:
    plain, late = make_net(), make_net()
    for net, strength in ((plain, 0.1), (late, 0.0)):
        train_plainly(net, SGD(decayed_groups(net, strength), lr=0.1, momentum=0.9), clip=0.05)
    assert not same(plain, late)


@pytest.mark.parametrize(
    ("precision", "dtype", "context"),
    [
        ("bf16-mixed", torch.float32, partial(torch.autocast, "cpu", torch.bfloat16)),
        ("bf16-true", torch.bfloat16, None),
        ("64-true", torch.float64, None),
    ],
)
def test_other_precisions_equal_a_plain_loop_in_the_same_precision(
    precision: str, dtype: torch.dtype, context: Any
) -> None:
    decay = Decay("decoupled", strength=0.5)
    module = fit(decay, adamw, precision=precision)
    plain = make_net().to(dtype)
    options = {} if context is None else {"precision": context}
    train_plainly(plain, AdamW(decayed_groups(plain, 0.5), lr=0.01), dtype=dtype, **options)
    bare = make_net().to(dtype)
    train_plainly(bare, adamw(bare), dtype=dtype, **options)
    assert same(module.net, plain)
    assert not same(module.net, bare)


def test_two_optimizers_stepped_by_hand_each_get_the_policy() -> None:
    decay = Decay("decoupled", strength=0.1)
    module = Adversary(halves)
    make_trainer(decay).fit(module, loader())
    plain = make_net()
    first = SGD(plain.conv.parameters(), lr=0.1)
    rest = [
        {"params": [plain.head.weight], "weight_decay": 0.1},
        {"params": [*plain.norm.parameters(), plain.head.bias], "weight_decay": 0.0},
    ]
    second = AdamW(rest, lr=0.01)
    for images, masks in make_batches() * 2:
        for optimizer in (first, second):
            optimizer.zero_grad()
            F.cross_entropy(plain(images), masks).backward()
            if optimizer is first:
                plain.conv.weight.data.mul_(1 - 0.1 * 0.1)
            optimizer.step()
    assert [handle.steps for handle in decay.handles] == [6, 6]
    torch.testing.assert_close(module.net.conv.weight, plain.conv.weight)
    torch.testing.assert_close(module.net.head.weight, plain.head.weight)


def test_a_compiled_part_is_grouped_under_its_bare_names() -> None:
    module = Module(adamw, torch.compile(make_net(), backend="eager"))  # type: ignore[arg-type]
    decay = Decay("decoupled", strength=0.1)
    make_trainer(decay).fit(module, loader())
    plain = make_net()
    train_plainly(plain, AdamW(decayed_groups(plain, 0.1), lr=0.01))
    assert "net.head.weight" in decay.handles[0].strengths()
    assert same(module.net, plain)


def test_a_module_wrapped_for_ddp_is_grouped_bare() -> None:
    decay = Decay("decoupled", strength=0.1)
    module = fit(decay, adamw, strategy="ddp")
    own = Module(lambda net: AdamW(decayed_groups(net, 0.1), lr=0.01))
    make_trainer(strategy="ddp").fit(own, loader())
    assert "net.head.weight" in decay.handles[0].strengths()
    assert same(module.net, own.net)


@pytest.mark.filterwarnings("ignore:.*pkg_resources.*")
def test_the_callback_works_in_a_pytorch_lightning_trainer() -> None:
    class Elsewhere(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            del batch_idx
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = adamw(self.net)
            return [optimizer], [CosineAnnealingLR(optimizer, 2)]

    decay, module = Decay("decoupled", total_decay=0.5), Elsewhere()
    pytorch_lightning.Trainer(
        callbacks=[decay],  # type: ignore[list-item]
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, loader())
    assert decay.handles[0].steps == 6
    assert decay.handles[0].strength == pytest.approx(0.5 / (3 * 0.01 + 3 * 0.005))


# --- resuming and detaching -------------------------------------------------------------------------------------------


def decayed_adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.01, weight_decay=0.3)


def cosine(model: nn.Module) -> Any:
    optimizer = decayed_adamw(model)
    return [optimizer], [CosineAnnealingLR(optimizer, 4)]


@pytest.mark.parametrize("target", [{"strength": 2.0}, {"total_decay": 0.3}, {"timescale_epochs": 20.0}])
def test_a_resumed_fit_equals_an_unbroken_one(tmp_path: Path, target: dict[str, float]) -> None:
    whole = Decay("decoupled", take_over=True, **target)
    unbroken = fit(whole, cosine, max_epochs=4)
    path = tmp_path / "half.ckpt"
    saving = ModelCheckpoint(tmp_path, filename="half", every_n_epochs=2, save_top_k=1)
    first = Decay("decoupled", take_over=True, **target)
    module = Module(cosine)
    stop = StopAfter(2)
    make_trainer(first, saving, stop, max_epochs=4, enable_checkpointing=True).fit(module, loader())
    assert path.exists()
    assert not same(module.net, unbroken.net)
    second, resumed = Decay("decoupled", take_over=True, **target), Module(cosine)
    trainer = make_trainer(second, max_epochs=4)
    trainer.fit(resumed, loader(), ckpt_path=path)
    assert same(resumed.net, unbroken.net)
    assert second.handles[0].steps == whole.handles[0].steps == 12
    assert second.handles[0].strength == whole.handles[0].strength
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.3


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


class Stronger(Callback):
    def __init__(self, decay: Decay) -> None:
        self.decay = decay

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        if trainer.current_epoch == 1:
            self.decay.handles[0].set_strength(4.0)


def test_the_strength_of_the_checkpoint_is_used_and_another_one_asked_for_is_named(tmp_path: Path) -> None:
    whole = Decay("decoupled", strength=1.0)
    unbroken = Module(adamw)
    make_trainer(whole, Stronger(whole), max_epochs=4).fit(unbroken, loader())
    first = Decay("decoupled", strength=1.0)
    trainer = make_trainer(first, Stronger(first), max_epochs=2)
    trainer.fit(Module(adamw), loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")  # after the end: the handles are detached and still saved
    second, resumed = Decay("decoupled", strength=1.0), Module(adamw)
    with pytest.warns(UserWarning, match="checkpoint's strength 4 is used, not the 1 asked for"):
        make_trainer(second, max_epochs=4).fit(resumed, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert same(resumed.net, unbroken.net)


def test_a_checkpoint_that_was_only_validated_is_not_resumed_from(tmp_path: Path) -> None:
    class Scored(Module):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            del batch, batch_idx

    first = Decay("decoupled", strength=4.0)
    trainer = make_trainer(first)
    trainer.fit(Scored(adamw), loader())
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    decay, module = Decay("decoupled", strength=1.0), Scored(adamw)
    trainer = make_trainer(decay)
    trainer.validate(module, loader(), ckpt_path=str(tmp_path / "old.ckpt"), verbose=False)
    trainer.fit(module, loader())
    assert decay.handles[0].strength == 1.0
    assert decay.handles[0].steps == 6


def test_after_a_fit_the_optimizer_is_as_it_was() -> None:
    optimizers: list[Optimizer] = []

    def build(model: nn.Module) -> Optimizer:
        optimizers.append(decayed_adamw(model))
        return optimizers[-1]

    decay = Decay("decoupled", strength=0.1, take_over=True)
    fit(decay, build)
    assert not decay.handles[0].is_attached()
    assert handle_of(optimizers[0]) is None
    assert optimizers[0].param_groups[0]["weight_decay"] == 0.3


def test_a_fit_that_raises_detaches_too_and_the_next_fit_attaches_anew() -> None:
    class Breaking(Module):
        broken = True

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            if self.broken and batch_idx == 1:
                raise ValueError("broken batch")
            return super().training_step(batch, batch_idx)

    held: list[Optimizer] = []
    decay = Decay("decoupled", strength=0.1, take_over=True)
    module = Breaking(lambda model: held[0] if held else (held.append(decayed_adamw(model)) or held[0]))  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="broken batch"):
        make_trainer(decay).fit(module, loader())
    assert handle_of(held[0]) is None
    assert held[0].param_groups[0]["weight_decay"] == 0.3
    module.broken = False
    make_trainer(decay).fit(module, loader())
    assert decay.handles[0].steps == 6


# --- total decay and timescale ----------------------------------------------------------------------------------------


def warmup(model: nn.Module) -> Any:
    optimizer = sgd(model)
    parts = [LinearLR(optimizer, 0.1, total_iters=2), ExponentialLR(optimizer, 0.8)]
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": SequentialLR(optimizer, parts, [2]), "interval": "step"}}


def stairs(model: nn.Module) -> Any:
    optimizer = sgd(model)
    return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.3), "interval": "epoch", "frequency": 2}]


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
    build: Callable[[nn.Module], Any], options: dict[str, Any]
) -> None:
    decay, rates = Decay("decoupled", total_decay=0.2), Rates()
    make_trainer(decay, rates, **{"max_epochs": 5, **options}).fit(Module(build), loader())
    assert decay.handles[0].strength * math.fsum(rates.seen) == pytest.approx(0.2, rel=1e-12)


def test_looking_ahead_leaves_the_real_schedule_alone() -> None:
    seen = []
    for target in ({"strength": 0.1}, {"total_decay": 0.2}):
        rates = Rates()
        make_trainer(Decay("decoupled", **target), rates, max_epochs=4).fit(Module(one_cycle), loader())
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

    decay, rates = Decay("l2", total_decay=0.2), Rates()
    make_trainer(decay, rates).fit(Curved(sgd), loader())
    assert decay.handles[0].strength * math.fsum(rates.seen) / (1 - 0.9) == pytest.approx(0.2)


def test_a_timescale_counts_optimizer_steps_an_epoch_at_the_peak_rate() -> None:
    decay = Decay("decoupled", timescale_epochs=5.0)
    fit(decay, stairs, accumulate_grad_batches=2)
    assert decay.handles[0].strength == pytest.approx(1 / (0.1 * 2 * 5.0))


def test_learning_rates_given_replace_those_looked_up() -> None:
    decay = Decay("decoupled", total_decay=0.2, learning_rates=[0.1] * 4)
    fit(decay, sgd)
    assert decay.handles[0].strength == pytest.approx(0.5)


# --- what does not fit ------------------------------------------------------------------------------------------------


def plateau(model: nn.Module) -> Any:
    optimizer = sgd(model)
    scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "loss", "strict": False}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def two_rates(model: nn.Module) -> Optimizer:
    assert isinstance(model, Net)
    rest = [*model.norm.parameters(), *model.head.parameters()]
    return SGD([{"params": model.conv.parameters(), "lr": 0.01}, {"params": rest}], lr=0.1)


@pytest.mark.parametrize(
    ("build", "options", "said"),
    [
        (plateau, {}, r"ReduceLROnPlateau follows a metric.*learning_rates=\["),
        (two_rates, {}, r"different learning rates \(0.01, 0.1\).*learning_rates=\["),
        (sgd, {"max_epochs": -1, "limit_train_batches": 2}, r"no end.*learning_rates=\["),
    ],
)
def test_rates_that_cannot_be_known_are_asked_for(
    build: Callable[[nn.Module], Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DecayError, match=said):
        fit(Decay("decoupled", total_decay=0.2), build, **options)


def test_a_module_that_steps_schedules_itself_is_asked_for_the_rates() -> None:
    class Own(Module):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            del metric
            scheduler.step()

    with pytest.raises(DecayError, match=r"Own overrides lr_scheduler_step.*learning_rates=\["):
        make_trainer(Decay("decoupled", total_decay=0.2)).fit(Own(stairs), loader())


def test_manual_optimization_is_asked_for_the_rates_and_for_steps_an_epoch() -> None:
    with pytest.raises(DecayError, match=r"Optimizer 1 of 2 \(SGD\): With manual optimization.*learning_rates=\["):
        make_trainer(Decay("decoupled", total_decay=0.2)).fit(Adversary(halves), loader())
    given = Decay("decoupled", timescale_epochs=2.0, learning_rates=[0.1])
    one = Adversary(sgd)
    with pytest.raises(DecayError, match="manual optimization.*steps_per_epoch="):
        make_trainer(given).fit(one, loader())


def test_rates_of_one_optimizer_are_refused_for_two() -> None:
    decay = Decay("decoupled", total_decay=0.2, learning_rates=[0.1])
    with pytest.raises(DecayError, match="learning_rates are of one optimizer, and this trainer has 2"):
        make_trainer(decay).fit(Adversary(halves), loader())


def test_optimizers_that_share_parameters_are_refused_by_name_and_none_is_attached() -> None:
    held: list[Optimizer] = []

    def build(model: nn.Module) -> list[Optimizer]:
        assert isinstance(model, Net)
        held.extend([SGD(model.parameters(), lr=0.1), SGD(model.head.parameters(), lr=0.1)])
        return held

    with pytest.raises(DecayError, match=r"2 parameters are in more than one optimizer.*net\.head\.weight"):
        make_trainer(Decay("l2", strength=0.1)).fit(Adversary(build), loader())
    assert [handle_of(one) for one in held] == [None, None]


def test_a_refused_second_optimizer_is_named_and_the_first_is_let_go() -> None:
    held: list[Optimizer] = []

    def build(model: nn.Module) -> list[Optimizer]:
        assert isinstance(model, Net)
        held.extend([SGD(model.conv.parameters(), lr=0.1), LBFGS(model.head.parameters())])
        return held

    with pytest.raises(DecayError, match=r"Optimizer 2 of 2 \(LBFGS\): LBFGS is refused"):
        make_trainer(Decay("l2", strength=0.1)).fit(Adversary(build), loader())
    assert handle_of(held[0]) is None


def test_decay_of_the_optimizer_itself_is_refused_without_take_over() -> None:
    with pytest.raises(DecayError, match=r"AdamW decays already: weight_decay = 0\.3.*take_over=True"):
        fit(Decay("decoupled", strength=0.1), decayed_adamw)


def test_a_partition_of_a_part_is_refused_and_one_of_the_module_is_taken() -> None:
    module = Module(adamw)
    part = Decay("decoupled", strength=0.1, partition=group_parameters(module.net))
    with pytest.raises(DecayError, match="The partition is not of this model"):
        make_trainer(part).fit(module, loader())
    whole = Decay(
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
        make_trainer(Decay("l2", strength=0.1), Replacing()).fit(Module(sgd), loader())


def test_a_checkpoint_of_another_number_of_optimizers_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(Decay("l2", strength=0.1))
    trainer.fit(Module(sgd), loader())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(DecayError, match="decay for 1 optimizers, this trainer has 2"):
        make_trainer(Decay("l2", strength=0.1)).fit(Adversary(halves), loader(), ckpt_path=tmp_path / "one.ckpt")

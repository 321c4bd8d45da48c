"""Lightning's callback against plain torch loops: the same weights, bit for bit, in every way Lightning steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from trainers import Batch, BuildOptimizer, Net, decayed_groups, make_batches, make_net, same, train_plainly
from trainers_lightning import Adversary, Module, adamw, decayed_adamw, fit, halves, loader, make_trainer, sgd

from segdecay.decay import Strength, handle_of
from segdecay.integrations.lightning import LightningDecay

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]


# --- equal to torch's own decay ---------------------------------------------------------------------------------------

TORCH: dict[str, tuple[BuildOptimizer, Callable[[list[dict[str, Any]]], Optimizer]]] = {
    "l2": (sgd, lambda groups: SGD(groups, lr=0.1, momentum=0.9)),
    "decoupled": (adamw, lambda groups: AdamW(groups, lr=0.01)),
}


@pytest.mark.parametrize("regularizer", TORCH)
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fit_equals_torchs_own_weight_decay_bit_for_bit(
    regularizer: str, clip: float | None, accumulate: int
) -> None:
    build, build_user_model = TORCH[regularizer]
    decay = LightningDecay(regularizer, strength=0.1)
    module = fit(decay, build, gradient_clip_val=clip, accumulate_grad_batches=accumulate)
    plain = make_net()
    steps = train_plainly(plain, build_user_model(decayed_groups(plain, 0.1)), clip=clip, accumulate=accumulate)
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
    decay = LightningDecay("decoupled", strength=0.5)
    module = fit(decay, adamw, precision=precision)
    plain = make_net().to(dtype)
    options = {} if context is None else {"precision": context}
    train_plainly(plain, AdamW(decayed_groups(plain, 0.5), lr=0.01), dtype=dtype, **options)
    bare = make_net().to(dtype)
    train_plainly(bare, adamw(bare), dtype=dtype, **options)
    assert same(module.net, plain)
    assert not same(module.net, bare)


def test_two_optimizers_stepped_by_hand_each_get_the_regularizer() -> None:
    decay = LightningDecay("decoupled", strength=0.1)
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
            torch.autograd.backward(F.cross_entropy(plain(images), masks))
            if optimizer is first:
                plain.conv.weight.data.mul_(1 - 0.1 * 0.1)
            optimizer.step()
    assert [handle.steps for handle in decay.handles] == [6, 6]
    torch.testing.assert_close(module.net.conv.weight, plain.conv.weight)
    torch.testing.assert_close(module.net.head.weight, plain.head.weight)


def test_a_compiled_part_is_grouped_under_its_bare_names() -> None:
    module = Module(adamw, cast("Net", torch.compile(make_net(), backend="eager")))
    decay = LightningDecay("decoupled", strength=0.1)
    make_trainer(decay).fit(module, loader())
    plain = make_net()
    train_plainly(plain, AdamW(decayed_groups(plain, 0.1), lr=0.01))
    assert "net.head.weight" in decay.handles[0].strengths()
    assert same(module.net, plain)


@pytest.fixture
def alone_again() -> Iterator[None]:
    """Takes back the process group and variables that DDP leaves: accelerate would find them and wrap its models."""
    with mock.patch.dict(os.environ):
        yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone_again")
def test_a_module_wrapped_for_ddp_is_grouped_bare() -> None:
    decay = LightningDecay("decoupled", strength=0.1)
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

    decay, module = LightningDecay("decoupled", strength=Strength.from_total_decay(0.5)), Elsewhere()
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


def cosine(model: nn.Module) -> Any:
    optimizer = decayed_adamw(model)
    return [optimizer], [CosineAnnealingLR(optimizer, 4)]


@pytest.mark.parametrize(
    "target",
    [{"strength": 2.0}, {"strength": Strength.from_total_decay(0.3)}, {"strength": Strength.from_timescale(20.0)}],
)
def test_a_resumed_fit_equals_an_unbroken_one(tmp_path: Path, target: dict[str, Any]) -> None:
    whole = LightningDecay("decoupled", take_over=True, **target)
    unbroken = fit(whole, cosine, max_epochs=4)
    path = tmp_path / "half.ckpt"
    saving = ModelCheckpoint(tmp_path, filename="half", every_n_epochs=2, save_top_k=1)
    first = LightningDecay("decoupled", take_over=True, **target)
    module = Module(cosine)
    stop = StopAfter(2)
    make_trainer(first, saving, stop, max_epochs=4, enable_checkpointing=True).fit(module, loader())
    assert path.exists()
    assert not same(module.net, unbroken.net)
    second, resumed = LightningDecay("decoupled", take_over=True, **target), Module(cosine)
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
    def __init__(self, decay: LightningDecay) -> None:
        self.decay = decay

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        if trainer.current_epoch == 1:
            self.decay.handles[0].set_strength(4.0)


def test_the_strength_of_the_checkpoint_is_used_and_another_one_asked_for_is_named(tmp_path: Path) -> None:
    whole = LightningDecay("decoupled", strength=1.0)
    unbroken = Module(adamw)
    make_trainer(whole, Stronger(whole), max_epochs=4).fit(unbroken, loader())
    first = LightningDecay("decoupled", strength=1.0)
    trainer = make_trainer(first, Stronger(first), max_epochs=2)
    trainer.fit(Module(adamw), loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")  # after the end: the handles are detached and still saved
    second, resumed = LightningDecay("decoupled", strength=1.0), Module(adamw)
    with pytest.warns(UserWarning, match="checkpoint's strength 4 is used, not the 1 asked for"):
        make_trainer(second, max_epochs=4).fit(resumed, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert same(resumed.net, unbroken.net)


def test_a_checkpoint_that_was_only_validated_is_not_resumed_from(tmp_path: Path) -> None:
    class Scored(Module):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            del batch, batch_idx

    first = LightningDecay("decoupled", strength=4.0)
    trainer = make_trainer(first)
    trainer.fit(Scored(adamw), loader())
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    decay, module = LightningDecay("decoupled", strength=1.0), Scored(adamw)
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

    decay = LightningDecay("decoupled", strength=0.1, take_over=True)
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
    decay = LightningDecay("decoupled", strength=0.1, take_over=True)
    module = Breaking(lambda model: held[0] if held else (held.append(decayed_adamw(model)) or held[0]))  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="broken batch"):
        make_trainer(decay).fit(module, loader())
    assert handle_of(held[0]) is None
    assert held[0].param_groups[0]["weight_decay"] == 0.3
    module.broken = False
    make_trainer(decay).fit(module, loader())
    assert decay.handles[0].steps == 6

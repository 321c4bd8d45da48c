"""Training recipes written from public documentation in our own words, ten right and ten broken.

What an audit must say of each was committed before the audit could see a training step: it is what is true of the
recipe, not what the audit happens to find. `step` is one whole training step: forward, backward, whatever the recipe
does to gradients or weights, and the optimizers' steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytorch_optimizer as po
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer


@dataclass(frozen=True)
class Program:
    """What a recipe trains with."""

    model: nn.Module
    optimizers: list[Optimizer]
    step: Callable[[], object]
    loss: Callable[..., Tensor] | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of the audit


@dataclass(frozen=True)
class Recipe:
    """A program and what is true of it."""

    build: Callable[[], Program]
    source: str  # the documentation that it was written from, or the report of the mistake
    wrong: tuple[str, ...] = ()  # the codes of level wrong: these and no others
    told: tuple[str, ...] = ()  # codes of any level that must be there
    silent: tuple[str, ...] = ()  # codes that must not be there


class Transformer(nn.Module):
    """A language model of one block whose vocabulary is tied to its logits layer."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(16, 8), nn.Embedding(4, 8)
        self.ln_1, self.mlp, self.ln_f = nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 16, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, T, 16)."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        logits: Tensor = self.lm_head(self.ln_f(x + self.mlp(self.ln_1(x))))
        return logits


class Detector(nn.Module):
    """A backbone with a frozen norm and a transformer's head, as detection transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.backbone[1].requires_grad_(requires_grad=False)
        self.query_embed = nn.Embedding(2, 4)
        self.norm, self.class_embed = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 2, 3)."""
        features = self.backbone(images).mean(dim=(2, 3))
        scores: Tensor = self.class_embed(self.norm(features[:, None] + self.query_embed.weight))
        return scores


def conv_net() -> nn.Sequential:
    """Two convolutions with a norm layer between."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def plain_net() -> nn.Sequential:
    """Two convolutions without a norm layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))


def images() -> tuple[Tensor, Tensor]:
    """Four images and their masks of two classes, one pixel smaller on each side."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 6, 6, generator=draw), torch.randint(0, 2, (4, 4, 4), generator=draw)


def half_squares(net: nn.Module) -> Tensor:
    """½Σθ²."""
    return torch.stack([p.square().sum() for p in net.parameters()]).sum() / 2


def segmentation(
    net: nn.Module,
    optimizers: list[Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Program:
    """The plain loop: zero_grad, loss, backward, step."""
    x, y = images()

    def step() -> None:
        for one in optimizers:
            one.zero_grad()
        loss(net(x), y).backward()  # type: ignore[no-untyped-call]
        for one in optimizers:
            one.step()

    return Program(net, optimizers, step, loss)


# --- ten that are right ----------------------------------------------------------------------------------------------


def language_model() -> Program:
    torch.manual_seed(0)
    net = Transformer()
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
    tokens = torch.randint(0, 16, (2, 5))

    def step() -> None:
        logits = net(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)

    return Program(net, [adamw], step)


def detection_transformer() -> Program:
    torch.manual_seed(0)
    net = Detector()
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if "backbone" not in name]},
        {"params": [p for name, p in trained if "backbone" in name], "lr": 1e-5},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-4, weight_decay=1e-4)

    def step() -> None:
        scores = net(torch.randn(2, 3, 6, 6))
        loss = cross_entropy(scores.flatten(0, 1), torch.tensor([0, 1, 2, 0]))
        adamw.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        adamw.step()

    return Program(net, [adamw], step)


def image_classification() -> Program:
    net = conv_net()
    return segmentation(net, [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)])


def norms_without_decay() -> Program:
    net = conv_net()
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 2e-5},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return segmentation(net, [torch.optim.SGD(groups, lr=0.5, momentum=0.9, nesterov=True)])


def medical_segmentation() -> Program:
    net = conv_net()
    sgd = torch.optim.SGD(net.parameters(), lr=1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    x, y = images()

    def step() -> None:
        sgd.zero_grad()
        scores = net(x)
        overlap = scores.softmax(dim=1)[:, 1][y == 1].sum() * 2 / (scores.softmax(dim=1)[:, 1].sum() + y.sum())
        (cross_entropy(scores, y) + 1 - overlap).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 12)
        sgd.step()

    return Program(net, [sgd], step, options={"clip_norm": 12.0})


def pull_to_pretrained() -> Program:
    net = plain_net()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        pull = torch.stack([(p - start[name]).square().sum() for name, p in net.named_parameters()]).sum()
        return cross_entropy(output, target) + 0.05 * pull

    return segmentation(net, [sgd], loss)


def schedule_free() -> Program:
    net = conv_net()
    optimizer: Any = po.ScheduleFreeAdamW(net.parameters(), lr=2.5e-3, weight_decay=0.02)
    optimizer.train()
    return segmentation(net, [optimizer])


def matrices_by_muon() -> Program:
    torch.manual_seed(0)
    net = Transformer()
    muon: Optimizer = torch.optim.Muon([net.mlp.weight], lr=0.02, weight_decay=0.01)
    rest = [p for p in net.parameters() if p is not net.mlp.weight]
    adamw = torch.optim.AdamW(rest, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
    tokens = torch.randint(0, 16, (2, 5))

    def step() -> None:
        logits = net(tokens[:, :-1])
        cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        for one in (muon, adamw):
            one.step()
            one.zero_grad()

    return Program(net, [muon, adamw], step)


def decay_by_hand() -> Program:
    net = plain_net()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = images()

    def step() -> None:
        adam.zero_grad()
        cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for p in net.parameters():
                if p.ndim > 1:
                    p.mul_(1 - 1e-3 * 0.3)
        adam.step()

    return Program(net, [adam], step)


def posterior_mode() -> Program:
    net = plain_net()
    sgd = torch.optim.SGD(net.parameters(), lr=1e-4)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target, reduction="sum") + 1e-4 * target.numel() * half_squares(net)

    return segmentation(net, [sgd], loss)


# --- ten that are broken ---------------------------------------------------------------------------------------------


def mean_of_squares() -> Program:
    net = plain_net()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + 1e-4 * torch.stack([p.square().mean() for p in net.parameters()]).sum()

    return segmentation(net, [torch.optim.SGD(net.parameters(), lr=0.1)], loss)


def penalty_on_a_copy() -> Program:
    net = plain_net()
    counted = copy.deepcopy(net)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + 1e-4 * half_squares(counted)

    return segmentation(net, [torch.optim.SGD(net.parameters(), lr=0.1)], loss)


def penalty_on_buffers() -> Program:
    net = conv_net()
    with torch.no_grad():
        net(torch.randn(4, 3, 6, 6))  # running statistics other than 0 and 1

    def loss(output: Tensor, target: Tensor) -> Tensor:
        tensors = [*net.parameters(), *net.buffers()]
        return cross_entropy(output, target) + 1e-4 * torch.stack([t.float().square().sum() for t in tensors]).sum() / 2

    return segmentation(net, [torch.optim.SGD(net.parameters(), lr=0.1)], loss)


def hook_beside_adamw() -> Program:
    net = plain_net()
    for p in net.parameters():
        p.register_hook(lambda gradient, p=p: gradient + 1e-2 * p.detach())  # type: ignore[no-untyped-call]
    return segmentation(net, [torch.optim.AdamW(net.parameters(), lr=1e-3)])


def momentum_that_oscillates() -> Program:
    net = conv_net()
    return segmentation(net, [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.99, weight_decay=5e-4)])


def times_the_batch() -> Program:
    net = plain_net()
    x, y = images()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target) + 1e-4 * output.shape[0] * half_squares(net)

    def step() -> None:
        sgd.zero_grad()
        loss(net(x), y).backward()  # type: ignore[no-untyped-call]
        sgd.step()

    return Program(net, [sgd], step, loss)


def logits_layer_spared() -> Program:
    torch.manual_seed(0)
    net = Detector()
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    spared = [p for name, p in trained if p.ndim == 1 or name.startswith("class_embed")]
    ids = {id(p) for p in spared}
    groups = [
        {"params": [p for _, p in trained if id(p) not in ids], "weight_decay": 0.05},
        {"params": spared, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-4)

    def step() -> None:
        adamw.zero_grad()
        net(torch.randn(2, 3, 6, 6)).square().mean().backward()
        adamw.step()

    return Program(net, [adamw], step)


def by_hand_and_by_default() -> Program:
    net = plain_net()
    adamw = torch.optim.AdamW(net.parameters(), lr=1e-3)
    x, y = images()

    def step() -> None:
        adamw.zero_grad()
        cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        adamw.step()
        for p in net.parameters():
            p.data.mul_(1 - 1e-3 * 0.05)

    return Program(net, [adamw], step)


class AdamW(Optimizer):
    """Has the name of one that decouples, and adds λ·w to a gradient that it divides by its size."""

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Adam's rule without a first moment."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                gradient = p.grad + group["weight_decay"] * p
                square = self.state[p].setdefault("square", torch.zeros_like(p))
                square.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
                p.addcdiv_(gradient, square.sqrt().add_(1e-8), value=-group["lr"])


def a_name_that_promises() -> Program:
    net = plain_net()
    return segmentation(net, [AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)])


def penalty_in_each_part_of_the_batch() -> Program:
    net = plain_net()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = images()

    def step() -> None:
        sgd.zero_grad()
        for part, mask in zip(x.chunk(4), y.chunk(4), strict=True):
            (cross_entropy(net(part), mask) / 4 + 1e-4 * half_squares(net)).backward()  # type: ignore[no-untyped-call]
        sgd.step()

    return Program(net, [sgd], step, options={"lambda_meant": 1e-4})


NEVER = ("loss_not_examined", "step_not_examined")
PUBLIC: dict[str, Recipe] = {
    "matrices decay, a clipped language model": Recipe(
        language_model, "nanoGPT's README and train.py", silent=("coupled_through_adaptive", "head_spared", *NEVER)
    ),
    "a detection transformer": Recipe(
        detection_transformer, "DETR's README", told=("norm_decayed", "bias_decayed"), silent=NEVER
    ),
    "image classification": Recipe(
        image_classification, "torch's ImageNet example", told=("norm_decayed",), silent=("oscillates", *NEVER)
    ),
    "norm layers spared": Recipe(
        norms_without_decay, "torchvision's reference scripts", silent=("norm_decayed", "bias_decayed", *NEVER)
    ),
    "medical segmentation": Recipe(
        medical_segmentation, "nnU-Net's documentation", told=("norm_decayed",), silent=("oscillates", *NEVER)
    ),
    "a pull to pretrained weights": Recipe(
        pull_to_pretrained, "L2-SP, Li 2018", told=("pull_to_fixed",), silent=("penalty_on_copy", *NEVER)
    ),
    "schedule-free": Recipe(
        schedule_free, "schedule_free's README", told=("other_mechanism",), silent=("mechanism_unknown", *NEVER)
    ),
    "Muon for matrices, AdamW for the rest": Recipe(
        matrices_by_muon, "Muon's README", silent=("in_no_group", "coupled_through_adaptive", *NEVER)
    ),
    "decay by hand before Adam": Recipe(
        decay_by_hand, "fastai's post on AdamW", told=("decay_in_step",), silent=("no_decay", *NEVER)
    ),
    "the mode of a posterior": Recipe(
        posterior_mode, "scikit-learn's and Pyro's sums", told=("penalty_in_loss",),
        silent=("penalty_grows_with_batch", *NEVER),
    ),
}  # fmt: skip
BROKEN: dict[str, Recipe] = {
    "the mean of squares": Recipe(mean_of_squares, "forum threads", told=("mean_for_sum",)),
    "a penalty on a copy": Recipe(penalty_on_a_copy, "reports of deepcopy before training", wrong=("penalty_on_copy",)),
    "a penalty on buffers": Recipe(penalty_on_buffers, "penalties over state_dict", told=("penalty_on_buffers",)),
    "a hook beside AdamW": Recipe(
        hook_beside_adamw, "weight decay by register_hook", wrong=("decays_twice",), told=("decay_by_hook",)
    ),
    "η·λ above (1−√μ)²": Recipe(momentum_that_oscillates, "momentum .99 with a common λ", told=("oscillates",)),
    "λ times the batch": Recipe(
        times_the_batch, "a penalty inside the sum over images", wrong=("penalty_grows_with_batch",)
    ),
    "the logits layer is spared": Recipe(logits_layer_spared, "'no decay on the head'", told=("head_spared",)),
    "by hand and by AdamW's default": Recipe(
        by_hand_and_by_default, "p.data.mul_ after step()", wrong=("decays_twice",), told=("decay_in_step",)
    ),
    "a name that promises decoupling": Recipe(
        a_name_that_promises, "home-made AdamW", told=("coupled_through_adaptive",)
    ),
    "a penalty in each part of the batch": Recipe(
        penalty_in_each_part_of_the_batch, "accumulation with the penalty inside", told=("other_strength",)
    ),
}  # fmt: skip

"""Diagnostics of single layers: norms, stable rank, exact zeros, dead activations, angles, rows of the head.

Nothing is changed, and nothing is drawn from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from segdecay.decay.groups import bare_module
from segdecay.decay.handle import Handle
from segdecay.decay.head import bare_name
from segdecay.errors import DecayError, gather

EXACT_SIDE = 128  # shorter side up to which the largest singular value is exact
LANCZOS_STEPS = 24  # products with W and Wᵀ for larger weights


def as_matrix(
    weight: Tensor,  # any shape of two dimensions or more
    dim: int = 0,
) -> Tensor:  # (outputs, everything else)
    """A weight as the matrix that its layer applies, one row per output channel.

    >>> as_matrix(torch.zeros(8, 3, 5, 5)).shape
    torch.Size([8, 75])
    """
    return weight.detach().movedim(dim, 0).flatten(1)


def exact_norm(tensor: Tensor) -> float:
    """The Euclidean norm of all elements, summed in double precision if the device supports it.

    >>> exact_norm(torch.tensor([3.0, 4.0]))
    5.0
    """
    return float(torch.linalg.vector_norm(_wide(tensor.detach())))


def stable_rank(weight: Tensor, dim: int = 0) -> float | None:
    """The stable rank of a weight: ‖W‖_F² / σ_max², between 1 and the rank.

    σ_max² is the largest eigenvalue of WWᵀ (or WᵀW, whichever is smaller): exact up to a shorter side of 128, beyond it
    by 24 steps of Lanczos from a fixed start, which never overestimate it.

    Args:
        weight: two dimensions or more; that of a convolution is taken as the matrix (outputs, inputs·kh·kw).
        dim: the dimension of its output channels: 1 for transposed convolutions.

    Returns:
        None for a weight with fewer than two dimensions, all zeros, or with values that are not finite.

    Example:
        >>> weights = torch.eye(3), torch.ones(3, 5), torch.diag(torch.tensor([2.0, 1.0]))
        >>> [round(stable_rank(weight), 6) for weight in weights]
        [3.0, 1.0, 1.25]

    Source: Rudelson and Vershynin, J. ACM 2007, section 1.
    """
    if weight.ndim < 2 or weight.numel() == 0:
        return None
    total = exact_norm(weight) ** 2
    if total == 0 or not math.isfinite(total):
        return None
    return total / _largest_square(as_matrix(weight, dim))


def zero_counts(weight: Tensor, dim: int = 0) -> tuple[int, int]:
    """The number of exact zeros, and of output channels with only zeros; each element of a vector is a channel.

    >>> zero_counts(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    (3, 1)
    """
    if weight.ndim < 2:
        found = weight.numel() - int(torch.count_nonzero(weight.detach()))
        return found, found
    kept = torch.count_nonzero(as_matrix(weight, dim), dim=1)
    return weight.numel() - int(kept.sum()), int((kept == 0).sum())


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _largest_square(matrix: Tensor) -> float:
    """σ_max² of a matrix that is finite and not zero."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if matrix.shape[0] <= EXACT_SIDE:
        exact = _wide(matrix)
        return float(torch.linalg.eigvalsh((exact @ exact.T).cpu())[-1])
    return _lanczos(matrix.float() if matrix.dtype != torch.float64 else matrix)


def _lanczos(matrix: Tensor) -> float:
    """The largest Ritz value of WWᵀ after a few steps of Lanczos with full reorthogonalisation."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[0], generator=draw).to(matrix)
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(LANCZOS_STEPS):
        image = matrix @ (matrix.T @ basis[-1])
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        for _twice in range(2):  # a single pass leaves an error that grows
            image = image - known.T @ (known @ image)
        rest = float(torch.linalg.vector_norm(image))
        if rest <= 1e-6 * diagonal[0]:
            break
        beside.append(rest)
        basis.append(image / rest)
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    return float(torch.linalg.eigvalsh(small)[-1])


RELUS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class ActivationDiagnostics:
    """The outputs of one ReLU over the watched passes; one entry per call if it is called several times per pass."""

    name: str  # of the module; "relu#2" for its second call in a pass
    channels: int
    dead: int  # channels that were zero everywhere
    zeros: float  # share of all outputs that were exactly zero


class ActivationWatch:
    """The counts of `watch_activations` so far."""

    def __init__(self) -> None:
        self._alive: dict[str, Tensor] = {}  # (channels,) int64: outputs above zero
        self._numbers: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._is_inside = False

    def diagnostics(self) -> tuple[ActivationDiagnostics, ...]:
        """One entry for every ReLU that ran, in the order of execution."""
        return tuple(
            ActivationDiagnostics(
                name, alive.numel(), int((alive == 0).sum()), 1 - int(alive.sum()) / self._numbers[name]
            )
            for name, alive in self._alive.items()
        )

    def begin_pass(self, *_: Any) -> None:
        """Hook before the forward pass of the whole model."""
        self._calls, self._is_inside = {}, True

    def end_pass(self, *_: Any) -> None:
        """Hook after the forward pass of the whole model; recomputation in backward (checkpointing) is not counted."""
        self._is_inside = False

    @torch.no_grad()
    def see(
        self,
        name: str,
        output: Tensor,  # (N, C), (N, L, C) or (N, C, ...) with two or more spatial dimensions
    ) -> None:
        """Count one output."""
        if not self._is_inside or output.numel() == 0 or output.ndim == 0:
            return
        call = self._calls[name] = self._calls.get(name, 0) + 1
        key = name if call == 1 else f"{name}#{call}"
        channel = 1 if output.ndim > 3 else output.ndim - 1
        others = [dim for dim in range(output.ndim) if dim != channel]
        alive = torch.count_nonzero(output.detach(), dim=others) if others else (output.detach() != 0).long()
        if key in self._alive and self._alive[key].shape != alive.shape:
            return  # another number of channels: not the same layer
        self._alive[key] = self._alive[key] + alive if key in self._alive else alive
        self._numbers[key] = self._numbers.get(key, 0) + output.numel()


@contextmanager
def watch_activations(model: nn.Module) -> Iterator[ActivationWatch]:
    """Count the zeros in the output of every ReLU module while the block runs; its hooks are removed at the end.

    Channels are the second dimension of outputs with four or more dimensions, otherwise the last. Hooks make torch
    recompile a compiled model, so do not watch every step.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> with watch_activations(model) as watch:
        ...     _ = model(torch.tensor([[1.0], [2.0]]))
        >>> watch.diagnostics()
        (ActivationDiagnostics(name='1', channels=2, dead=1, zeros=0.5),)
    """
    watch, bare = ActivationWatch(), bare_module(model)
    hooks = [bare.register_forward_pre_hook(watch.begin_pass)]

    def hook_of(name: str) -> Any:
        return lambda _module, _inputs, output: watch.see(name, output)

    for name, module in bare.named_modules():
        if isinstance(module, RELUS):
            hooks.append(module.register_forward_hook(hook_of(bare_name(name))))
    hooks.append(bare.register_forward_hook(watch.end_pass, always_call=True))
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


UNDERSTOOD = ("none", "l2", "decoupled")  # regularizers whose equilibrium is known


def equilibrium_angle(shrinkage: float, momentum: float = 0.0, *, nesterov: bool = False) -> float:
    """The angle in radians by which a scale-invariant weight rotates per step in equilibrium: √(2ρ(1−μ)/(1+μ)).

    Args:
        shrinkage: ρ, the share of the weight that decay alone removes per step in the long run: ηλ if it is decoupled,
            ηλ·(1−dampening)/(1−μ) for L2 in SGD. Thus √(2ηλ/(1+μ)) for SGD with momentum and L2, and
            √(2ηλ(1−β₁)/(1+β₁)) for AdamW.
        momentum: μ of SGD or β₁ of Adam, below 1.
        nesterov: of SGD; multiplies the angle by √(1+2μ−2μ³), which is our extension.

    Raises:
        DecayError: a value out of range.

    Example:
        >>> round(equilibrium_angle(0.02), 6)
        0.2

    Source: Kosson et al., ICML 2024, table 1; holds for small ρ and after 1/ρ steps or so.
    """
    faults = []
    if not (math.isfinite(shrinkage) and shrinkage >= 0):
        faults.append(f"shrinkage must be a finite number, 0 or more; saw {shrinkage}.")
    if not 0 <= momentum < 1:
        faults.append(f"momentum must be at least 0 and below 1; saw {momentum}.")
    gather(DecayError, faults)
    ahead = 1 + 2 * momentum - 2 * momentum**3 if nesterov else 1.0
    return math.sqrt(2 * shrinkage * ahead * (1 - momentum) / (1 + momentum))


def turned_angle(before: Tensor, after: Tensor) -> float | None:
    """The angle between two tensors as vectors, in radians, accurate for small angles; None if one tensor is zero.

    >>> import torch
    >>> round(turned_angle(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0])) / math.pi, 6)
    0.25
    """
    one, other = exact_norm(before), exact_norm(after)
    if not all(math.isfinite(length) and length > 0 for length in (one, other)):
        return None
    # Kahan's formula from both norms and that of the difference: arccos of the product loses half of the digits
    apart = exact_norm(before.detach() - after.detach())
    sine = (apart - (one - other)) * (apart + (one - other))
    cosine = (one + other - apart) * (one + other + apart)
    return 2 * math.atan2(math.sqrt(max(sine, 0.0)), math.sqrt(max(cosine, 0.0)))


def predicted_angles(
    optimizer: Optimizer,  # bare
    handles: Sequence[Handle],
    names: Mapping[int, str],  # by id of the parameter
) -> dict[str, float | None]:
    """The equilibrium angle of every parameter of an optimizer, at its present learning rate, by name.

    0 without decay; None if no formula is known: with a regularizer other than l2 and decoupled, with L2 under Adam,
    or with an optimizer other than torch's SGD, Adam and AdamW without amsgrad.
    """
    given: list[dict[str, float | None]] = [handle.strengths() for handle in handles]
    found: dict[str, float | None] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is not None:
                acting = [
                    (handle.regularizer.name, strength)
                    for handle, strengths in zip(handles, given, strict=True)
                    if (strength := strengths.get(name)) is not None
                ]
                found[name] = _predicted(optimizer, group, parameter, acting)
    return found


def _predicted(
    optimizer: Optimizer, group: Mapping[str, Any], parameter: Parameter, acting: Sequence[tuple[str, float]]
) -> float | None:
    if parameter.is_complex() or any(regularizer not in UNDERSTOOD for regularizer, _ in acting):
        return None
    coupled = sum(strength for regularizer, strength in acting if regularizer == "l2")
    decoupled = sum(strength for regularizer, strength in acting if regularizer == "decoupled")
    lr, own = float(group["lr"]), float(group.get("weight_decay", 0.0))
    if isinstance(optimizer, SGD):
        momentum = float(group["momentum"])
        gain = (1 - float(group["dampening"]) if momentum else 1.0) / (1 - momentum)
        return equilibrium_angle(lr * (gain * (coupled + own) + decoupled), momentum, nesterov=group["nesterov"])
    if isinstance(optimizer, Adam) and not group["amsgrad"]:  # AdamW is a subclass of Adam
        if group.get("decoupled_weight_decay", False):
            decoupled, own = decoupled + own, 0.0
        return None if coupled + own else equilibrium_angle(lr * decoupled, float(group["betas"][0]))
    return None


@dataclass(frozen=True)
class HeadDiagnostics:
    """One weight of the head."""

    name: str
    row_norms: tuple[float, ...]  # ‖w_k‖, one per output
    spearman: float | None  # of the row norms with class frequency; None without counts, or if rows are not classes


def row_norms_of(weight: Tensor, dim: int = 0) -> tuple[float, ...]:
    """The Euclidean norm of every output's row, in double precision.

    >>> row_norms_of(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    (5.0, 1.0)
    """
    rows = as_matrix(weight, dim)
    wide = torch.float32 if rows.device.type == "mps" else torch.float64
    return tuple(float(norm) for norm in torch.linalg.vector_norm(rows, dim=1, dtype=wide))


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, −1 to 1; ties share the mean of their ranks.

    Returns:
        None for fewer than two pairs, or if one of the sequences is constant or holds a NaN.

    Raises:
        DecayError: their lengths differ.

    Example:
        >>> spearman([1, 2, 3], [10, 30, 20]), spearman([1, 2], [5, 5])
        (0.5, None)
    """
    if len(one) != len(other):
        raise DecayError(
            f"Spearman's correlation needs sequences of equal length; saw {len(one)} and {len(other)} values."
        )
    if any(math.isnan(value) for value in (*one, *other)):
        return None
    left, right = _centred_ranks(one), _centred_ranks(other)
    squares = sum(a * a for a in left) * sum(b * b for b in right)
    return sum(a * b for a, b in zip(left, right, strict=True)) / math.sqrt(squares) if squares else None


def frequency_correlation(row_norms: Sequence[float], class_counts: Sequence[float] | None) -> float | None:
    """Spearman's correlation of row norms with class counts, over the classes that occur.

    >>> frequency_correlation([3.0, 2.0, 1.0, 9.0], [100, 10, 1, 0])
    1.0
    """
    if class_counts is None or len(class_counts) != len(row_norms):
        return None
    present = [(norm, count) for norm, count in zip(row_norms, class_counts, strict=True) if count > 0]
    return spearman([norm for norm, _ in present], [count for _, count in present])


def _centred_ranks(values: Sequence[float]) -> list[float]:
    """Ranks with a mean of zero."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end - 1) / 2
        start = end
    middle = (len(values) - 1) / 2
    return [rank - middle for rank in ranks]

"""The form of a penalty, read from a weight, its gradient and the second derivative times the weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-3  # of the largest element, float32; four times the data type's eps where that is more
FORMULAS = {
    "squared": "λ·½Σθ²",
    "norm": "c·Σ‖θ‖ (of each tensor, not squared)",
    "joint_norm": "c·‖θ‖ (of all tensors, not squared)",
    "row_norm": "c·Σ‖θ_k‖ over output channels",
    "l1": "c·Σ|θ|",
    "elastic": "λ·½Σθ² + c·Σ|θ|",
    "toward": "λ·½Σ(θ − w)² (to a fixed w)",
    "zero": "penalty (unknown, as all are zero)",
    "nan": "a gradient that is not finite",
    "unknown": "a gradient of no known form",
    "none": "nothing",
}


@dataclass(frozen=True)
class Form:
    """What the loss does to one parameter beside fitting the data.

    `coefficient` is λ for squared, elastic and toward (the gradient is λ·θ, λ·(θ − w)) and c for the others; None
    where it cannot be read.
    """

    kind: str
    coefficient: float | None

    @property
    def formula(self) -> str:
        """What the loss adds, for people."""
        return FORMULAS[self.kind]


def possible_forms(
    weight: Tensor,
    gradient: Tensor,  # of the loss on outputs that do not depend on the weight; same shape
    curvature: Tensor | None,  # H·θ; None where the loss cannot be differentiated twice
) -> dict[str, float | None]:
    """All forms that fit one tensor, with their coefficients; more than one where the tensor does not decide.

    >>> w = torch.tensor([1.0, -2.0])
    >>> possible_forms(w, 0.5 * w, 0.5 * w)
    {'squared': 0.5}
    >>> possible_forms(w, torch.sign(w), torch.zeros(2))
    {'l1': 1.0}
    """
    tolerance = max(TOLERANCE, 4 * torch.finfo(weight.dtype).eps)
    weight, gradient = weight.detach().float().cpu(), gradient.detach().float().cpu()
    if not torch.isfinite(gradient).all():
        return {"nan": None}
    if not weight.any():
        return {"unknown": None} if gradient.any() else {"zero": None}
    if curvature is not None:
        curvature = curvature.detach().float().cpu()
        if not torch.isfinite(curvature).all():
            curvature = None
    if curvature is None:
        return _first_order(weight, gradient, tolerance)
    return _second_order(weight, gradient, curvature, tolerance)


def _first_order(weight: Tensor, gradient: Tensor, tolerance: float) -> dict[str, float | None]:
    """Without a second derivative a square and a norm look alike in one tensor; `settle_forms` compares tensors."""
    if not gradient.any():
        return {"none": 0.0}
    ratio = _ratio(gradient, weight, tolerance)
    if ratio is not None:
        found: dict[str, float | None] = {"squared": ratio, "norm": ratio * float(weight.norm())}
        return found | _degree_one(weight, gradient, tolerance)
    return _degree_one(weight, gradient, tolerance) or {"unknown": None}


def _second_order(weight: Tensor, gradient: Tensor, curvature: Tensor, tolerance: float) -> dict[str, float | None]:
    size = float(gradient.abs().max())
    is_flat = float(curvature.abs().max()) <= tolerance * size
    square = 0.0 if is_flat else _ratio(curvature, weight, tolerance)
    if square is None:
        return {"unknown": None}
    if square == 0.0:
        return {"none": 0.0} if size == 0 else _degree_one(weight, gradient, tolerance) or {"unknown": None}
    rest = gradient - square * weight
    if float(rest.abs().max()) <= tolerance * max(size, abs(square) * float(weight.abs().max())):
        return {"squared": square}
    return {"elastic": square} if _sign(weight, rest, tolerance) is not None else {"toward": square}


def _degree_one(weight: Tensor, gradient: Tensor, tolerance: float) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    ratio = _ratio(gradient, weight, tolerance)
    if ratio is not None:
        found["norm"] = ratio * float(weight.norm())
    sign = _sign(weight, gradient, tolerance)
    if sign is not None:
        found["l1"] = sign
    row = _rows(weight, gradient, tolerance)
    if row is not None and ratio is None:
        found["row_norm"] = row
    return found


def _ratio(numerator: Tensor, weight: Tensor, tolerance: float) -> float | None:
    """The constant r where numerator = r·weight; None where there is none."""
    ratio = float((numerator * weight).sum() / weight.square().sum())
    distance = float((numerator - ratio * weight).abs().max())
    return ratio if distance <= tolerance * float(numerator.abs().max()) else None


def _sign(weight: Tensor, gradient: Tensor, tolerance: float) -> float | None:
    """The constant c where gradient = c·sign(weight) wherever the weight is not 0."""
    sign = weight.sign()
    constant = float((gradient * sign).sum() / sign.count_nonzero())
    distance = (gradient * sign - constant * sign.abs()).abs().max()
    return constant if float(distance) <= tolerance * abs(constant) else None


def _rows(weight: Tensor, gradient: Tensor, tolerance: float) -> float | None:
    """The constant c where every output channel's gradient is c·θ_k/‖θ_k‖."""
    if weight.ndim < 2 or weight.shape[0] < 2:
        return None
    rows, slopes = weight.flatten(1), gradient.flatten(1)
    norms = rows.norm(dim=1, keepdim=True)
    units = rows / norms.clamp_min(torch.finfo(torch.float32).tiny)
    found = (slopes * units).sum(dim=1)[norms[:, 0] > 0]
    constant = float(found.mean())
    distance = float((slopes - constant * units)[norms[:, 0] > 0].abs().max())
    return constant if distance <= tolerance * float(gradient.abs().max()) and constant != 0 else None


def settle_forms(
    possible: Mapping[str, Mapping[str, float | None]],  # by parameter name
    norms: Mapping[str, float],  # ‖θ‖ by parameter name
) -> dict[str, Form]:
    """One form a parameter: the one that explains most tensors, then the first that fits.

    A norm over all tensors together is told from one of each by its coefficients: r = g/θ is the same in all tensors.
    """
    forms = {name: dict(found) for name, found in possible.items()}
    if all(not {"squared", "norm"} <= found.keys() for found in forms.values()):
        _join_(forms, norms)
    else:
        _separate_(forms)
    votes = Counter(kind for found in forms.values() for kind in found)
    settled = {}
    for name, found in forms.items():
        kind = max(found, key=lambda word: votes[word])  # of equals, the first
        settled[name] = Form(kind, found[kind])
    return settled


def _join_(forms: Mapping[str, dict[str, float | None]], norms: Mapping[str, float]) -> None:
    """Where all tensors' norms share one ratio g/θ and not one c, they are one norm."""
    found = {name: value for name, kinds in forms.items() if (value := kinds.get("norm")) is not None}
    ratios = [value / norms[name] for name, value in found.items()]
    if len(found) < 2 or _spread(ratios) > TOLERANCE or _spread(list(found.values())) <= TOLERANCE:
        return
    total = sum(norms[name] ** 2 for name in found) ** 0.5
    for name in found:
        forms[name].pop("norm")
        forms[name]["joint_norm"] = ratios[0] * total


def _separate_(forms: Mapping[str, dict[str, float | None]]) -> None:
    """Without second derivatives: keep squares or norms, whichever has one coefficient in all tensors."""
    both = [found for found in forms.values() if {"squared", "norm"} <= found.keys()]
    spreads = {
        kind: _spread([value for found in both if (value := found[kind]) is not None]) for kind in ("squared", "norm")
    }
    worse = "squared" if spreads["norm"] < spreads["squared"] else "norm"
    for found in both:
        found.pop(worse)


def _spread(values: list[float]) -> float:
    """Largest relative distance from the median."""
    middle = sorted(values)[len(values) // 2]
    return max(abs(value - middle) for value in values) / abs(middle) if middle else float("inf")

"""The row functions by torch alone: the definition of each, and what runs on GPUs and without numba."""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.numerics import inverse_norms as inverses
from partial_fc.numerics import row_norms


def inverse_norms(weight: Tensor, out: Tensor) -> None:
    """out: [rows] float32, 1/‖w‖, or 0 for a row that has no direction."""
    out.copy_(inverses(row_norms(weight)))


def inverse_norms_and_round(weight: Tensor, out: Tensor, rounded: Tensor) -> None:
    """As inverse_norms; and rounded: [rows, dim] bfloat16, the rows to the nearest."""
    inverse_norms(weight, out)
    rounded.copy_(weight)


def sgd(
    weight: Tensor,
    momentum: Tensor,
    gradient: Tensor,
    inverse: Tensor | None,
    lr: float,
    keeps: float,
    weight_decay: float,
    limit: float,
) -> None:
    """v = keeps·v + g + weight_decay·w; w −= lr·v, v being `momentum`, float32 or bfloat16.

    gradient: [rows, dim] float32 or bfloat16, of the loss in ŵ times 1/‖w‖ where `inverse` [rows] is given:
    then what points along w is taken out of it. limit: its largest norm, inf for none.
    """
    g = finished_gradient(weight, gradient, inverse, limit)
    v = momentum.float().mul_(keeps).add_(g).add_(weight, alpha=weight_decay)
    weight.add_(v, alpha=-lr)
    momentum.copy_(v)


def adamw(
    weight: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    inverse: Tensor | None,
    lr: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    step: int,
    limit: float,
) -> None:
    """torch.optim.AdamW; first, second: [rows, dim] float32 or bfloat16, its two moments. step: from 1."""
    g = finished_gradient(weight, gradient, inverse, limit)
    m = first.float().mul_(betas[0]).add_(g, alpha=1 - betas[0])
    v = second.float().mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    weight.mul_(1 - lr * weight_decay)
    denominator = v.sqrt().div_((1 - betas[1] ** step) ** 0.5).add_(epsilon)
    weight.addcdiv_(m, denominator, value=-lr / (1 - betas[0] ** step))
    first.copy_(m)
    second.copy_(v)


def finished_gradient(weight: Tensor, gradient: Tensor, inverse: Tensor | None, limit: float) -> Tensor:
    """The gradient in w: without what points along w if it was normalised, no longer than the limit."""
    g = gradient.float()
    if inverse is not None:
        unit = weight * inverse[:, None]
        g = g - (g * unit).sum(dim=1, keepdim=True) * unit
    if limit < float("inf"):
        norms = row_norms(g)
        g = g * torch.where(norms > limit, limit / norms, 1.0).float()[:, None]
    return g

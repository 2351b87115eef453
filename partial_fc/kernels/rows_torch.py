"""The row functions by torch alone: the definition of each, and what runs without numba and Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.numerics import FURTHEST, row_norms
from partial_fc.numerics import inverse_norms as inverses

Rows = slice | Tensor
"""Which rows of a shard: a slice, or their numbers [rows] int64."""


def inverse_norms(weight: Tensor, rows: Rows, out: Tensor) -> None:
    """out: [rows] float32, 1/‖w‖, or 0 for a row that has no direction."""
    out.copy_(inverses(row_norms(weight[rows])))


def inverse_norms_and_round(weight: Tensor, rows: Rows, out: Tensor, rounded: Tensor) -> None:
    """As inverse_norms; and rounded: [rows, dim] float32 or bfloat16, the rows to the nearest."""
    inverse_norms(weight, rows, out)
    rounded.copy_(weight[rows])


def exponentials(dots: Tensor, inverse: Tensor | None, reference: Tensor, out: Tensor, sums: Tensor) -> None:
    """out = exp(z − reference) / ‖w‖ and sums += Σ_rows exp(z − reference), with z = dots / ‖w‖.

    dots: [rows, images] float32 or bfloat16, −inf at what does not count; inverse: [rows] float32, 1/‖w‖,
    None for 1; reference: [images] float32; out: [rows, images], float32 or bfloat16, it may be `dots`;
    sums: [images] float64.
    """
    left_out = dots == -torch.inf
    z = dots.float() if inverse is None else dots.float() * inverse[:, None]
    values = torch.exp(z.clamp_max(FURTHEST) - reference).masked_fill_(left_out, 0.0)
    sums += values.sum(dim=0)
    out.copy_(values if inverse is None else values.mul_(inverse[:, None]))


def sgd(
    weight: Tensor,
    momentum: Tensor,
    rows: Rows,
    gradient: Tensor,
    inverse: Tensor | None,
    lr: float,
    keeps: float,
    weight_decay: float,
    limit: float,
) -> None:
    """v = keeps·v + g + weight_decay·w; w −= lr·v, v being `momentum` [·, dim], float32 or bfloat16.

    gradient: [rows, dim] float32 or bfloat16, of the loss in ŵ times 1/‖w‖ where `inverse` [rows] is given:
    then what points along w is taken out of it. limit: its largest norm, inf for none.
    """
    w = weight[rows]
    g = finished_gradient(w, gradient, inverse, limit)
    v = momentum[rows].float() * keeps + g + weight_decay * w
    weight[rows] = w - lr * v
    momentum[rows] = v.to(momentum.dtype)


def adamw(
    weight: Tensor,
    first: Tensor,
    second: Tensor,
    rows: Rows,
    gradient: Tensor,
    inverse: Tensor | None,
    lr: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    step: int,
    limit: float,
) -> None:
    """torch.optim.AdamW; first, second: [·, dim] float32 or bfloat16, its two moments. step: from 1."""
    w = weight[rows]
    g = finished_gradient(w, gradient, inverse, limit)
    m = betas[0] * first[rows].float() + (1 - betas[0]) * g
    v = betas[1] * second[rows].float() + (1 - betas[1]) * g * g
    denominator = v.sqrt() / (1 - betas[1] ** step) ** 0.5 + epsilon
    weight[rows] = w * (1 - lr * weight_decay) - lr / (1 - betas[0] ** step) * m / denominator
    first[rows] = m.to(first.dtype)
    second[rows] = v.to(second.dtype)


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

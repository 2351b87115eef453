"""Norms that neither overflow nor divide by zero."""

from __future__ import annotations

import torch
from torch import Tensor


def row_norms(rows: Tensor) -> Tensor:
    """L2 norms of `rows` [n, dim] float: [n]. Exact also where the squares leave the float's range."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    tiny = torch.finfo(rows.dtype).tiny ** 0.5
    outside = ~((norms > tiny * 2**12) & torch.isfinite(norms))  # squares overflowed or lost their digits
    if bool(outside.any()):
        largest = rows[outside].abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        norms[outside] = torch.linalg.vector_norm(rows[outside] / largest, dim=1) * largest[:, 0]
    return norms


def inverse_norms(norms: Tensor) -> Tensor:
    """1 / norm, and 0 where the norm is 0 (or too small to have an inverse): such a row has no direction,
    its cosines are 0 and so is its gradient.
    """
    return torch.where(norms >= torch.finfo(norms.dtype).tiny, 1 / norms, torch.zeros_like(norms))


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """rows: [n, dim]. Returns the rows divided by their norms [n, dim] and the inverse norms [n]."""
    inverse = inverse_norms(row_norms(rows))
    return rows * inverse[:, None], inverse


def project(gradient: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
    """The gradient with respect to v from that with respect to v̂ = v/‖v‖: (g − (g·v̂) v̂) / ‖v‖.

    gradient, unit: [n, dim]; inverse_norm: [n].
    """
    along = (gradient * unit).sum(dim=1, keepdim=True)
    return (gradient - along * unit) * inverse_norm[:, None]

"""Norms that neither overflow nor divide by zero."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_NORM = 1e-20
"""A shorter row has no direction: its cosines are 0 and so is its gradient."""

FURTHEST = 1e30
"""Logits of numbers beyond all use are kept this near to 0."""
_BLOCK = 4096


def row_norms(rows: Tensor) -> Tensor:
    """L2 norms of `rows` [n, dim]: [n] float64, in which no square of a float32 overflows or vanishes."""
    blocks = [
        torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in torch.split(rows, _BLOCK)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def inverse_norms(norms: Tensor) -> Tensor:
    """1 / norm, and 0 where the row is too short to have a direction."""
    # The clamp keeps the slope finite where `where` throws the value away.
    return torch.where(norms >= SMALLEST_NORM, 1 / norms.clamp_min(SMALLEST_NORM), 0.0)


def project(gradient: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
    """The gradient with respect to v from that with respect to v̂ = v/‖v‖: (g − (g·v̂) v̂) / ‖v‖.

    gradient, unit: [n, dim]; inverse_norm: [n].
    """
    along = (gradient * unit).sum(dim=1, keepdim=True)
    return (gradient - along * unit) * inverse_norm[:, None]

"""The row functions compiled by numba: what loops.py has, on tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import partial_fc.kernels.loops as loops
from partial_fc.kernels.loops import Array
from partial_fc.kernels.rows_torch import Rows

_NO_INVERSE = np.zeros(0, np.float32)


def inverse_norms(weight: Tensor, rows: Rows, out: Tensor) -> None:
    """See rows_torch."""
    chosen, (taken,) = _chosen(rows, weight)
    loops.inverse_norms(taken, chosen, out.numpy())


def inverse_norms_and_round(weight: Tensor, rows: Rows, out: Tensor, rounded: Tensor) -> None:
    """See rows_torch."""
    chosen, (taken,) = _chosen(rows, weight)
    loops.inverse_norms_and_round(taken, chosen, out.numpy(), _bits(rounded))


def exponentials(dots: Tensor, inverse: Tensor | None, reference: Tensor, out: Tensor, sums: Tensor) -> None:
    """See rows_torch."""
    factors = _NO_INVERSE if inverse is None else inverse.numpy()
    loops.exponentials(_bits(dots), factors, reference.numpy(), _bits(out), sums.numpy())


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
    """See rows_torch."""
    chosen, taken = _chosen(rows, weight, momentum)
    loops.sgd(
        taken[0],
        taken[1],
        chosen,
        _bits(gradient),
        _NO_INVERSE if inverse is None else inverse.numpy(),
        np.float32(lr),
        np.float32(keeps),
        np.float32(weight_decay),
        np.float32(limit),
    )


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
    """See rows_torch."""
    chosen, taken = _chosen(rows, weight, first, second)
    loops.adamw(
        taken[0],
        taken[1],
        taken[2],
        chosen,
        _bits(gradient),
        _NO_INVERSE if inverse is None else inverse.numpy(),
        np.float32(betas[0]),
        np.float32(betas[1]),
        np.float32(1 - betas[0]),
        np.float32(1 - betas[1]),
        np.float32(epsilon),
        np.float32(1 - lr * weight_decay),
        np.float32(lr / (1 - betas[0] ** step)),
        np.float32((1 - betas[1] ** step) ** 0.5),
        np.float32(limit),
    )


def _chosen(rows: Rows, *tensors: Tensor) -> tuple[Array, list[Array]]:
    """Numbers of rows and what they are rows of; for a slice 0, 1, … of the parts that it takes."""
    if isinstance(rows, slice):
        parts = [_bits(tensor[rows]) for tensor in tensors]
        return np.arange(parts[0].shape[0]), parts
    return rows.numpy(), [_bits(tensor) for tensor in tensors]


def _bits(tensor: Tensor) -> Array:
    """A float32 tensor as it is, a bfloat16 one as uint16."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()

"""The row functions as Triton kernels, for GPUs: each reads and writes every number of a row once.

A program holds whole rows in registers. Norms are taken of rows divided by their largest number, so that no
square overflows or vanishes, without float64.
"""

from __future__ import annotations

import math
from typing import Any

import triton.language as tl
from torch import Tensor

import partial_fc.kernels.rows_torch as rows_torch
import partial_fc.numerics as numerics
from partial_fc.kernels.rows_torch import Rows
from partial_fc.kernels.triton_parts import device_of, jit, power_of_2, rounded

PROGRAM_NUMBERS = 2048
"""As many of a tensor's a program holds, but at least a row."""
_SMALLEST = tl.constexpr(numerics.SMALLEST_NORM)

# Only what triton_kernels.py hands over asks for these beside matrix products.
exponentials = rows_torch.exponentials


def inverse_norms(weight: Tensor, rows: Rows, out: Tensor) -> None:
    """See rows_torch."""
    _launch(_inverse_norms, rows, (weight,), out, None)


def inverse_norms_and_round(weight: Tensor, rows: Rows, out: Tensor, rounded: Tensor) -> None:
    """See rows_torch."""
    _launch(_inverse_norms, rows, (weight,), out, rounded)


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
    settings = float(lr), float(keeps), float(weight_decay), float(limit)
    _launch(_sgd, rows, (weight, momentum), gradient, inverse, *settings, LIMITED=limit < math.inf)


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
    corrections = lr / (1 - betas[0] ** step), (1 - betas[1] ** step) ** 0.5
    # 1 − β from float64: of 0.999 float32 would leave four digits of it.
    rates = *betas, 1 - betas[0], 1 - betas[1], epsilon, 1 - lr * weight_decay, *corrections, limit
    settings = (float(rate) for rate in rates)
    _launch(_adamw, rows, (weight, first, second), gradient, inverse, *settings, LIMITED=limit < math.inf)


def _launch(kernel: Any, rows: Rows, tensors: tuple[Tensor, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel over rows of [·, dim] tensors: a slice as a part that begins with row 0."""
    numbers = None if isinstance(rows, slice) else rows
    taken = [tensor[rows] if isinstance(rows, slice) else tensor for tensor in tensors]
    count, dim = taken[0].shape[0] if numbers is None else numbers.shape[0], taken[0].shape[1]
    if not count:
        return
    block = power_of_2(dim, 1, 1 << 30)
    rows_each = max(1, min(PROGRAM_NUMBERS // block, 64))
    grid = (-(-count // rows_each),)
    with device_of(taken[0]):
        kernel[grid](
            numbers, count, *taken, *arguments, DIM=dim, BLOCK_R=rows_each, BLOCK_D=block, **constants
        )


@jit
def _places(
    numbers: tl.tensor, count: tl.tensor, BLOCK_R: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """A program's rows among those to move, where they lie in the shard, and whether they exist."""
    place = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    exists = place < count
    row = place
    if numbers is not None:
        row = tl.load(numbers + place, exists, 0)
    return place, row, exists


@jit
def _norm(x: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Two factors of the rows' norms."""
    largest = tl.max(tl.abs(x), axis=1)
    largest = tl.where(largest > 0, largest, 1.0)
    part = x / largest[:, None]
    return largest, tl.sqrt(tl.sum(part * part, axis=1))


@jit
def _inverse_norms(
    numbers: tl.tensor,
    count: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    taken: tl.tensor,
    DIM: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    place, row, exists = _places(numbers, count, BLOCK_R)
    d = tl.arange(0, BLOCK_D)
    inside = exists[:, None] & (d < DIM)[None, :]
    w = tl.load(weight + row[:, None] * DIM + d[None, :], inside, 0.0)
    largest, rest = _norm(w)
    has_direction = largest * rest >= _SMALLEST
    inverse = tl.where(has_direction, 1.0 / largest / tl.where(has_direction, rest, 1.0), 0.0)
    tl.store(out + place, inverse, exists)
    if taken is not None:
        tl.store(taken + place[:, None] * DIM + d[None, :], rounded(w, taken.dtype.element_ty), inside)


@jit
def _finished(
    w: tl.tensor,
    g: tl.tensor,
    inverse: tl.tensor,
    place: tl.tensor,
    exists: tl.tensor,
    limit: tl.tensor,
    LIMITED: tl.constexpr,
) -> tl.tensor:
    """The gradient without what points along w if it was normalised, no longer than the limit."""
    if inverse is not None:
        unit = w * tl.load(inverse + place, exists, 0.0)[:, None]
        g -= tl.sum(g * unit, axis=1)[:, None] * unit
    if LIMITED:
        largest, rest = _norm(g)
        too_long = largest * rest > limit
        g *= tl.where(too_long, limit / largest / tl.where(too_long, rest, 1.0), 1.0)[:, None]
    return g


@jit
def _sgd(
    numbers: tl.tensor,
    count: tl.tensor,
    weight: tl.tensor,
    momentum: tl.tensor,
    gradient: tl.tensor,
    inverse: tl.tensor,
    lr: tl.tensor,
    keeps: tl.tensor,
    weight_decay: tl.tensor,
    limit: tl.tensor,
    DIM: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    LIMITED: tl.constexpr,
) -> None:
    place, row, exists = _places(numbers, count, BLOCK_R)
    d = tl.arange(0, BLOCK_D)
    inside = exists[:, None] & (d < DIM)[None, :]
    own = row[:, None] * DIM + d[None, :]
    w = tl.load(weight + own, inside, 0.0)
    v = tl.load(momentum + own, inside, 0.0).to(tl.float32)
    g = tl.load(gradient + place[:, None] * DIM + d[None, :], inside, 0.0).to(tl.float32)
    v = keeps * v + (_finished(w, g, inverse, place, exists, limit, LIMITED) + weight_decay * w)
    tl.store(weight + own, w - lr * v, inside)
    tl.store(momentum + own, rounded(v, momentum.dtype.element_ty), inside)


@jit
def _adamw(
    numbers: tl.tensor,
    count: tl.tensor,
    weight: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    gradient: tl.tensor,
    inverse: tl.tensor,
    beta_1: tl.tensor,
    beta_2: tl.tensor,
    rest_1: tl.tensor,
    rest_2: tl.tensor,
    epsilon: tl.tensor,
    keeps: tl.tensor,
    rate: tl.tensor,
    correction: tl.tensor,
    limit: tl.tensor,
    DIM: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    LIMITED: tl.constexpr,
) -> None:
    place, row, exists = _places(numbers, count, BLOCK_R)
    d = tl.arange(0, BLOCK_D)
    inside = exists[:, None] & (d < DIM)[None, :]
    own = row[:, None] * DIM + d[None, :]
    w = tl.load(weight + own, inside, 0.0)
    m = tl.load(first + own, inside, 0.0).to(tl.float32)
    v = tl.load(second + own, inside, 0.0).to(tl.float32)
    g = tl.load(gradient + place[:, None] * DIM + d[None, :], inside, 0.0).to(tl.float32)
    g = _finished(w, g, inverse, place, exists, limit, LIMITED)
    m = beta_1 * m + rest_1 * g
    v = beta_2 * v + rest_2 * g * g
    tl.store(weight + own, w * keeps - rate * m / (tl.sqrt(v) / correction + epsilon), inside)
    tl.store(first + own, rounded(m, first.dtype.element_ty), inside)
    tl.store(second + own, rounded(v, second.dtype.element_ty), inside)

"""The row functions compiled by numba: one loop over each row while it lies in the first cache.

bfloat16 has no type in numpy: such tensors come as their 16 bits, and 16 zeros more make a float32 of them.
Sums may be reordered (fastmath's `reassoc`), which the compiler needs in order to use vectors; nothing else
of fastmath is on that would assume an Inf or NaN away. The results are the same bits at every run.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba.extending import overload
from torch import Tensor

from partial_fc.kernels.rows_torch import Rows
from partial_fc.numerics import SMALLEST_NORM

Array = npt.NDArray[Any]
Function = TypeVar("Function")
_NO_INVERSE = np.zeros(0, np.float32)
_SMALLEST = np.float64(SMALLEST_NORM)


def _jit(function: Function) -> Function:
    """The function compiled at its first call, for this machine; later processes find it compiled."""
    fastmath = {"reassoc", "contract", "nsz"}
    compiled = numba.njit(nogil=True, cache=True, fastmath=fastmath, error_model="numpy")(function)  # type: ignore[type-var]
    return cast(Function, compiled)


def inverse_norms(weight: Tensor, rows: Rows, out: Tensor) -> None:
    """See rows_torch."""
    chosen, (taken,) = _chosen(rows, weight)
    _inverse_norms(taken, chosen, out.numpy())


def inverse_norms_and_round(weight: Tensor, rows: Rows, out: Tensor, rounded: Tensor) -> None:
    """See rows_torch."""
    chosen, (taken,) = _chosen(rows, weight)
    _inverse_norms_and_round(taken, chosen, out.numpy(), _bits(rounded))


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
    _sgd(
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
    _adamw(
        taken[0],
        taken[1],
        taken[2],
        chosen,
        _bits(gradient),
        _NO_INVERSE if inverse is None else inverse.numpy(),
        np.float32(betas[0]),
        np.float32(betas[1]),
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


@_jit
def _inverse_norm(row: Array) -> np.float32:
    # In float64 no square of a float32 overflows or vanishes.
    square = 0.0
    for d in range(row.shape[0]):
        square += np.float64(row[d]) * np.float64(row[d])
    norm = np.sqrt(square)
    return np.float32(1.0 / norm) if norm >= _SMALLEST else np.float32(0.0)


@_jit
def _round(bits: np.uint32) -> np.uint16:
    # To the nearest, ties to even; a NaN stays one (rounding could make an Inf of it).
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return np.uint16((bits >> np.uint32(16)) | np.uint32(64))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def _read(row: Array, buffer: Array) -> Array:
    """The row as float32: itself, or widened into the buffer where it is bfloat16's bits."""
    raise NotImplementedError  # see the overload


def _write(row: Array, values: Array) -> None:
    """Put float32 values back where `_read` took them from."""
    raise NotImplementedError  # see the overload


@overload(_read)
def _read_by_type(row: Any, buffer: Any) -> Any:
    if row.dtype != numba.uint16:

        def as_it_is(row: Any, buffer: Any) -> Any:
            return row

        return as_it_is

    def widened(row: Any, buffer: Any) -> Any:
        bits = buffer.view(np.uint32)
        for d in range(row.shape[0]):
            bits[d] = np.uint32(row[d]) << np.uint32(16)
        return buffer

    return widened


@overload(_write)
def _write_by_type(row: Any, values: Any) -> Any:
    if row.dtype != numba.uint16:

        def written_already(row: Any, values: Any) -> Any:
            return None

        return written_already

    def rounded(row: Any, values: Any) -> Any:
        bits = values.view(np.uint32)
        for d in range(row.shape[0]):
            row[d] = _round(bits[d])

    return rounded


@_jit
def _inverse_norms(weight: Array, rows: Array, out: Array) -> None:
    for row in range(rows.shape[0]):
        out[row] = _inverse_norm(weight[rows[row]])


@_jit
def _inverse_norms_and_round(weight: Array, rows: Array, out: Array, rounded: Array) -> None:
    for row in range(rows.shape[0]):
        w = weight[rows[row]]
        out[row] = _inverse_norm(w)
        _write(rounded[row], w)


@_jit
def _finish(g: Array, w: Array, inverse: np.float32, limit: np.float32, out: Array) -> None:
    """out = (g − (g·ŵ) ŵ), no longer than the limit; inverse 0: g as it is."""
    along = np.float32(0)
    for d in range(w.shape[0]):
        along += g[d] * (w[d] * inverse)
    for d in range(w.shape[0]):
        out[d] = g[d] - along * (w[d] * inverse)
    if limit < np.inf:
        square = 0.0
        for d in range(w.shape[0]):
            square += np.float64(out[d]) * np.float64(out[d])
        if square > np.float64(limit) * np.float64(limit):
            shrink = np.float32(np.float64(limit) / np.sqrt(square))
            for d in range(w.shape[0]):
                out[d] *= shrink


@_jit
def _sgd(
    weight: Array,
    momentum: Array,
    rows: Array,
    gradient: Array,
    inverse: Array,
    lr: np.float32,
    keeps: np.float32,
    weight_decay: np.float32,
    limit: np.float32,
) -> None:
    dim = weight.shape[1]
    g, kept, wide = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for row in range(rows.shape[0]):
        at = rows[row]
        w = weight[at]
        _finish(_read(gradient[row], wide), w, inverse[row] if inverse.size else np.float32(0), limit, g)
        v = _read(momentum[at], kept)
        for d in range(dim):
            v[d] = keeps * v[d] + (g[d] + weight_decay * w[d])
            w[d] -= lr * v[d]
        _write(momentum[at], v)


@_jit
def _adamw(
    weight: Array,
    first: Array,
    second: Array,
    rows: Array,
    gradient: Array,
    inverse: Array,
    beta_1: np.float32,
    beta_2: np.float32,
    epsilon: np.float32,
    decay: np.float32,
    rate: np.float32,
    correction: np.float32,
    limit: np.float32,
) -> None:
    dim = weight.shape[1]
    g, wide = np.empty(dim, np.float32), np.empty(dim, np.float32)
    kept_m, kept_v = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for row in range(rows.shape[0]):
        at = rows[row]
        w = weight[at]
        _finish(_read(gradient[row], wide), w, inverse[row] if inverse.size else np.float32(0), limit, g)
        m, v = _read(first[at], kept_m), _read(second[at], kept_v)
        for d in range(dim):
            m[d] = beta_1 * m[d] + (np.float32(1) - beta_1) * g[d]
            v[d] = beta_2 * v[d] + (np.float32(1) - beta_2) * g[d] * g[d]
            w[d] = w[d] * decay - rate * m[d] / (np.sqrt(v[d]) / correction + epsilon)
        _write(first[at], m)
        _write(second[at], v)

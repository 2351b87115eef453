"""The loops over rows that numba compiles: each row is worked on while it lies in the first cache.

bfloat16 has no type in numpy: such arrays come as their 16 bits, and 16 zeros more make a float32 of them.
Sums may be reordered (fastmath's `reassoc`), which the compiler needs in order to use vectors; nothing else
of fastmath is on that would assume an Inf or NaN away. The results are the same bits at every run.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import overload

from partial_fc.numerics import FURTHEST, SMALLEST_NORM

Array = npt.NDArray[Any]
Function = TypeVar("Function")
_SMALLEST = np.float64(SMALLEST_NORM)
_FURTHEST = np.float32(FURTHEST)
_ROWS_SUMMED = 64
"""Exponentials that are summed in float32 before float64 takes over."""

# exp x = 2^n exp r with r = x − n ln 2, whose ln 2 comes in two parts so that n ln 2 is exact enough.
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.693145751953125)
_LN_2_REST = np.float32(1.42860682e-6)
_LARGEST, _LEAST = np.float32(89), np.float32(-87)
_TAYLOR = tuple(np.float32(1 / factorial) for factorial in (5040, 720, 120, 24, 6, 2, 1, 1))


def _jit(function: Function, reorders: bool = True) -> Function:
    """The function compiled at its first call, for this machine; later processes find it compiled."""
    fastmath = {"contract", "nsz"} | ({"reassoc"} if reorders else set())
    compiled = numba.njit(nogil=True, cache=True, fastmath=fastmath, error_model="numpy")(function)  # type: ignore[type-var]
    return cast(Function, compiled)


def _jit_in_order(function: Function) -> Function:
    """The same for arithmetic whose order is the point of it."""
    return _jit(function, reorders=False)


@_jit
def _inverse_norm(row: Array) -> np.float32:
    short = np.float32(0)
    for d in range(row.shape[0]):
        short += row[d] * row[d]
    if np.float32(1e-25) < short < np.float32(1e35):
        return np.float32(1.0 / np.sqrt(np.float64(short)))
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


def _number(row: Array, place: int) -> np.float32:
    """row[place] as float32, whichever of the two types it is kept in."""
    raise NotImplementedError  # see the overload


def _keep(row: Array, place: int, value: np.float32) -> None:
    """row[place] = value, rounded where the row is bfloat16's bits."""
    raise NotImplementedError  # see the overload


@overload(_number)
def _number_by_type(row: Any, place: Any) -> Any:
    if row.dtype != numba.uint16:

        def as_it_is(row: Any, place: Any) -> Any:
            return row[place]

        return as_it_is

    def widened(row: Any, place: Any) -> Any:
        return np.uint32(np.uint32(row[place]) << np.uint32(16)).view(np.float32)

    return widened


@overload(_keep)
def _keep_by_type(row: Any, place: Any, value: Any) -> Any:
    if row.dtype != numba.uint16:

        def as_it_is(row: Any, place: Any, value: Any) -> Any:
            row[place] = value

        return as_it_is

    def rounded(row: Any, place: Any, value: Any) -> Any:
        row[place] = _round(np.float32(value).view(np.uint32))

    return rounded


@_jit
def inverse_norms(weight: Array, rows: Array, out: Array) -> None:
    """See rows_torch, as for all that follow."""
    for row in range(rows.shape[0]):
        out[row] = _inverse_norm(weight[rows[row]])


@_jit
def inverse_norms_and_round(weight: Array, rows: Array, out: Array, rounded: Array) -> None:
    """See rows_torch."""
    for row in range(rows.shape[0]):
        w, taken = weight[rows[row]], rounded[row]
        out[row] = _inverse_norm(w)
        for d in range(w.shape[0]):
            _keep(taken, d, w[d])


@_jit
def _finish(g: Array, w: Array, inverse: np.float32, limit: np.float32, out: Array) -> None:
    """out = (g − (g·ŵ) ŵ), no longer than the limit; inverse 0: g as it is."""
    along = np.float32(0)
    for d in range(w.shape[0]):
        along += _number(g, d) * (w[d] * inverse)
    for d in range(w.shape[0]):
        out[d] = _number(g, d) - along * (w[d] * inverse)
    if limit < np.inf:
        square = 0.0
        for d in range(w.shape[0]):
            square += np.float64(out[d]) * np.float64(out[d])
        if square > np.float64(limit) * np.float64(limit):
            shrink = np.float32(np.float64(limit) / np.sqrt(square))
            for d in range(w.shape[0]):
                out[d] *= shrink


@_jit
def sgd(
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
    """See rows_torch; an empty `inverse` is none, here and below."""
    g = np.empty(weight.shape[1], np.float32)
    for row in range(rows.shape[0]):
        w, v = weight[rows[row]], momentum[rows[row]]
        _finish(gradient[row], w, inverse[row] if inverse.size else np.float32(0), limit, g)
        for d in range(w.shape[0]):
            moved = keeps * _number(v, d) + (g[d] + weight_decay * w[d])
            w[d] -= lr * moved
            _keep(v, d, moved)


@_jit
def adamw(
    weight: Array,
    first: Array,
    second: Array,
    rows: Array,
    gradient: Array,
    inverse: Array,
    beta_1: np.float32,
    beta_2: np.float32,
    rest_1: np.float32,
    rest_2: np.float32,
    epsilon: np.float32,
    decay: np.float32,
    rate: np.float32,
    correction: np.float32,
    limit: np.float32,
) -> None:
    """See rows_torch; rest_1 and rest_2 are 1 − β, of 0.999 float32 would leave four digits of it."""
    g = np.empty(weight.shape[1], np.float32)
    for row in range(rows.shape[0]):
        w, m, v = weight[rows[row]], first[rows[row]], second[rows[row]]
        _finish(gradient[row], w, inverse[row] if inverse.size else np.float32(0), limit, g)
        for d in range(w.shape[0]):
            mean = beta_1 * _number(m, d) + rest_1 * g[d]
            square = beta_2 * _number(v, d) + rest_2 * g[d] * g[d]
            w[d] = w[d] * decay - rate * mean / (np.sqrt(square) / correction + epsilon)
            _keep(m, d, mean)
            _keep(v, d, square)


@_jit_in_order
def _exp(x: np.float32) -> np.float32:
    """e^x to 2e-7 of it; 0 below −87, where float32 has no more normal numbers; Inf above 88.3."""
    y = _LARGEST if x > _LARGEST else x  # comparisons, not min and max: a NaN stays one
    y = _LEAST if y < _LEAST else y
    n = np.floor(y * _LOG2_E + np.float32(0.5))
    r = (y - n * _LN_2) - n * _LN_2_REST
    power = _TAYLOR[0]
    for coefficient in _TAYLOR[1:]:
        power = power * r + coefficient
    two_to_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(0) if x < _LEAST else power * two_to_n


@_jit_in_order
def exponentials(dots: Array, inverse: Array, reference: Array, out: Array, sums: Array) -> None:
    """See rows_torch."""
    images = dots.shape[1]
    values, part = np.empty(images, np.float32), np.empty(images, np.float32)
    for start in range(0, dots.shape[0], _ROWS_SUMMED):
        part[:] = np.float32(0)
        for row in range(start, min(start + _ROWS_SUMMED, dots.shape[0])):
            factor = inverse[row] if inverse.size else np.float32(1)
            dot, kept = dots[row], out[row]
            # `out` may be `dots`: vectors are used where a loop writes to nothing that it reads.
            for image in range(images):
                z = _number(dot, image) * factor
                z = _FURTHEST if z > _FURTHEST else z
                value = _exp(z - reference[image])
                values[image] = np.float32(0) if _number(dot, image) == -np.inf else value
            for image in range(images):
                part[image] += values[image]
                _keep(kept, image, values[image] * factor)
        for image in range(images):
            sums[image] += part[image]

"""The keyed permutation of permutation.py as loops that numba compiles: index by index, without the GIL.

numbers, out: uint64 [n]; sizes, keys: uint64 [1] or [n]; large, small: rounds of sizes from LARGE on and of
smaller ones. Everything stays uint64: numba makes a float of a signed and an unsigned number together.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.files.compiled import compiled_now
from data_pipeline.order.hashing import Words

LARGE = 1024
_ONE, _ZERO, _LARGE = np.uint64(1), np.uint64(0), np.uint64(LARGE)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled_now
def _mix(word: np.uint64) -> np.uint64:
    word = word + _GOLDEN
    word = (word ^ (word >> _S30)) * _FIRST
    word = (word ^ (word >> _S27)) * _SECOND
    return word ^ (word >> _S31)


@compiled_now
def _width(size: np.uint64) -> np.uint64:
    width = np.uint64(np.ceil(np.sqrt(np.float64(size))))
    if width * width < size:
        width += _ONE
    if (width - _ONE) * (width - _ONE) >= size:
        width -= _ONE
    return width


@compiled_now
def forward(numbers: Words, sizes: Words, keys: Words, large: int, small: int, out: Words) -> None:
    """From places to what stands there."""
    size = width = height = _ZERO
    rounds = large
    for index in range(len(numbers)):
        wanted = sizes[index] if len(sizes) > 1 else sizes[0]
        key = keys[index] if len(keys) > 1 else keys[0]
        if wanted != size:
            size, width = wanted, _width(wanted)
            height = (size + width - _ONE) // width
            rounds = large if size >= _LARGE else small
        number = numbers[index]
        while True:
            left_size, right_size = height, width
            left, right = number // right_size, number % right_size
            for step in range(rounds):
                total = left + _mix(right ^ _mix(key ^ np.uint64(step))) % left_size
                left, right = right, total - left_size if total >= left_size else total
                left_size, right_size = right_size, left_size
            number = left * right_size + right
            if number < size:
                break
        out[index] = number


@compiled_now
def backward(numbers: Words, sizes: Words, keys: Words, large: int, small: int, out: Words) -> None:
    """From what stands there to places."""
    size = width = height = _ZERO
    rounds = large
    for index in range(len(numbers)):
        wanted = sizes[index] if len(sizes) > 1 else sizes[0]
        key = keys[index] if len(keys) > 1 else keys[0]
        if wanted != size:
            size, width = wanted, _width(wanted)
            height = (size + width - _ONE) // width
            rounds = large if size >= _LARGE else small
        number = numbers[index]
        while True:
            left_size, right_size = (width, height) if rounds % 2 else (height, width)
            left, right = number // right_size, number % right_size
            for step in range(rounds - 1, -1, -1):
                left_size, right_size = right_size, left_size
                moved = _mix(left ^ _mix(key ^ np.uint64(step))) % left_size
                left, right = right - moved if right >= moved else right + left_size - moved, left
            number = left * right_size + right
            if number < size:
                break
        out[index] = number

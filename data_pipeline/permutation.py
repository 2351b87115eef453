"""A keyed random permutation of [0, size), computed per index: no array of that size exists.

A Feistel network over i = l·w + r with l < h and r < w, h·w >= size, where each round does

    (l, r) <- (r, (l + F(key_k, r)) mod h)        (h and w change places with the halves)

and is a bijection of [0, h·w) for any F. Numbers that fall on or above the size are sent round again until
they fall below ("cycle walking"), which keeps it a bijection of [0, size). w is the root of the size rounded
up and h·w < size + w, so few are. (Luby and Rackoff 1988; Black and Rogaway 2002.)

Four rounds make a pseudo-random permutation of large sets. Of few numbers some permutations remain more
frequent than others, less so with every round: reckoned out with ideal round functions, the frequencies of
the 5! of five are 6 % (total variation) from equal after 8 rounds and 0.4 % after 16, halving every two. So
small sets take 24. If the size is the square of an odd number, only even permutations can come out.

Here is the definition, in numpy: a hundred calls whose fixed cost dominates small batches. A loop compiled by
numba (permutation_loop.py) gives the same numbers, for 32 to 128 of them 10 to 20 times faster, and is used
where numba can be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from data_pipeline.hashing import Words, mix

Ints = npt.NDArray[np.int64]
# Of sizes from LARGE on, and of smaller ones.
Rounds = tuple[int, int]
_Loop = Callable[[Words, Words, Words, int, int, Words], None]

LARGE = 1024
EIGHT_ROUNDS: Rounds = (8, 8)
ROUNDS_BY_SIZE: Rounds = (8, 24)


def permute(places: Ints, size: int | Ints, key: Words, rounds: Rounds = ROUNDS_BY_SIZE) -> Ints:
    """What stands at these places of the permutation `key` of [0, size): int64 [n].

    places: int64 [n]; size: one number or [n]; key: uint64 [1] or [n]. Raises ValueError for a place outside.
    """
    return _run(places, size, key, rounds, inverse=False)


def place_of(numbers: Ints, size: int | Ints, key: Words, rounds: Rounds = ROUNDS_BY_SIZE) -> Ints:
    """The places at which these numbers stand: the inverse of `permute`, int64 [n]."""
    return _run(numbers, size, key, rounds, inverse=True)


def _run(numbers: Ints, size: int | Ints, key: Words, rounds: Rounds, inverse: bool) -> Ints:
    if len(numbers) and (numbers.min() < 0 or (numbers >= size).any()):
        wrong = int(numbers[np.argmax((numbers < 0) | (numbers >= size))])
        raise ValueError(f"places and images must be at least 0 and below the set's size, got {wrong}")
    sizes = np.array([size], dtype=np.uint64) if isinstance(size, int) else size.astype(np.uint64)
    words = numbers.astype(np.uint64)
    loops = _loops()
    if loops is None:
        return _walk(words, sizes, key, rounds, inverse).astype(np.int64)
    result = np.empty_like(words)
    loops[inverse](words, sizes, key, *rounds, result)
    return result.astype(np.int64)


@cache
def _loops() -> tuple[_Loop, _Loop] | None:
    """The compiled loops forward and back, or None where numba is missing or has nowhere to keep them."""
    try:
        from data_pipeline.permutation_loop import backward, forward
    except (ImportError, RuntimeError):
        return None
    return forward, backward


def _walk(words: Words, sizes: Words, key: Words, rounds: Rounds, inverse: bool) -> Words:
    """Numpy's form of the loops."""
    network = _unnetwork if inverse else _network
    sizes, key = np.broadcast_to(sizes, words.shape), np.broadcast_to(key, words.shape)
    result = words.copy()
    for chosen, number in zip((sizes >= LARGE, sizes < LARGE), rounds, strict=True):
        outside = np.flatnonzero(chosen)
        while len(outside):
            result[outside] = network(result[outside], sizes[outside], key[outside], number)
            outside = outside[result[outside] >= sizes[outside]]
    return result


def _sides(sizes: Words) -> tuple[Words, Words]:
    """Height and width; the root in floating point may be off by one above 2**52."""
    one = np.uint64(1)
    width = np.ceil(np.sqrt(sizes.astype(np.float64))).astype(np.uint64)
    width += width * width < sizes
    width -= (width - one) * (width - one) >= sizes
    return (sizes + width - one) // width, width


def _network(words: Words, sizes: Words, key: Words, rounds: int) -> Words:
    left_size, right_size = _sides(sizes)
    left, right = words // right_size, words % right_size
    for number in range(rounds):
        step = mix(right ^ mix(key ^ np.uint64(number))) % left_size
        left, right = right, (left + step) % left_size
        left_size, right_size = right_size, left_size
    return left * right_size + right


def _unnetwork(words: Words, sizes: Words, key: Words, rounds: int) -> Words:
    left_size, right_size = _sides(sizes)
    if rounds % 2:
        left_size, right_size = right_size, left_size
    left, right = words // right_size, words % right_size
    for number in reversed(range(rounds)):
        left_size, right_size = right_size, left_size
        step = mix(left ^ mix(key ^ np.uint64(number))) % left_size
        left, right = (right + left_size - step) % left_size, left
    return left * right_size + right

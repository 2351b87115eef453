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

The loops themselves stand in permutation_loop.py, compiled by numba, which is imported with the first call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_pipeline.order.hashing import Words

Ints = npt.NDArray[np.int64]
# Of sizes from 1,024 on, and of smaller ones.
Rounds = tuple[int, int]

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
    # Late: numba takes a third of a second, and who only looks at a set permutes nothing.
    from data_pipeline.order.permutation_loop import backward, forward

    words = numbers.astype(np.uint64)
    result = np.empty_like(words)
    (backward if inverse else forward)(words, sizes, key, *rounds, result)
    return result.astype(np.int64)

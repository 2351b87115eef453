"""Random numbers by counter: hashes of integers, the same for any batch, rank and order of asking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def mix(words: Words) -> Words:
    """SplitMix64's output function (Steele, Lea and Flood 2014): a bijection of uint64, per element."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def hash_words(*parts: int | npt.NDArray[np.int64] | Words) -> Words:
    """One uint64 from several integers or arrays of them, broadcast; their order matters."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        word = np.array([part & _MASK], dtype=np.uint64) if isinstance(part, int) else part.astype(np.uint64)
        state = mix(state ^ word)
    return state


def uniform(words: Words) -> npt.NDArray[np.float64]:
    """Hashes to [0, 1): their upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

"""Which image comes when: one endless sequence that every rank computes its part of.

The sequence is epoch 0's permutation of all images, then epoch 1's, and so on. A global step of G images
takes the positions [p, p + G) and rank r of N the r-th N-th of them, whatever N is; so batches run across
epoch ends and the position alone resumes a run on any number of ranks.

The permutation is computed per index by a keyed Feistel network, no array of the set's size exists:
i = l·w + r with l < h and r < w, h·w >= N, and each round does

    (l, r) <- (r, (l + F(key_k, r)) mod h)        (h and w change places with the halves)

which is a bijection of [0, h·w) for any F. Numbers that fall on or above N are sent round again until they
fall below ("cycle walking"), which keeps it a bijection of [0, N). h and w are near the root of N, so few
are. (Luby and Rackoff 1988; Black and Rogaway 2002.)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from data_pipeline.hashing import hash_words, mix

Ints = npt.NDArray[np.int64]
# Four rounds make a pseudo-random permutation of large sets; small ones, where a half has only a few
# values, want more.
_ROUNDS = 8


class GlobalOrder:
    """The endless sequence of image indices of a set of `num_images`, from `seed`."""

    def __init__(self, num_images: int, seed: int) -> None:
        if not 1 <= num_images < 1 << 62:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        self.num_images = num_images
        self.seed = seed
        self._width = max(math.isqrt(num_images - 1) + 1, 1)
        self._height = -(-num_images // self._width)

    def slice(self, position: int, count: int) -> tuple[Ints, Ints]:
        """Epochs and images at positions [position, position + count): int64 [count] each."""
        if position < 0 or count < 0:
            raise ValueError(f"position and count must not be negative, got {position} and {count}")
        first_epoch, start = divmod(position, self.num_images)
        past_start = start + np.arange(count, dtype=np.int64)
        epochs = first_epoch + past_start // self.num_images
        images = past_start % self.num_images
        for epoch in range(first_epoch, first_epoch + (start + count - 1) // self.num_images + 1):
            here = epochs == epoch
            images[here] = self.permute(epoch, images[here])
        return epochs, images

    def permute(self, epoch: int, places: Ints) -> Ints:
        """The images at these places (each in [0, num_images)) of an epoch, int64 [n]."""
        keys = hash_words(self.seed, epoch, np.arange(_ROUNDS, dtype=np.uint64))
        result = self._network(keys, places.astype(np.uint64))
        outside = np.flatnonzero(result >= self.num_images)
        while len(outside):
            result[outside] = self._network(keys, result[outside])
            outside = outside[result[outside] >= self.num_images]
        return result.astype(np.int64)

    def _network(
        self, keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint64]:
        left_size, right_size = np.uint64(self._height), np.uint64(self._width)
        left, right = numbers // right_size, numbers % right_size
        for key in keys:
            left, right = right, (left + mix(right ^ key)) % left_size
            left_size, right_size = right_size, left_size
        return left * right_size + right

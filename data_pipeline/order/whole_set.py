"""Which image comes when: one endless sequence that every rank computes its part of.

GlobalOrder's sequence is epoch 0's permutation of all images, then epoch 1's, and so on. A global step of
G images takes the positions [p, p + G) and rank r of N the r-th N-th of them, whatever N is (batching.py);
so batches run across epoch ends and the position alone resumes a run on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_pipeline.order.hashing import Words, hash_words
from data_pipeline.order.permutation import EIGHT_ROUNDS, permute, place_of

Ints = npt.NDArray[np.int64]


class Order(Protocol):
    """An endless sequence of image indices; a place in it, the position, is one integer.

    Any part of it is computed alone, so any number of ranks can share it. The same arguments give the same
    sequence on every machine. Holds no array of the set's size (IdentityOrder: see there), pickles, and may
    be used from several threads at once.
    """

    @property
    def num_images(self) -> int:
        """Number of images of the set."""

    @property
    def epoch_length(self) -> int:
        """Positions an epoch has."""

    @property
    def group(self) -> int:
        """So many positions belong together, from multiples of it on; divides epoch_length."""

    def slice(self, position: int, count: int) -> tuple[Ints, Ints]:
        """Positions [position, position + count): int64 [count] and [count].

        The second are the images. The first number an image's turns: no pair (number, image) comes twice,
        so augmentation drawn from it never repeats. Raises ValueError if an argument is negative.
        """


def refuse_negative(position: int, count: int) -> None:
    """Raises ValueError if either is negative."""
    if position < 0 or count < 0:
        raise ValueError(f"position and count must not be negative, got {position} and {count}")


def slice_of_epochs(
    permute: Callable[[int, Ints], Ints], num_images: int, position: int, count: int
) -> tuple[Ints, Ints]:
    """Epochs and images at positions [position, position + count), int64 [count] each, where `permute` gives
    the images at places int64 [n] of an epoch and an epoch has each image once.
    """
    refuse_negative(position, count)
    epochs, images = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        epoch, start = divmod(position + done, num_images)
        end = min(done + num_images - start, count)
        epochs[done:end] = epoch
        images[done:end] = permute(epoch, np.arange(start, start + end - done, dtype=np.int64))
        done = end
    return epochs, images


class GlobalOrder:
    """Every image once an epoch, in an order that is random over the whole set, from `seed`."""

    group = 1

    def __init__(self, num_images: int, seed: int) -> None:
        if not 1 <= num_images < 1 << 62:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        self.num_images = num_images
        self.seed = seed

    @property
    def epoch_length(self) -> int:
        """As many positions as images."""
        return self.num_images

    def slice(self, position: int, count: int) -> tuple[Ints, Ints]:
        """Epochs and images at positions [position, position + count): int64 [count] each."""
        return slice_of_epochs(self.permute, self.num_images, position, count)

    def permute(self, epoch: int, places: Ints) -> Ints:
        """The images at these places (each in [0, num_images)) of an epoch, int64 [n]."""
        return permute(places, self.num_images, self._key(epoch), EIGHT_ROUNDS)

    def place_of(self, epoch: int, images: Ints) -> Ints:
        """The places of these images in an epoch: the inverse of `permute`, int64 [n]."""
        return place_of(images, self.num_images, self._key(epoch), EIGHT_ROUNDS)

    def _key(self, epoch: int) -> Words:
        return hash_words(self.seed, epoch)

"""P x K batches for losses that compare images: K images of one identity, then K of another, and so on.

A round takes each identity once, in an order that is random by (seed, round); it is this order's epoch. In
round v an identity gives the places v·K … v·K + K - 1 of a sequence of its own: all its images permuted by
(seed, identity, 0), then by (seed, identity, 1), and so on. So after any number of rounds each of its images
has been seen equally often, or once more than another. The number returned with an image is how often its
identity's sequence has gone through before, so an image that comes again gets another augmentation.

An identity with fewer than K images gives some of them several times in a group. So may one with more whose
sequence begins anew within the group.

All is computed per index. Held: 16 bytes an identity, and 4 bytes an image if the labels are not sorted (8
from 2**32 images on).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_pipeline.order.hashing import hash_words
from data_pipeline.order.permutation import permute
from data_pipeline.order.whole_set import Ints, refuse_negative

# Set apart the keys of this order's two permutations from each other and from GlobalOrder's.
_IDENTITIES, _OWN = 0x6964656E74, 0x6F776E
_CHUNK = 1 << 20
_Labels = npt.NDArray[np.int32] | Ints


class IdentityOrder:
    """Groups of `images_per_identity` (K) images of one identity, from `seed`.

    labels: int32 or int64 [num_images], each image's identity, at least 0; not kept. Identities with fewer
    than min_images are left out (num_left_out of them). The default leaves none out: one with a single image
    makes no pair of two different images, yet it is a negative for all others, and a class centre that is
    trained beside would never meet its class. min_images=2 saves its K places of the batch for pairs.

    Raises ValueError for wrong numbers, negative labels, and if no identity is left.
    """

    def __init__(self, labels: _Labels, seed: int, images_per_identity: int, min_images: int = 1) -> None:
        if images_per_identity < 1 or min_images < 1:
            raise ValueError(
                f"images_per_identity and min_images must be at least 1, got {images_per_identity} "
                f"and {min_images}"
            )
        if not len(labels) or labels.min() < 0:
            raise ValueError("labels must be at least one, and none negative")
        self.num_images = len(labels)
        self.seed = seed
        self.group = images_per_identity
        # The images by identity, where storage is not.
        self._images: npt.NDArray[np.uint32] | Ints | None = None
        if not _ascend(labels):
            images = np.argsort(labels, kind="stable")
            labels = labels[images]
            self._images = images.astype(np.uint32) if self.num_images <= 1 << 32 else images
        starts = _starts_of_runs(labels)
        counts = np.diff(starts, append=self.num_images)
        taken = counts >= min_images
        self._starts, self._counts = starts[taken], counts[taken]
        self.num_identities = len(self._starts)
        self.num_left_out = len(starts) - self.num_identities
        if not self.num_identities:
            raise ValueError(f"none of {len(starts)} identities has at least {min_images} images")

    @property
    def epoch_length(self) -> int:
        """Positions of a round: K for each identity taken."""
        return self.num_identities * self.group

    def slice(self, position: int, count: int) -> tuple[Ints, Ints]:
        """Numbers and images at positions [position, position + count): int64 [count] each."""
        refuse_negative(position, count)
        groups, within = np.divmod(position + np.arange(count, dtype=np.int64), self.group)
        first = position // self.group
        past = -(-(position + count) // self.group)
        rounds, slots = np.divmod(np.arange(first, past, dtype=np.int64), self.num_identities)
        keys = hash_words(self.seed, _IDENTITIES, rounds)
        of_groups = permute(slots, self.num_identities, keys)
        identities = of_groups[groups - first]
        counts = self._counts[identities]
        numbers, places = np.divmod(rounds[groups - first] * self.group + within, counts)
        images = self._starts[identities] + permute(
            places, counts, hash_words(self.seed, _OWN, identities, numbers)
        )
        return numbers, images if self._images is None else self._images[images].astype(np.int64)


def _neighbours(labels: _Labels) -> Iterator[tuple[int, _Labels, _Labels]]:
    """Labels and those before them, piece by piece with the piece's first index: comparisons of all at once
    would need memory of the labels' size.
    """
    for first in range(1, len(labels), _CHUNK):
        here = labels[first : first + _CHUNK]
        yield first, here, labels[first - 1 : first - 1 + len(here)]


def _ascend(labels: _Labels) -> bool:
    return all((here >= before).all() for _, here, before in _neighbours(labels))


def _starts_of_runs(labels: _Labels) -> Ints:
    """Where each run of equal labels starts."""
    starts = [first + np.flatnonzero(here != before) for first, here, before in _neighbours(labels)]
    return np.concatenate([np.zeros(1, dtype=np.int64), *starts])

"""Images that stand in a set more than once: groups of equal hashes, and which classes share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# A grey placeholder may stand in thousands of classes, and pairs of those are millions.
WIDEST_GROUP = 100


@dataclass(frozen=True)
class Duplicates:
    """Groups of images that are alike. groups: indices of each, int64 [2 or more], in rising order; labels:
    their classes.
    """

    groups: list[Ints]
    labels: list[Ints]

    @property
    def num_images(self) -> int:
        """Images that have at least one like them."""
        return sum(map(len, self.groups))

    @property
    def num_surplus(self) -> int:
        """Images that would go if one of each group were kept."""
        return self.num_images - len(self.groups)

    @cached_property
    def across(self) -> list[int]:
        """Places in `groups` of those whose images are of several classes."""
        return [place for place, labels in enumerate(self.labels) if (labels != labels[0]).any()]

    @property
    def num_within(self) -> int:
        """Groups whose images are all of one class."""
        return len(self.groups) - len(self.across)

    @cached_property
    def class_pairs(self) -> dict[tuple[int, int], int]:
        """How many groups each two classes (the lower first) share, most first.

        Groups over more than WIDEST_GROUP classes are left out.
        """
        pairs: Counter[tuple[int, int]] = Counter()
        for place in self.across:
            classes = np.unique(self.labels[place]).tolist()
            if len(classes) <= WIDEST_GROUP:
                pairs.update(combinations(classes, 2))
        return dict(sorted(pairs.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def widest(self) -> int:
        """The largest number of classes that share one image; 1 if none do."""
        return max((len(np.unique(self.labels[place])) for place in self.across), default=1)


def find_duplicates(
    hashes: Words,
    compared: npt.NDArray[np.bool_],
    labels_of: Callable[[Ints], Ints],
    divide: Callable[[Ints], Iterable[Ints]],
) -> Duplicates:
    """Groups of equal hashes among the images `compared`; hashes, compared: [N].

    divide: takes images of equal hash apart into those that really are alike. Takes some 40 bytes an image
    beyond the hashes.
    """
    images = np.flatnonzero(compared)
    order = np.argsort(hashes[images], kind="stable")
    ordered = hashes[images[order]]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else images
    del ordered
    lengths = np.diff(np.append(starts, len(order)))
    several = np.flatnonzero(lengths > 1)
    groups = [
        group
        for start, length in zip(starts[several].tolist(), lengths[several].tolist(), strict=True)
        for group in divide(images[order[start : start + length]])
        if len(group) > 1
    ]
    groups.sort(key=lambda group: int(group[0]))
    return Duplicates(groups, [labels_of(group) for group in groups])

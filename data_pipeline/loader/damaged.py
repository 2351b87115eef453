"""Images that cannot be used: which ones, why, and how many a run puts up with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError
from data_pipeline.sets.source import ImageSource, Ints, Origin

_NAMED = 3


class TooManyDamaged(DataInputError):
    """More images are damaged than the run puts up with."""


@dataclass(frozen=True)
class DamagedRecord:
    """An image that cannot be used, where it is, and why."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


def allowed_damaged(max_damaged: float, num_images: int) -> int:
    """How many images of a set may be damaged.

    max_damaged: 0 for none; below 1 that part of the set, rounded down, but one image at least; from 1 on
    a number of images.
    """
    if max_damaged >= 1:
        return int(max_damaged)
    # Without the trifle 0.29 of 100 images would be 28.
    return max(1, int(max_damaged * num_images + 1e-9)) if max_damaged > 0 else 0


class DamagedImages:
    """The damaged images found so far, by index, each with what is wrong with it."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.reasons: dict[int, str] = {}
        self._told = 0

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, index: int, reason: str) -> None:
        """Note one image; a second finding of the same changes nothing."""
        self.reasons.setdefault(index, reason)

    def among(self, indices: Ints) -> npt.NDArray[np.intp]:
        """The places in `indices` whose image is known to be damaged."""
        if not self.reasons:
            return np.zeros(0, dtype=np.intp)
        return np.flatnonzero(np.isin(indices, np.fromiter(self.reasons, dtype=np.int64)))

    def news(self) -> list[tuple[int, str]]:
        """What was found since the last call of `take_in`: what other ranks do not know yet."""
        return list(self.reasons.items())[self._told :]

    def take_in(self, found: Sequence[tuple[int, str]]) -> list[int]:
        """Note what all ranks found, in the order of their ranks; returns the images that are new to all.

        Every rank must be given the same, its own among it.
        """
        shared = dict(list(self.reasons.items())[: self._told])
        new = []
        for index, reason in found:
            if index not in shared:
                shared[index] = reason
                new.append(index)
        self._told = len(shared)
        for index, reason in self.reasons.items():
            shared.setdefault(index, reason)
        self.reasons = shared
        return new

    def record(self, index: int) -> DamagedRecord:
        """One of them."""
        return DamagedRecord(self._source.origin(index), self.reasons[index])

    def describe(self, index: int) -> str:
        """File, byte, key, class and what is wrong, in one line."""
        return str(self.record(index))

    def check(self, max_damaged: float) -> None:
        """Raise TooManyDamaged, naming the first ones, if they are more than `allowed_damaged` of the set."""
        allowed = allowed_damaged(max_damaged, self._source.num_images)
        if len(self.reasons) <= allowed:
            return
        named = [self.describe(index) for index in list(self.reasons)[:_NAMED]]
        more = f"; and {len(self.reasons) - _NAMED} more" if len(self.reasons) > _NAMED else ""
        raise TooManyDamaged(
            f"{len(self.reasons)} damaged image{'s' if len(self.reasons) > 1 else ''}, data.max-damaged "
            f"allows {allowed} of this set: {'; '.join(named)}{more}; "
            "`cosface inspect` lists all, replace them, leave them out or allow more"
        )

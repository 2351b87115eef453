"""Several sets as one: the classes of each come after those of the sets before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_pipeline.sets.source import ImageSource, Ints, Origin, Payloads, SourceBase


class MergedSource(SourceBase):
    """An `ImageSource` of others. Class c of the k-th set becomes c plus the classes of the sets before it,
    and so do images; nobody is looked for in two sets.
    """

    def __init__(self, parts: Sequence[ImageSource]) -> None:
        self.parts = tuple(parts)
        self._first_image = np.cumsum([0, *(part.num_images for part in parts)])
        self._first_class = np.cumsum([0, *(part.num_classes for part in parts)])
        self.image_size = parts[0].image_size
        self.uniform = all(part.uniform and part.image_size == self.image_size for part in parts)

    @property
    def name(self) -> str:
        """What the user called them."""
        return " + ".join(part.name for part in self.parts)

    @property
    def num_images(self) -> int:
        """Images of all."""
        return int(self._first_image[-1])

    @property
    def num_classes(self) -> int:
        """Classes of all."""
        return int(self._first_class[-1])

    def labels_of(self, indices: Ints) -> Ints:
        """The classes of these images, int64 [n]."""
        labels = np.empty(len(indices), dtype=np.int64)
        for number, here, own in self._split(indices):
            labels[here] = self.parts[number].labels_of(own) + self._first_class[number]
        return labels

    def payloads(self, indices: Ints) -> Payloads:
        """The encoded images. Raises RecordError for one that is damaged."""
        views: Payloads = [np.zeros(0, dtype=np.uint8)] * len(indices)
        for number, here, own in self._split(indices):
            for at, view in zip(here.tolist(), self.parts[number].payloads(own), strict=True):
                views[at] = view
        return views

    def origin(self, index: int) -> Origin:
        """Where one image comes from; its class is that of the whole."""
        number = int(self._part_of(np.array([index]))[0])
        own = self.parts[number].origin(index - int(self._first_image[number]))
        return Origin(own.file, own.offset, own.key, own.label + int(self._first_class[number]))

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""
        return np.concatenate([part.class_counts() for part in self.parts])

    def identity_names(self) -> list[str] | None:
        """The names of all sets' identities, [num_classes]; None if a set has none. Some may come twice."""
        names: list[str] = []
        for part in self.parts:
            own = part.identity_names()
            if own is None:
                return None
            names += own
        return names

    @property
    def stored_bytes(self) -> int:
        """Bytes of all."""
        return sum(part.stored_bytes for part in self.parts)

    def will_need(self, first: int, last: int) -> None:
        """Pass the hint on to the sets in which these images are."""
        for part, start, end in zip(self.parts, self._first_image, self._first_image[1:], strict=False):
            low, high = max(first, int(start)), min(last, int(end))
            if low < high:
                part.will_need(low - int(start), high - int(start))

    def expect_random_reads(self) -> None:
        """Pass the hint on."""
        for part in self.parts:
            part.expect_random_reads()

    def close(self) -> None:
        """Let go of all."""
        for part in self.parts:
            part.close()

    def _part_of(self, indices: Ints) -> Ints:
        return np.searchsorted(self._first_image, indices, side="right") - 1

    def _split(self, indices: Ints) -> list[tuple[int, Ints, Ints]]:
        """(number of the part, places in `indices`, indices within the part) for each part that has some."""
        numbers = self._part_of(indices)
        split = []
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            split.append((number, here, indices[here] - self._first_image[number]))
        return split

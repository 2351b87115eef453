"""Which record is image i, and of which class: three columns, 16 bytes an image.

Sixteen bytes hold for keys below 2^32; others take 20. The columns may be memory maps that the ranks of a
host share through the page cache (`table_store.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DatasetError
from data_pipeline.sets.digests import digest_of_numbers

Ints = npt.NDArray[np.int64]

# A place is a file's number and a byte in it. 2^48 bytes are 256 TiB.
OFFSET_BITS = 48
OFFSET_MASK = (1 << OFFSET_BITS) - 1
# The byte of a record that should be there and is missing.
MISSING = OFFSET_MASK
MAX_FILES = 1 << 15


@dataclass(frozen=True)
class Digests:
    """Of a table's columns: images of each class, classes in their order, places in their order."""

    counts: str
    labels: str
    places: str


@dataclass(frozen=True)
class ImageTable:
    """place: int64 [N], file number << 48 | byte offset of the record; label: int32 [N]; key: uint32 or
    int64 [N]; none of them to be written. image_size: (height, width), as stated or of most images;
    uniform: whether all have it. kept: the columns' digests, where they are known already.
    """

    place: Ints
    label: npt.NDArray[np.int32]
    key: npt.NDArray[np.uint32] | Ints
    num_classes: int
    image_size: tuple[int, int]
    uniform: bool = True
    kept: Digests | None = None

    def __len__(self) -> int:
        return len(self.place)

    def where(self, index: int) -> tuple[int, int]:
        """(number of the file, byte offset) of one image's record."""
        place = int(self.place[index])
        return place >> OFFSET_BITS, place & OFFSET_MASK

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""
        return np.bincount(self.label, minlength=self.num_classes).astype(np.int64)

    def digests(self) -> Digests:
        """The columns' digests: kept, or made now, about a second for 40M images."""
        return self.kept or Digests(
            digest_of_numbers(self.class_counts(), "<i8"),
            digest_of_numbers(self.label, "<i4"),
            digest_of_numbers(self.place, "<i8"),
        )


def columns(file: int, offsets: Ints, labels: Ints, keys: Ints) -> tuple[Ints, Ints, Ints]:
    """One file's part of the columns place, label and key; offset -1 is that of a missing record."""
    return file << OFFSET_BITS | offsets & OFFSET_MASK, labels, keys


def make_table(
    parts: list[tuple[Ints, Ints, Ints]],
    num_classes: int,
    image_size: tuple[int, int],
    uniform: bool = True,
) -> ImageTable:
    """The table of all files' parts, in their order."""
    place, label, key = (
        column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*parts, strict=True)
    )
    fits = not len(key) or (key.min() >= 0 and key.max() < 1 << 32)
    keys = key.astype(np.uint32) if fits else key
    return ImageTable(place, label.astype(np.int32), keys, num_classes, image_size, uniform)


def without_small_classes(table: ImageTable, min_images: int, name: str) -> ImageTable:
    """The table with the classes of at least so many images alone, numbered anew in their order.

    Raises DatasetError, naming the set, if no class has so many.
    """
    label: npt.NDArray[np.signedinteger[Any]] = table.label
    if table.num_classes > 2 * len(label):  # as many as the largest label says, of which few are used
        label = np.unique(label, return_inverse=True)[1]
    counts = np.bincount(label)
    kept = counts >= min_images
    if not kept.any():
        raise DatasetError(
            f"{name}: no identity has {min_images} images or more, the most are {int(counts.max())}; "
            "choose a lower data.min-images"
        )
    renamed = (np.cumsum(kept) - 1).astype(np.int32)
    images = np.flatnonzero(kept[label])
    return ImageTable(
        table.place[images],
        renamed[label[images]],
        table.key[images],
        int(kept.sum()),
        table.image_size,
        table.uniform,
    )

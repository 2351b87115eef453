"""The images of a damaged record file that cannot be opened for training: each record on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import RecordError
from data_pipeline.records.file import RecordFile
from data_pipeline.records.reader import RecordReader
from data_pipeline.sets.image_sizes import count_sizes, size_to_train_at
from data_pipeline.sets.layout import EXACT_IN_FLOAT32
from data_pipeline.sets.property_file import read_property
from data_pipeline.sets.source import Ints, Origin, Payloads, SourceBase

Flags = npt.NDArray[np.bool_]

UNKNOWN = -1
LARGEST_LABEL = 1 << 31
_CHUNK = 1 << 16
_SAMPLED = 1000


class LooseRecords(SourceBase):
    """An `ImageSource` over every record of the index but header and identity records.

    A label is what the image's own record states, UNKNOWN if that is damaged or no class that the set can
    have. Identity records are not believed.
    """

    def __init__(
        self,
        folder: Path,
        file: RecordFile,
        offsets: Ints,
        keys: Ints,
        labels: Ints,
        stated: tuple[int, int, int] | None,
    ) -> None:
        self.name, self.file = str(folder), file
        self.num_images = len(offsets)
        self.num_classes = stated[0] if stated else int(labels.max(initial=UNKNOWN)) + 1
        self._offsets, self._keys, self._labels = offsets, keys, labels
        self.image_size, self.uniform = (stated[1:], True) if stated else self._size()

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The set in a folder with a train.rec; None if there is none, or most of it cannot be read.

        Raises RecordError or DataInputError if the index is none, or is missing and damage hides where the
        records start.
        """
        rec = folder / "train.rec" if folder.suffix != ".rec" else folder
        if not rec.is_file():
            return None
        keys, offsets = _read_index(rec)
        file = RecordFile(rec)
        if not _mostly_readable(file, offsets):
            # An index of another file, or a file of which most is missing: a list would help nobody.
            file.close()
            return None
        chunks = [_read_headers(file, offsets[at : at + _CHUNK]) for at in range(0, len(offsets), _CHUNK)]
        labels = np.concatenate([chunk[0] for chunk in chunks])
        images = ~np.concatenate([chunk[1] for chunk in chunks])
        stated = read_property(rec.with_name("property"))
        labels[labels >= (stated[0] if stated else EXACT_IN_FLOAT32)] = UNKNOWN
        return cls(folder, file, offsets[images], keys[images], labels[images], stated)

    def _size(self) -> tuple[tuple[int, int], bool]:
        sizes = count_sizes(self.file, self._offsets)
        return size_to_train_at(sizes, self.file.path) if sizes else ((0, 0), True)

    def labels_of(self, indices: Ints) -> Ints:
        """The classes that the images' records state, or UNKNOWN; int64 [n]."""
        return self._labels[indices]

    def payloads(self, indices: Ints) -> Payloads:
        """The encoded images. Raises RecordError for the first whose record is damaged."""
        return self.file.payloads(self._offsets[indices])

    def origin(self, index: int) -> Origin:
        """Where one image's record is."""
        return Origin(
            self.file.path, *(int(column[index]) for column in (self._offsets, self._keys, self._labels))
        )

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]; those of unknown class are not counted."""
        known = self._labels[self._labels != UNKNOWN]
        return np.bincount(known, minlength=self.num_classes).astype(np.int64)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the record file."""
        return self.file.size

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def _read_index(rec: Path) -> tuple[Ints, Ints]:
    """Keys and offsets, [n] each, also of an index that names records behind the file's end."""
    idx = rec.with_suffix(".idx")
    try:
        with RecordReader(rec, idx) as reader:
            return reader.key_array.copy(), reader.offsets.copy()
    except RecordError:
        if not idx.is_file():
            raise
        try:
            numbers = np.loadtxt(idx, dtype=np.int64, ndmin=2, comments=None)
        except (OSError, ValueError):
            numbers = np.zeros((0, 0), dtype=np.int64)
        if numbers.shape[1] != 2:
            raise
        return numbers[:, 0].copy(), numbers[:, 1].copy()


def _mostly_readable(file: RecordFile, offsets: Ints) -> bool:
    """Whether half of a sample of the records can be read."""
    sample = (
        offsets[np.unique(np.linspace(0, len(offsets) - 1, _SAMPLED).astype(np.int64))]
        if len(offsets)
        else offsets
    )
    readable = 0
    for offset in sample:
        try:
            file.locate(offset[None])
        except RecordError:
            continue
        readable += 1
    return 2 * readable >= len(sample)


def _read_headers(file: RecordFile, offsets: Ints) -> tuple[Ints, Flags]:
    """Labels of the records at these offsets, and whether they are header or identity records."""
    labels, empty = np.full(len(offsets), UNKNOWN), np.zeros(len(offsets), dtype=bool)
    inside = np.flatnonzero((offsets >= 0) & (offsets < file.size))
    try:
        located = file.locate(offsets[inside])
    except RecordError:
        if len(offsets) == 1:
            return labels, empty
        middle = len(offsets) // 2
        parts = [_read_headers(file, part) for part in (offsets[:middle], offsets[middle:])]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    possible = np.isfinite(located.label) & (located.label >= 0) & (located.label < LARGEST_LABEL)
    stated = np.where(possible, located.label, UNKNOWN)
    labels[inside] = np.where(stated == stated.astype(np.int64), stated, UNKNOWN).astype(np.int64)
    empty[inside] = (located.flag == 2) & (located.begin == located.end) & (located.begin >= 0)
    return labels, empty

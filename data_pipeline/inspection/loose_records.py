"""The images of a damaged record file that cannot be opened for training: each record on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from data_pipeline.decode import decode_image
from data_pipeline.errors import RecordError
from data_pipeline.folder_layout import read_property
from data_pipeline.record_file import RecordFile
from data_pipeline.recordio import RecordReader
from data_pipeline.source import Ints, Origin, Payloads

UNKNOWN = -1
_CHUNK = 1 << 16


class LooseRecords:
    """An `ImageSource` over every record of the index but header and identity records.

    A label is what the image's own record states, UNKNOWN if that is damaged or no whole number from 0.
    Identity records are not believed.
    """

    uniform = True

    def __init__(
        self,
        folder: Path,
        file: RecordFile,
        offsets: Ints,
        keys: Ints,
        labels: Ints,
        size: tuple[int, int] | None,
    ) -> None:
        self.name, self.file = str(folder), file
        self.num_images, self.num_classes = len(offsets), int(labels.max(initial=UNKNOWN)) + 1
        self._offsets, self._keys, self._labels = offsets, keys, labels
        self.image_size = size or self._first_size()

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The set in a folder with a train.rec; None if there is none.

        Raises RecordError or DataInputError if the index does not fit, or is missing and damage hides where
        the records start.
        """
        rec = folder / "train.rec" if folder.suffix != ".rec" else folder
        if not rec.is_file():
            return None
        with RecordReader(rec, rec.with_suffix(".idx")) as reader:
            offsets, keys = reader.offsets.copy(), reader.key_array.copy()
        file = RecordFile(rec)
        chunks = [_read_headers(file, offsets[at : at + _CHUNK]) for at in range(0, len(offsets), _CHUNK)]
        labels = np.concatenate([chunk[0] for chunk in chunks])
        images = ~np.concatenate([chunk[1] for chunk in chunks])
        stated = read_property(rec.with_name("property"))
        return cls(folder, file, offsets[images], keys[images], labels[images], stated and stated[1:])

    def _first_size(self) -> tuple[int, int]:
        for index in range(self.num_images):
            try:
                image = decode_image(self.payloads(np.array([index]))[0].data)
            except RecordError:
                continue
            if image is not None:
                return image.shape[0], image.shape[1]
        return 0, 0

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

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def _read_headers(file: RecordFile, offsets: Ints) -> tuple[Ints, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Labels of the records at these offsets, and whether they are header or identity records."""
    try:
        located = file.locate(offsets)
    except RecordError:
        if len(offsets) == 1:
            return np.full(1, UNKNOWN), np.zeros(1, dtype=bool)
        middle = len(offsets) // 2
        parts = [_read_headers(file, part) for part in (offsets[:middle], offsets[middle:])]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    with np.errstate(invalid="ignore"):
        whole = np.where(np.isfinite(located.label) & (located.label >= 0), located.label, UNKNOWN).astype(
            np.int64
        )
    labels = np.where(whole == located.label, whole, UNKNOWN)
    return labels, (located.flag == 2) & (located.begin == located.end) & (located.begin >= 0)

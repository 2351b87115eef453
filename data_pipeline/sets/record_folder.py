"""A record folder as labelled images by index; `layout.py` says how the folder is laid out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipeline.errors import RecordError
from data_pipeline.records.file import RecordFile
from data_pipeline.records.reader import Ints
from data_pipeline.sets.fingerprint import SetFingerprint, digest_of_names, digest_of_some_images
from data_pipeline.sets.identities import read_identities
from data_pipeline.sets.record_table import read_record_table, record_files, table_state
from data_pipeline.sets.source import Origin, Payloads, SourceBase
from data_pipeline.sets.table import MISSING, OFFSET_BITS, OFFSET_MASK, ImageTable
from data_pipeline.sets.table_store import stored_table
from data_pipeline.sets.writer import FaceDatasetWriter, write_dataset

__all__ = ["FaceDataset", "FaceDatasetWriter", "write_dataset"]

_SOME_BYTES = 1 << 16
_ADVICE = "`cosface inspect` lists all damaged records; copy the file again, or leave them out"


class FaceDataset(SourceBase):
    """Labelled images of a record folder, by index 0..num_images-1; made by `FaceDataset.open`.

    labels: int32 [num_images], the class of each image, not to be written. image_size: (height, width) as
    stored. Images are read through a memory map on demand. It is an `ImageSource`; pickled, it opens the
    folder again where it arrives.
    """

    def __init__(self, folder: Path, files: list[RecordFile], table: ImageTable, min_images: int = 0) -> None:
        self.folder = folder
        self.files = files
        self.labels = table.label
        self._table = table
        self._min_images = min_images

    @classmethod
    def open(cls, folder: str | Path, *, min_images: int = 0) -> FaceDataset:
        """Open a folder with a train.rec, or else with any number of .rec files, or one .rec file.

        Several files are one set: their labels are of the same classes. min_images: leave out classes with
        fewer and number the others anew; 0 leaves all as they are. Raises DatasetError if the folder is
        missing, holds no image or contradicts itself, and RecordError if a record that is read on opening
        is damaged.
        """
        folder = Path(folder)
        paths = record_files(folder)
        table = stored_table(
            table_state(folder, paths, min_images), lambda: read_record_table(paths, min_images)
        )
        files: list[RecordFile] = []
        try:
            for path in paths:
                files.append(RecordFile(path, _ADVICE))
        except BaseException:
            for file in files:
                file.close()
            raise
        return cls(folder, files, table, min_images)

    @property
    def name(self) -> str:
        """What the user called it."""
        return str(self.folder)

    @property
    def num_images(self) -> int:
        """Number of images; header and identity records are none."""
        return len(self._table)

    def __len__(self) -> int:
        return self.num_images

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._table.num_classes

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), as stated in `property` or of most images."""
        return self._table.image_size

    @property
    def uniform(self) -> bool:
        """Whether all images have this size; always, where `property` states it."""
        return self._table.uniform

    @property
    def keys(self) -> Ints:
        """The images' record keys, int64 [num_images], a copy."""
        return self._table.key.astype(np.int64)

    @property
    def file(self) -> Path:
        """The record file; the first if there are several."""
        return self.files[0].path

    def key(self, index: int) -> int:
        """The record key of one image."""
        return int(self._table.key[index])

    def offset(self, index: int) -> int:
        """The byte offset of one image's record in its file, -1 if it is missing there."""
        offset = self._table.where(index)[1]
        return -1 if offset == MISSING else offset

    def origin(self, index: int) -> Origin:
        """Where one image's record is; the offset is -1 if it is missing there."""
        file, _ = self._table.where(index)
        return Origin(self.files[file].path, self.offset(index), self.key(index), int(self.labels[index]))

    def labels_of(self, indices: Ints) -> Ints:
        """The classes of these images, int64 [n]."""
        return self.labels[indices].astype(np.int64)

    def payload(self, index: int) -> memoryview:
        """The encoded image, without a copy. Raises RecordError if the record is damaged or missing."""
        file, offset = self._table.where(index)
        if offset == MISSING:
            raise self._missing(file)
        return self.files[file].payload(offset)

    def payloads(self, indices: Ints) -> Payloads:
        """The encoded images as uint8 arrays over the memory map; headers are looked up for all at once.

        Raises RecordError if one of the records is damaged or missing.
        """
        places = self._table.place[indices]
        missing = places & OFFSET_MASK == MISSING
        if missing.any():
            raise self._missing(int(places[missing][0]) >> OFFSET_BITS)
        if len(self.files) == 1:
            return self.files[0].payloads(places)
        numbers, offsets = places >> OFFSET_BITS, places & OFFSET_MASK
        views: Payloads = [np.zeros(0, dtype=np.uint8)] * len(indices)
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            for at, view in zip(here.tolist(), self.files[number].payloads(offsets[here]), strict=True):
                views[at] = view
        return views

    @property
    def stored_bytes(self) -> int:
        """Bytes of the record files."""
        return sum(file.size for file in self.files)

    def will_need(self, first: int, last: int) -> None:
        """Ask the system to read images first … last - 1 ahead, which should be neighbours in a file."""
        number, start = self._table.where(first)
        end_number, end = self._table.where(last) if last < self.num_images else (number, -1)
        if end_number != number or end <= start:
            # The last of its file, or not sorted by place: the first image's beginning, at least.
            end = start + _SOME_BYTES
        self.files[number].will_need(start, end)

    def expect_random_reads(self) -> None:
        """Tell the system that images will be read in random order."""
        for file in self.files:
            file.expect_random_reads()

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""
        return self._table.class_counts()

    def fingerprint(self) -> SetFingerprint:
        """What makes this set no other; of a set whose table is kept in milliseconds, whatever its size."""
        table, digests = self._table, self._table.digests()
        return SetFingerprint(
            self.name,
            len(table),
            table.num_classes,
            digests.counts,
            digests.labels,
            digest_of_some_images(self, of_all=digests.places),
            digest_of_names(self),
        )

    def identity_names(self) -> list[str] | None:
        """The names in `identities.csv`, [num_classes]; None if it is none or leaves a class out."""
        names = read_identities(self.file.parent)
        if names is None or len(names) < self.num_classes:
            return None
        if not self._min_images:
            stated: Iterable[int] = range(self.num_classes)
            fits = len(names) == self.num_classes
        else:
            # Classes were numbered anew; the records still have the old numbers.
            stated, fits = self._stated_classes(), True
        found = [names[label] for label in stated if label in names]
        return found if fits and len(found) == self.num_classes else None

    def largest_stated_class(self) -> int:
        """The largest class that a record states, or that `property` does if none was left out."""
        last = self.num_classes - 1
        return self._first_readable(np.flatnonzero(self.labels == last)) if self._min_images else last

    def _stated_classes(self) -> list[int]:
        """What the records of each class say that it is, [num_classes]."""
        firsts = np.unique(self.labels, return_index=True)[1]
        stated = np.zeros(len(firsts), dtype=np.int64)
        for number in range(len(self.files)):
            here = np.flatnonzero(self._table.place[firsts] >> OFFSET_BITS == number)
            try:
                stated[here] = self.files[number].locate(self._table.place[firsts[here]] & OFFSET_MASK).label
            except RecordError:
                for label in here.tolist():
                    stated[label] = self._first_readable(np.flatnonzero(self.labels == label))
        return stated.tolist()

    def _first_readable(self, indices: Ints) -> int:
        """What the first of these images' records that is not damaged says of its class, or -1."""
        for index in indices.tolist():
            file, offset = self._table.where(index)
            with contextlib.suppress(RecordError):
                return int(self.files[file].locate(np.array([offset])).label[0])
        return -1

    def _missing(self, file: int) -> RecordError:
        return RecordError(
            self.files[file].path, -1, "the header record promises this image, but the index has no such key"
        )

    def close(self) -> None:
        """Let go of the record files."""
        for file in self.files:
            file.close()

    def __reduce__(self) -> tuple[object, tuple[Path, int]]:
        return _reopen, (self.folder.absolute(), self._min_images)


def _reopen(folder: Path, min_images: int) -> FaceDataset:
    return FaceDataset.open(folder, min_images=min_images)

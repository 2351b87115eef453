"""A record folder as labelled images by index; `folder_layout.py` says how the folder is laid out."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.dataset_writer import FaceDatasetWriter, write_dataset
from data_pipeline.errors import DatasetError
from data_pipeline.folder_layout import check_classes, find_images, read_property, size_of_first
from data_pipeline.recordio import Ints, RecordReader

__all__ = ["FaceDataset", "FaceDatasetWriter", "write_dataset"]


class FaceDataset:
    """Labelled images of a record folder, by index 0..num_images-1; made by `FaceDataset.open`.

    labels: int64 [num_images], the class of each image. keys: int64 [num_images], its record's key.
    image_size: (height, width) as stored. Images are read through a memory map on demand.
    """

    def __init__(
        self,
        folder: Path,
        reader: RecordReader,
        places: Ints,
        labels: Ints,
        num_classes: int,
        size: tuple[int, int],
    ) -> None:
        self.folder = folder
        self.reader = reader
        self.labels = labels
        self.num_classes = num_classes
        self.image_size = size
        self._places = places

    @classmethod
    def open(cls, folder: str | Path) -> FaceDataset:
        """Open a folder.

        Raises DatasetError if it is missing, holds no image or contradicts itself, and RecordError if a
        record that is read on opening is damaged.
        """
        folder = Path(folder)
        rec = folder / "train.rec"
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; a folder with train.rec, train.idx and property is expected"
            )
        try:
            present = rec.is_file()
        except OSError as error:
            raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None
        if not present:
            raise DatasetError(
                f"{folder}: holds no train.rec; `cosface pack` makes one from a folder of images"
            )
        stated = read_property(folder / "property")
        reader = RecordReader(rec, folder / "train.idx")
        try:
            places, labels, identities = find_images(reader)
            if not len(places):
                raise DatasetError(f"{rec}: holds no image record")
            if stated is None:
                num_classes = identities or int(labels.max()) + 1
                size = size_of_first(reader, places)
            else:
                num_classes, size = stated[0], (stated[1], stated[2])
            check_classes(reader, places, labels, num_classes, identities, stated is not None)
            return cls(folder, reader, places, labels, num_classes, size)
        except BaseException:
            reader.close()
            raise

    @property
    def num_images(self) -> int:
        """Number of images; header and identity records are none."""
        return len(self._places)

    def __len__(self) -> int:
        return self.num_images

    @property
    def keys(self) -> Ints:
        """The images' record keys, int64 [num_images]."""
        return self.reader.key_array[self._places]

    @property
    def file(self) -> Path:
        """The record file."""
        return self.reader.rec

    def key(self, index: int) -> int:
        """The record key of one image."""
        return int(self.reader.key_array[self._places[index]])

    def offset(self, index: int) -> int:
        """The byte offset of one image's record in the file."""
        return int(self.reader.offsets[self._places[index]])

    def payload(self, index: int) -> memoryview:
        """The encoded image, without a copy. Raises RecordError if the record is damaged."""
        return self.reader.payload_view(self.key(index))

    def payloads(self, indices: Ints) -> list[npt.NDArray[np.uint8]]:
        """The encoded images as uint8 arrays over the memory map; headers are looked up for all at once."""
        located = self.reader.locate(self._places[indices])
        buffer = self.reader.buffer
        views = [
            buffer[begin:end] for begin, end in zip(located.begin.tolist(), located.end.tolist(), strict=True)
        ]
        for place in np.flatnonzero(located.begin < 0):
            views[place] = np.frombuffer(self.payload(int(indices[place])), dtype=np.uint8)
        return views

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    def close(self) -> None:
        """Let go of the record file."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

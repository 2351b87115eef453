"""Writing a record folder; `layout.py` says how it is laid out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from data_pipeline.errors import DatasetError
from data_pipeline.files.atomic import FolderReplacement
from data_pipeline.files.output_folder import in_use, is_in_use
from data_pipeline.records.writer import RecordWriter, encode
from data_pipeline.sets.layout import EXACT_IN_FLOAT32


class FaceDatasetWriter:
    """Write a record folder image by image, identities in ascending order; it appears at a clean close.

    Raises DatasetError if the folder exists and is not empty, ValueError for labels that are out of order
    or out of range. num_classes None: as many as the labels that come need. Files put into `temporary`
    before the close become part of the folder.
    """

    def __init__(self, folder: str | Path, num_classes: int | None, image_size: tuple[int, int]) -> None:
        if num_classes is not None and not 0 < num_classes <= EXACT_IN_FLOAT32:
            raise DatasetError(
                f"{folder}: classes must be between 1 and {EXACT_IN_FLOAT32}, got {num_classes}"
            )
        self.folder = Path(folder)
        self._stated_classes = num_classes
        self.image_size = image_size
        self.num_images = 0
        self._label = 0
        self._counts = [0] * (num_classes or 0)
        try:
            if is_in_use(self.folder):
                raise in_use(folder)
            self._new = FolderReplacement(self.folder)
        except OSError as error:
            raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}") from None
        self.temporary = self._new.temporary
        self._writer = RecordWriter(self.temporary / "train.rec", self.temporary / "train.idx")
        # The header's numbers are known at the end; a record of the same length holds its place.
        self._writer.write(0, label=[0.0, 0.0], id=0, payload=b"")

    @property
    def num_classes(self) -> int:
        """The classes stated, or those needed so far."""
        return len(self._counts)

    def add(self, label: int, payload: bytes) -> None:
        """Append one encoded image of class `label`."""
        limit = self._stated_classes or EXACT_IN_FLOAT32
        if not 0 <= label < limit:
            raise ValueError(f"label must be between 0 and {limit - 1}, got {label}")
        if label < self._label:
            raise ValueError(f"labels must come in ascending order, got {label} after {self._label}")
        self._label = label
        self.num_images += 1
        self._counts.extend([0] * (label + 1 - len(self._counts)))
        self._counts[label] += 1
        self._writer.write(self.num_images, label=float(label), id=self.num_images, payload=payload)

    def close(self) -> None:
        """Write the identity records and `property` and give the folder its name."""
        first_identity = self.num_images + 1
        for identity, labels in enumerate(_image_ranges(self._counts)):
            key = first_identity + identity
            self._writer.write(key, label=labels, id=key, payload=b"")
        self._writer.close()
        with (self.temporary / "train.rec").open("r+b") as file:
            file.write(header_record(self.num_images, self.num_classes))
        height, width = self.image_size
        (self.temporary / "property").write_text(f"{self.num_classes},{height},{width}\n", encoding="ascii")
        self._new.commit()

    def abort(self) -> None:
        """Throw away what was written."""
        self._writer.abort()
        self._new.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.close()
        except BaseException:
            self.abort()
            raise


def header_record(num_images: int, num_classes: int) -> bytes:
    """Record 0: which keys are images and which identities. Its length knows neither number."""
    return encode([num_images + 1, num_images + num_classes + 1], 0, b"")


def identity_records(counts: Sequence[int]) -> Iterator[bytes]:
    """The records behind the images': each class's range of keys, of the numbers of images of all classes."""
    first_identity = sum(counts) + 1
    for identity, labels in enumerate(_image_ranges(counts)):
        yield encode(labels, first_identity + identity, b"")


def _image_ranges(counts: Sequence[int]) -> Iterator[list[int]]:
    end = 1
    for count in counts:
        end += count
        yield [end - count, end]


def write_dataset(
    folder: str | Path, images: Iterable[tuple[int, bytes]], num_classes: int, image_size: tuple[int, int]
) -> None:
    """Write (label, encoded image) pairs as a record folder, sorted by label, otherwise in their order."""
    with FaceDatasetWriter(folder, num_classes, image_size) as writer:
        for label, payload in sorted(images, key=lambda pair: pair[0]):
            writer.add(label, payload)

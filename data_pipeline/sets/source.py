"""What a set of training images is to whoever reads it: labelled, encoded images by index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Payloads = list[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Origin:
    """Where an image comes from: its file, the byte at which its record starts there (-1 if it is missing),
    the record's key, and its class.
    """

    file: Path
    offset: int
    key: int
    label: int

    def __str__(self) -> str:
        byte = f"byte {self.offset}: " if self.offset >= 0 else ""
        return f"{self.file}: {byte}record {self.key} of class {self.label}"


class ImageSource(Protocol):
    """Labelled, encoded images by index 0 … num_images - 1, classes 0 … num_classes - 1.

    A class may be without images. image_size is (height, width); if `uniform`, every image has it, otherwise
    images are brought to it on reading. May be used from several threads at once.
    """

    @property
    def name(self) -> str:
        """What the user called it, for messages."""

    @property
    def num_images(self) -> int:
        """Number of images."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""

    @property
    def uniform(self) -> bool:
        """Whether every image has `image_size`, one that has not being damaged."""

    def labels_of(self, indices: Ints) -> Ints:
        """The classes of these images, int64 [n]."""

    def payloads(self, indices: Ints) -> Payloads:
        """The encoded images (JPEG, PNG, …), one uint8 array each; read-only.

        Raises RecordError for the first whose record is damaged.
        """

    def origin(self, index: int) -> Origin:
        """Where one image comes from."""

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""

    def identity_names(self) -> list[str] | None:
        """The name of each class's identity, [num_classes], if the set knows names; made when asked for.

        Names that are no UTF-8 hold lone surrogates, as `os.fsdecode` makes them.
        """

    @property
    def stored_bytes(self) -> int:
        """What the images take on a disk, as far as known without looking; 0 for what lies on none."""

    def will_need(self, first: int, last: int) -> None:
        """A hint that images first … last - 1, neighbours in storage, will be read soon; returns at once."""

    def expect_random_reads(self) -> None:
        """A hint that what is read next will seldom lie beside what was read last."""

    def close(self) -> None:
        """Let go of files."""


class SourceBase:
    """What an `ImageSource` is that names nobody, holds nothing open and gains nothing from hints; a context
    manager.
    """

    def identity_names(self) -> list[str] | None:
        """None: nobody is named."""
        return None

    @property
    def stored_bytes(self) -> int:
        """0: unknown, or on no disk."""
        return 0

    def will_need(self, first: int, last: int) -> None:
        """Nothing can be made ready."""

    def expect_random_reads(self) -> None:
        """Nothing can be made ready."""

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

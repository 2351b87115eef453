"""A folder of image files, one sub-folder an identity, as a set of training images."""

from __future__ import annotations

import copy
import os
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError, DatasetError, RecordError
from data_pipeline.files.regular import open_regular
from data_pipeline.images.decode import decoded, encode_png, fit
from data_pipeline.images.header import read_header
from data_pipeline.sets.digests import Hash, digest_of_numbers
from data_pipeline.sets.fingerprint import SetFingerprint, digest_of_names, digest_of_some_images
from data_pipeline.sets.source import Ints, Origin, Payloads, SourceBase
from data_pipeline.sets.tree import read_tree

Encoded = npt.NDArray[np.uint8]

USUAL_SIZE = (112, 112)
_SAMPLED = 256
_NAMED = 3
_LARGEST_FILE = 64 << 20


class NoUsableImages(DatasetError):
    """A folder of images none of which can be used, as far as a sample of them tells."""


class ImageFiles(SourceBase):
    """FOLDER/identity/file, classes and images in the order of their names; an `ImageSource`.

    If a sample of the images has one size, that is `image_size`, and what has another comes resized to it;
    otherwise images are brought to 112 × 112 by whoever reads them. No file is opened before it is asked for
    but the sample's, and those whose names are no image's. min_images: leave out identities with fewer
    images; follow_links: see `read_tree`, which says which files are images. Raises DatasetError if the
    folder cannot be read or holds no image, or is laid out otherwise; NoUsableImages if none of the sample
    can be used (for_training False lets that pass). The names take as many bytes as they have letters, and 12
    an image. notes: what a person should know of the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        min_images: int = 0,
        follow_links: bool = False,
        for_training: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self._min_images = min_images
        tree = read_tree(self.folder, follow_links=follow_links)
        files, self.notes = tree.files, (*tree.left_out, *tree.notes)
        names: list[bytes] = []
        labels: list[int] = []
        self.num_classes = 0
        for _, members in groupby(files, key=lambda file: file[0]):
            paths = [os.fsencode(path.relative_to(self.folder)) for _, path in members]
            if len(paths) < min_images:
                continue
            names += paths
            labels += [self.num_classes] * len(paths)
            self.num_classes += 1
        if not names:
            raise DatasetError(
                f"{folder}: no identity has {min_images} images or more; choose a lower data.min-images"
            )
        self._ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        self._names = b"".join(names)
        self._labels = np.array(labels, dtype=np.int32)
        self.uniform, self.image_size = self._sample_sizes(for_training)
        self._resizes = self.uniform

    @property
    def name(self) -> str:
        """What the user called it."""
        return str(self.folder)

    @property
    def num_images(self) -> int:
        """Number of image files."""
        return len(self._labels)

    def path(self, index: int) -> Path:
        """The file of one image."""
        first = int(self._ends[index - 1]) if index else 0
        return self.folder / os.fsdecode(self._names[first : int(self._ends[index])])

    def labels_of(self, indices: Ints) -> Ints:
        """The classes of these images, int64 [n]."""
        return self._labels[indices].astype(np.int64)

    def as_stored(self) -> Self:
        """The same set, its `payloads` being the files' bytes whatever size they have."""
        other = copy.copy(self)
        other._resizes = False
        return other

    def payloads(self, indices: Ints) -> Payloads:
        """The files' contents; if the set has one size, those of another as PNGs of it.

        Raises RecordError for the first that cannot be read.
        """
        contents = []
        for index in indices.tolist():
            path = self.path(index)
            try:
                content = np.frombuffer(_read(path), dtype=np.uint8)
            except DataInputError as error:
                raise RecordError(path, 0, str(error).partition(": ")[2]) from None
            contents.append(fitted(content, self.image_size) if self._resizes else content)
        return contents

    def origin(self, index: int) -> Origin:
        """Where one image comes from; its key is its place in the set."""
        return Origin(self.path(index), 0, index, int(self._labels[index]))

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]."""
        return np.bincount(self._labels, minlength=self.num_classes).astype(np.int64)

    def fingerprint(self) -> SetFingerprint:
        """What makes this set no other: names of folders and of the files in them, and some files' bytes."""
        files, first = Hash(), 0
        for end in self._ends.tolist():
            files.piece(self._names[first:end].partition(os.fsencode(os.sep))[2])
            first = end
        return SetFingerprint(
            self.name,
            self.num_images,
            self.num_classes,
            digest_of_numbers(self.class_counts(), "<i8"),
            digest_of_numbers(self._labels, "<i4"),
            digest_of_some_images(self.as_stored(), of_all=files.hexdigest()),
            digest_of_names(self),
        )

    def identity_names(self) -> list[str]:
        """The identities' folders, [num_classes]."""
        firsts = np.unique(self._labels, return_index=True)[1]
        return [self.path(index).relative_to(self.folder).parts[0] for index in firsts.tolist()]

    def _sample_sizes(self, for_training: bool) -> tuple[bool, tuple[int, int]]:
        sizes = set()
        refused: list[str] = []
        for index in np.unique(np.linspace(0, self.num_images - 1, _SAMPLED).astype(np.int64)).tolist():
            try:
                image = decoded(np.frombuffer(_read(self.path(index)), dtype=np.uint8))
            except DataInputError as error:
                refused.append(str(error))
                continue
            if isinstance(image, str):
                refused.append(f"{self.path(index)}: {image}")
            else:
                sizes.add((image.shape[0], image.shape[1]))
        if not sizes and for_training:
            more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
            raise NoUsableImages(
                f"{self.folder}: none of {len(refused)} images looked at can be used: "
                f"{'; '.join(refused[:_NAMED])}{more}; `cosface inspect` lists all"
            )
        return (True, sizes.pop()) if len(sizes) == 1 else (False, USUAL_SIZE)


def fitted(content: Encoded, size: tuple[int, int]) -> Encoded:
    """An encoded image, uint8 [n], as it is if it has `size` (height, width), else as a PNG of that size.

    What cannot be decoded stays as it is too: whoever decodes it names it.
    """
    header = read_header(content.tobytes())
    turned = header is not None and not header.plain and header.width != header.height
    if header is None or ((header.height, header.width) == size and not turned):
        return content
    image = decoded(content)
    if isinstance(image, str) or image.shape[:2] == size:
        return content
    return encode_png(fit(image, size))


def _read(path: Path) -> bytes:
    """A file's bytes. Raises DataInputError, also for a pipe, which would be waited for, and for a film."""
    try:
        with open_regular(path, "an image") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise DataInputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_FILE:
        raise DataInputError(f"{path}: more than {_LARGEST_FILE >> 20} MiB are no image to train on")
    return content

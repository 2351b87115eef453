"""What `cosface inspect` can look at: all that a run trains on, and verification sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import PairSetError, RecordError
from data_pipeline.inspection.loose_records import LooseRecords
from data_pipeline.pairs import PairSet, read_bin
from data_pipeline.records.file import RecordFile
from data_pipeline.sets.image_folder import ImageFiles, NoUsableImages
from data_pipeline.sets.notes import notes_on
from data_pipeline.sets.open import open_source
from data_pipeline.sets.record_folder import FaceDataset
from data_pipeline.sets.source import ImageSource, Ints, Origin, Payloads, SourceBase


@dataclass(frozen=True)
class OpenedSet:
    """A set to be inspected. stated_labels: the labels in the images' own records, float32 [n], if there
    are such. file_bytes: of its record files, None without. pairs: if it is a verification set. refusal:
    why it cannot be trained on as it is. notes: what to know of how its files lie.
    """

    source: ImageSource
    stated_labels: Callable[[Ints], npt.NDArray[np.float32]] | None = None
    file_bytes: int | None = None
    pairs: PairSet | None = None
    refusal: str | None = None
    notes: tuple[str, ...] = ()


def open_set(path: str | Path, *, follow_links: bool = False) -> OpenedSet:
    """Open what is to be inspected.

    Raises DatasetError or PairSetError for what is missing, contradicts itself or is no set, and RecordError
    for a file whose records cannot even be told apart.
    """
    if Path(path).suffix == ".bin":
        pairs = read_bin(path)
        return OpenedSet(PairImages(Path(path), pairs), pairs=pairs)
    try:
        source = open_source([path], follow_links=follow_links)
    except NoUsableImages as error:
        images = ImageFiles(path, follow_links=follow_links, for_training=False)
        return OpenedSet(images.as_stored(), refusal=str(error), notes=images.notes)
    except RecordError as error:
        # The labels of some records must be read to open a set for training; here the rest is of interest.
        loose = LooseRecords.open(Path(path))
        if loose is None:
            raise
        return OpenedSet(loose, None, loose.file.size, refusal=str(error))
    if isinstance(source, FaceDataset):
        file_bytes = sum(file.size for file in source.files)
        notes = tuple(notes_on(source))
        return OpenedSet(source, partial(_stated_labels, source), file_bytes, notes=notes)
    if isinstance(source, ImageFiles):
        return OpenedSet(source.as_stored(), notes=source.notes)
    return OpenedSet(source)


def _stated_labels(dataset: FaceDataset, indices: Ints) -> npt.NDArray[np.float32]:
    files: dict[Path, RecordFile] = {file.path: file for file in dataset.files}
    origins = [dataset.origin(index) for index in indices.tolist()]
    labels = np.zeros(len(indices), dtype=np.float32)
    for path in {origin.file for origin in origins}:
        here = [place for place, origin in enumerate(origins) if origin.file == path]
        offsets = np.array([origins[place].offset for place in here], dtype=np.int64)
        labels[here] = files[path].locate(offsets).label
    return labels


class PairImages(SourceBase):
    """The images of a `.bin` as an `ImageSource`: two a pair, the pair's number their class."""

    uniform = False

    def __init__(self, path: Path, pairs: PairSet) -> None:
        if not len(pairs):
            raise PairSetError(f"{path}: holds no pair")
        self._path, self._pairs = path, pairs
        self.image_size = (0, 0)

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def num_images(self) -> int:
        """Two a pair, the same image counted each time it is used."""
        return len(self._pairs.images)

    @property
    def num_classes(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def labels_of(self, indices: Ints) -> Ints:
        """The pairs' numbers, int64 [n]."""
        return np.asarray(indices, dtype=np.int64) // 2

    def payloads(self, indices: Ints) -> Payloads:
        """The encoded images."""
        return [np.frombuffer(self._pairs.images[index], dtype=np.uint8) for index in indices.tolist()]

    def origin(self, index: int) -> Origin:
        """The image's place in the list; its bytes have no offset of their own."""
        return Origin(self._path, 0, index, index // 2)

    def class_counts(self) -> Ints:
        """Two for each pair, int64 [pairs]."""
        return np.full(len(self._pairs), 2, dtype=np.int64)

    @property
    def stored_bytes(self) -> int:
        """What the encoded images take, one that is used twice counted twice."""
        return sum(map(len, self._pairs.images))

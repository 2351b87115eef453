"""A record folder as a whole: the layout in which MS1M, Glint360K and WebFace42M are handed out.

`train.rec`, `train.idx` and `property` ("classes,height,width"). Record 0 is a header with the labels
[N+1, N+C+1], records 1..N are images labelled with their class, records N+1..N+C hold each identity's
range of image keys as labels [first, last). Folders of image records alone, as mxnet's im2rec writes them,
and shuffled ones whose header names no identity records are understood too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import DatasetError
from data_pipeline.records.reader import Ints, RecordReader
from data_pipeline.sets.identity_ranges import labels_by_range, like_the_one_before
from data_pipeline.sets.record_labels import are_no_images, contradiction, labels_of

# Labels and key ranges are float32 in this format: above this, whole numbers are rounded.
EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class FoundImages:
    """The images of one record file. keys, labels, offsets: int64 [N]; offset -1 is that of an image which
    the header record promises and the index has not. identities: how many identity records there are, if
    each is of a class of its own.
    """

    keys: Ints
    labels: Ints
    offsets: Ints
    identities: int | None = None


def find_images(reader: RecordReader) -> FoundImages:
    """A record file's images and their classes. Raises DatasetError where the file contradicts itself."""
    header = reader.positions(np.zeros(1, dtype=np.int64))
    if header[0] < 0 or not are_no_images(reader, header)[0]:
        return _all_that_hold_something(reader, 0)
    stated = reader.vectors(header, 2)[0]
    if not (stated >= 0).all() or np.isinf(stated).any():
        reason = f"labels {stated.tolist()}; [images + 1, images + classes + 1] are expected"
        raise contradiction(reader, header[0], reason)
    first, last = (int(number) for number in stated)
    if max(first, last) >= EXACT_IN_FLOAT32:
        return _all_that_hold_something(reader, 0)  # rounded numbers
    if first >= last:
        return _all_that_hold_something(reader, first - 1)
    # Of more than twice as many as there are records, most are missing: no need to look at all.
    most = 2 * len(reader) + 2
    places = reader.positions(np.arange(1, min(first, 1 + most), dtype=np.int64))
    identities = reader.positions(np.arange(first, min(last, first + most), dtype=np.int64))
    for found, promised in ((places, first - 1), (identities, last - first)):
        if 2 * int((found >= 0).sum()) < promised:
            raise _most_are_missing(reader, first, last, np.concatenate([places, identities]))
    labels, one_class_each = labels_by_range(reader, places, identities[identities >= 0], first)
    offsets = np.where(places >= 0, reader.offsets[places], -1)
    return FoundImages(np.arange(1, first), labels, offsets, last - first if one_class_each else None)


def _all_that_hold_something(reader: RecordReader, promised: int) -> FoundImages:
    """All records but those of headers and identities; and missing ones, if keys 1 to promised should be."""
    images = np.arange(len(reader), dtype=np.int64)
    images = images[~are_no_images(reader, images)]
    keys, labels, offsets = reader.key_array[images], labels_of(reader, images), reader.offsets[images]
    if 0 < promised <= 2 * len(images):
        expected = np.arange(1, promised + 1)
        missing = expected[reader.positions(expected) < 0]
        if 0 < len(missing) < promised / 2:
            keys = np.concatenate([keys, missing])
            offsets = np.concatenate([offsets, np.full(len(missing), -1)])
            in_order = np.argsort(keys, kind="stable")
            labels = np.concatenate([labels, np.full(len(missing), -1)])
            labels[in_order] = like_the_one_before(labels[in_order])
    return FoundImages(keys, labels, offsets)


def _most_are_missing(reader: RecordReader, first: int, last: int, places: Ints) -> DatasetError:
    missing = np.flatnonzero(places < 0)
    return DatasetError(
        f"{reader.rec}: the header record (key 0) promises images 1 to {first - 1} and identity records "
        f"up to {last - 1}, but key {int(missing[0]) + 1} is not in the index ({reader.idx or 'rebuilt'}), "
        f"nor are {len(missing) - 1} others"
    )


def check_classes(reader: RecordReader, found: FoundImages, num_classes: int, stated: bool) -> None:
    """Refuse classes that disagree with the labels or the identity records (DatasetError)."""
    source = "`property` says" if stated else "there are"
    if found.identities is not None and found.identities != num_classes:
        raise DatasetError(
            f"{reader.rec.with_name('property')}: says {num_classes} classes, but {reader.rec} has "
            f"{found.identities} identity records; the two must agree"
        )
    largest = int(np.argmax(found.labels))
    if found.labels[largest] >= num_classes:
        raise DatasetError(
            f"{reader.rec}: record {found.keys[largest]} at byte {found.offsets[largest]}: label "
            f"{found.labels[largest]}, but {source} {num_classes} classes; labels below that are expected"
        )

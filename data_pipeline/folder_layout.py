"""A record folder as a whole: the layout in which MS1M, Glint360K and WebFace42M are handed out.

`train.rec`, `train.idx` and `property` ("classes,height,width"). Record 0 is a header with the labels
[N+1, N+C+1], records 1..N are images labelled with their class, records N+1..N+C hold each identity's
range of image keys as labels [first, last). Folders of image records alone, as mxnet's im2rec writes them,
and shuffled ones whose header names no identity records are understood too.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from data_pipeline.decode import decode_image
from data_pipeline.errors import DatasetError
from data_pipeline.recordio import Ints, RecordReader

# Labels and key ranges are float32 in this format: above this, whole numbers are rounded.
EXACT_IN_FLOAT32 = 1 << 24
_CHUNK = 1 << 20


def find_images(reader: RecordReader) -> tuple[Ints, Ints, int | None]:
    """Places in the index and labels of the images, and the number of identity records if there are any."""
    every = np.arange(len(reader), dtype=np.int64)
    header = reader.positions(np.zeros(1, dtype=np.int64))
    if header[0] < 0 or not _is_empty_vector(reader, header)[0]:
        return every, _labels(reader, every), None
    stated = reader.vectors(header, 2)[0]
    if not (stated >= 0).all() or np.isinf(stated).any():
        reason = f"labels {stated.tolist()}; [images + 1, images + classes + 1] are expected"
        raise _contradiction(reader, header[0], reason)
    first, last = (int(number) for number in stated)
    if max(first, last) >= EXACT_IN_FLOAT32 or first >= last:
        # Rounded ranges, or none: the images are the records that hold something.
        images = np.concatenate([chunk[~_is_empty_vector(reader, chunk)] for chunk in _chunks(every)])
        return images, _labels(reader, images), None
    # Of more keys than there are records, one that is missing comes early.
    most = len(reader) + 1
    places = reader.positions(np.arange(1, min(first, 1 + most), dtype=np.int64))
    identities = reader.positions(np.arange(first, min(last, first + most), dtype=np.int64))
    missing = np.flatnonzero(np.concatenate([places, identities]) < 0)
    if len(missing):
        raise DatasetError(
            f"{reader.rec}: the header record (key 0) promises images 1 to {first - 1} and identity records "
            f"up to {last - 1}, but key {int(missing[0]) + 1} is not in the index ({reader.idx or 'rebuilt'})"
        )
    ranges = _identity_ranges(reader, identities, first)
    return places, _labels_of_ranges(reader, places, identities, ranges), len(identities)


def _identity_ranges(reader: RecordReader, identities: Ints, end_key: int) -> Ints:
    """[C, 2]: each identity record's range of image keys, last exclusive."""
    wrong = ~_is_empty_vector(reader, identities)
    if wrong.any():
        raise _contradiction(
            reader, identities[np.argmax(wrong)], "an identity record with two labels is expected"
        )
    with np.errstate(invalid="ignore"):
        ranges = reader.vectors(identities, 2).astype(np.int64)
    wrong = (ranges[:, 0] < 1) | (ranges[:, 1] < ranges[:, 0]) | (ranges[:, 1] > end_key)
    if wrong.any():
        at = int(np.argmax(wrong))
        reason = f"image range {ranges[at].tolist()} does not lie between 1 and {end_key}"
        raise _contradiction(reader, identities[at], reason)
    return ranges


def _labels_of_ranges(reader: RecordReader, places: Ints, identities: Ints, ranges: Ints) -> Ints:
    """Labels of all images from those of each range's first and last; if the ranges leave gaps, from all."""
    filled = ranges[ranges[:, 1] > ranges[:, 0]]
    owners = identities[ranges[:, 1] > ranges[:, 0]]
    order = np.argsort(filled[:, 0], kind="stable")
    filled, owners = filled[order], owners[order]
    borders = np.concatenate([[1], filled[:, 1]])
    if not np.array_equal(borders, np.concatenate([filled[:, 0], [len(places) + 1]])):
        return _labels(reader, places)
    of_first = _labels(reader, places[filled[:, 0] - 1])
    of_last = _labels(reader, places[filled[:, 1] - 2])
    wrong = of_first != of_last
    if wrong.any():
        at = int(np.argmax(wrong))
        reason = (
            f"images {filled[at, 0]} and {filled[at, 1] - 1} of one identity have labels {of_first[at]} and "
        )
        raise _contradiction(reader, owners[at], reason + f"{of_last[at]}; one label is expected")
    return np.repeat(of_first, filled[:, 1] - filled[:, 0])


def _labels(reader: RecordReader, places: Ints) -> Ints:
    """The class in each record's header. Raises DatasetError for one that is not a whole number from 0."""
    labels = np.zeros(len(places), dtype=np.int64)
    for start in range(0, len(places), _CHUNK):
        chunk = places[start : start + _CHUNK]
        found = reader.locate(chunk).label
        with np.errstate(invalid="ignore"):
            whole = np.where(np.isfinite(found), found, -1.0).astype(np.int64)
        wrong = (whole != found) | (whole < 0)
        if wrong.any():
            at = int(np.argmax(wrong))
            reason = f"label {found[at]:g}; a whole number from 0 is expected"
            raise _contradiction(reader, chunk[at], reason)
        labels[start : start + len(chunk)] = whole
    return labels


def _is_empty_vector(reader: RecordReader, places: Ints) -> npt.NDArray[np.bool_]:
    """Whether these are header or identity records: two labels and no payload."""
    located = reader.locate(places)
    empty: npt.NDArray[np.bool_] = (located.flag == 2) & (located.begin == located.end) & (located.begin >= 0)
    return empty


def _chunks(places: Ints) -> Iterable[Ints]:
    return (places[start : start + _CHUNK] for start in range(0, max(len(places), 1), _CHUNK))


def check_classes(
    reader: RecordReader, places: Ints, labels: Ints, num_classes: int, identities: int | None, stated: bool
) -> None:
    """Refuse classes that disagree with the labels or the identity records (DatasetError)."""
    source = "`property` says" if stated else "there are"
    if identities is not None and identities != num_classes:
        raise DatasetError(
            f"{reader.rec.with_name('property')}: says {num_classes} classes, but {reader.rec} has "
            f"{identities} identity records; the two must agree"
        )
    largest = int(np.argmax(labels))
    if labels[largest] >= num_classes:
        reason = (
            f"label {labels[largest]}, but {source} {num_classes} classes; labels below that are expected"
        )
        raise _contradiction(reader, places[largest], reason)


def size_of_first(reader: RecordReader, places: Ints) -> tuple[int, int]:
    """(height, width) of the first image, for a folder that states none."""
    image = decode_image(reader.payload_view(int(reader.key_array[places[0]])))
    if image is None:
        raise _contradiction(reader, places[0], "the first image cannot be decoded; JPEG or PNG is expected")
    return image.shape[0], image.shape[1]


def _contradiction(reader: RecordReader, place: np.int64, reason: str) -> DatasetError:
    key, offset = int(reader.key_array[place]), int(reader.offsets[place])
    return DatasetError(f"{reader.rec}: record {key} at byte {offset}: {reason}")

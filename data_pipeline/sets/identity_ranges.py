"""Identity records: each names a range of images, which are of one class."""

from __future__ import annotations

import numpy as np

from data_pipeline.records.reader import Ints, RecordReader
from data_pipeline.sets.record_labels import are_no_images, contradiction, labels_of


def labels_by_range(reader: RecordReader, places: Ints, identities: Ints, end_key: int) -> tuple[Ints, bool]:
    """Labels, int64 [N], of the images with keys 1 … N, and whether every range is of another class.

    places: [N], where each image stands in the index, -1 for one that is missing there, which has its range's
    label. identities: [C], where the identity records stand. Two records of each range are read, or all of
    them where the ranges leave gaps. A set that was never sorted has a range for each run of one class, so
    that a class comes more than once. Raises DatasetError where records contradict each other.
    """
    ranges = _ranges(reader, identities, end_key)
    filled = np.flatnonzero(ranges[:, 1] > ranges[:, 0])
    filled = filled[np.argsort(ranges[filled, 0], kind="stable")]
    starts, ends = ranges[filled, 0] - 1, ranges[filled, 1] - 1
    present = np.flatnonzero(places >= 0)
    first, after = np.searchsorted(present, starts), np.searchsorted(present, ends)
    some = first < after
    of_first = labels_of(reader, places[present[first[some]]])
    if np.array_equal(np.append(0, ends), np.append(starts, len(places))):
        last = present[after[some] - 1]
        _refuse_two_labels(reader, places, identities[filled[some]], present[first[some]], last, of_first)
        of_range = np.full(len(filled), -1)
        of_range[some] = of_first
        if np.array_equal(of_first, filled[some]):
            of_range[~some] = filled[~some]  # classes are numbered as identity records are
        labels = np.repeat(of_range, ends - starts)
    else:
        labels = np.full(len(places), -1)
        labels[present] = labels_of(reader, places[present])
    return like_the_one_before(labels), len(np.unique(of_first)) == len(of_first)


def like_the_one_before(labels: Ints) -> Ints:
    """Labels [N] in which an unknown one, -1, is that of the image before it, or else of the first known.

    Sets are sorted by class, nearly all of them, so this is the likeliest.
    """
    known = np.flatnonzero(labels >= 0)
    if len(known) in (0, len(labels)):
        return labels
    before = np.searchsorted(known, np.arange(len(labels)), side="right") - 1
    filled: Ints = labels[known[before.clip(min=0)]]
    return filled


def _ranges(reader: RecordReader, identities: Ints, end_key: int) -> Ints:
    """[C, 2]: each identity record's range of image keys, last exclusive."""
    wrong = ~are_no_images(reader, identities)
    if wrong.any():
        at = identities[np.argmax(wrong)]
        raise contradiction(reader, at, "an identity record with two labels is expected")
    with np.errstate(invalid="ignore"):
        ranges = reader.vectors(identities, 2).astype(np.int64)
    wrong = (ranges[:, 0] < 1) | (ranges[:, 1] < ranges[:, 0]) | (ranges[:, 1] > end_key)
    if wrong.any():
        at = int(np.argmax(wrong))
        reason = f"image range {ranges[at].tolist()} does not lie between 1 and {end_key}"
        raise contradiction(reader, identities[at], reason)
    return ranges


def _refuse_two_labels(
    reader: RecordReader, places: Ints, owners: Ints, first: Ints, last: Ints, of_first: Ints
) -> None:
    of_last = labels_of(reader, places[last])
    wrong = of_first != of_last
    if wrong.any():
        at = int(np.argmax(wrong))
        raise contradiction(
            reader,
            owners[at],
            f"images {first[at] + 1} and {last[at] + 1} of one identity have labels {of_first[at]} and "
            f"{of_last[at]}; one label is expected",
        )

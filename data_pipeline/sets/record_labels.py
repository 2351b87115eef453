"""What records state of themselves: their class, or that they are no image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DatasetError
from data_pipeline.records.reader import Ints, RecordReader

_CHUNK = 1 << 20
# Labels are int32 in an image table.
MOST_LABELS = 1 << 31


def labels_of(reader: RecordReader, places: Ints) -> Ints:
    """The class that each record's header states, int64 [n], of records at these places in the index.

    Raises DatasetError for one that is not a whole number from 0 to 2^31 - 1, RecordError for damage.
    """
    labels = np.zeros(len(places), dtype=np.int64)
    filled = 0
    for chunk in _chunks(places):
        found = reader.locate(chunk).label
        with np.errstate(invalid="ignore"):
            whole = np.where(np.isfinite(found), found, -1.0).astype(np.int64)
        wrong = (whole != found) | (whole < 0) | (whole >= MOST_LABELS)
        if wrong.any():
            at = int(np.argmax(wrong))
            below = f" below {MOST_LABELS}" if found[at] >= MOST_LABELS else ""
            reason = f"label {found[at]:.10g}; a whole number from 0{below} is expected"
            raise contradiction(reader, chunk[at], reason)
        labels[filled : filled + len(chunk)] = whole
        filled += len(chunk)
    return labels


def are_no_images(reader: RecordReader, places: Ints) -> npt.NDArray[np.bool_]:
    """Whether these are header or identity records, bool [n]: two labels and no payload."""
    parts = [np.zeros(0, dtype=np.bool_)]
    for chunk in _chunks(places):
        located = reader.locate(chunk)
        parts.append((located.flag == 2) & (located.begin == located.end) & (located.begin >= 0))
    return np.concatenate(parts)


def contradiction(reader: RecordReader, place: int | np.int64, reason: str) -> DatasetError:
    """What is wrong with the set, seen at the record of this place in the index."""
    key, offset = int(reader.key_array[place]), int(reader.offsets[place])
    return DatasetError(f"{reader.rec}: record {key} at byte {offset}: {reason}")


def _chunks(places: Ints) -> Iterator[Ints]:
    return (places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK))

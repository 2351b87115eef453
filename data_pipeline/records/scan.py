"""Finding the records of a file that has no index, by skipping from length to length."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import RecordError
from data_pipeline.records.format import LENGTH_BITS, LENGTH_MASK, MAGIC

Ints = npt.NDArray[np.int64]


def scan(rec: Path, words: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Offset and size in bytes of each record of a file given as its 4-byte words."""
    offsets = scan_offsets(rec, words, rec.stat().st_size)
    ends = np.append(offsets[1:], 4 * len(words))
    for offset, end in zip(offsets.tolist(), ends.tolist(), strict=False):
        yield offset, end - offset


def scan_offsets(rec: Path, words: npt.NDArray[np.uint32], size: int) -> Ints:
    """Offset of each record of a file of `size` bytes given as its 4-byte words, [n].

    Raises RecordError for the first place that is damaged: without an index nothing after it can be found.
    """
    starts = array("q")
    if len(words):
        _scan(rec, words.data.cast("B").cast("I"), size, starts)
    elif size:
        raise RecordError(rec, 0, "the file ends inside a record; copy it again")
    offsets = np.frombuffer(starts, dtype=np.int64) if len(starts) else np.zeros(0, dtype=np.int64)
    offsets <<= 2
    return offsets


def _scan(rec: Path, view: memoryview, size: int, starts: array[int]) -> None:
    """Append the word at which each record starts; two million a second, which is why it is one loop."""
    append = starts.append
    end = len(view) - 1
    last = (size + 3) // 4
    at = start = 0
    inside = False
    while at < end:
        word = view[at + 1]
        if view[at] != MAGIC:
            raise RecordError(rec, 4 * at, "no record starts here; the file is damaged, copy it again")
        if word > LENGTH_MASK or inside:
            part = word >> LENGTH_BITS
            if part > 3 or (part > 1) != inside:
                raise RecordError(
                    rec, 4 * at, f"part {part} of a record stands where it cannot; copy the file again"
                )
            if not inside:
                start = at
                append(at)
            inside = part != 3
            after = at + 2 + ((word & LENGTH_MASK) + 3 >> 2)
        else:
            start = at
            append(at)
            after = at + (word + 11 >> 2)
        if after > last:
            raise RecordError(
                rec, 4 * at, f"the last record is cut off, the file has {size} bytes; copy the file again"
            )
        at = after
    if inside or at != len(view) or size % 4:
        offset = start if inside or at > len(view) else at
        raise RecordError(rec, 4 * offset, "the file ends inside a record; copy it again")

"""dmlc RecordIO, the container of mxnet's datasets: random access over a memory map.

A record is stored as one or more parts, each on a 4-byte boundary:

    uint32 0xced7230a | uint32 part << 29 | length | length bytes | zeros up to a multiple of 4

`part` is 0 for a whole record and 1, 2, 3 for the first, a middle and the last part of one that held the
magic word on a 4-byte boundary: it is cut there, the word itself left out, and put back on reading. So the
word on a 4-byte boundary always starts a part. Inside a record stands mxnet's image header (`IRHeader`):
uint32 flag, float32 label, uint64 id, uint64 id2, then `flag` float32 labels, then the payload. The index
is text: one line `key<TAB>byte offset` a record.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError, RecordError
from data_pipeline.record_writer import HEADER, LENGTH_BITS, LENGTH_MASK, MAGIC, MAGIC_BYTES, RecordWriter

__all__ = ["Ints", "Located", "Record", "RecordReader", "RecordWriter", "scan"]

Ints = npt.NDArray[np.int64]

_REBUILD = "copy the file again, or delete the index to have it rebuilt"

Label = float | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """One record: its label (a float, or float32 [n] when the header holds a vector), id and payload."""

    label: Label
    id: int
    payload: bytes


@dataclass(frozen=True)
class Located:
    """Where the records of a list of positions lie; every array is [n].

    flag: number of labels of the vector, 0 for a scalar label. label: the scalar, or the vector's first
    number, float32. begin, end: bytes of the payload in the file; begin = -1 for a record stored in parts,
    whose payload lies nowhere in one piece.
    """

    flag: Ints
    label: npt.NDArray[np.float32]
    begin: Ints
    end: Ints


class RecordReader:
    """Random access by key to a `.rec` file, through its `.idx` or, without one, through a scan.

    A rebuilt index names the records by the id in their headers if all of those differ, as the usual
    writers make them, and otherwise counts from 0. Raises DataInputError if the file cannot be opened and
    RecordError (file, offset, reason) for damaged records and for an index that does not fit. No length
    read from the file is trusted before it is checked against the file's size.
    """

    def __init__(self, rec: str | Path, idx: str | Path | None = None) -> None:
        self.rec = Path(rec)
        self.idx = Path(idx) if idx is not None else None
        self._map: mmap.mmap | None = None
        try:
            with self.rec.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if self.size:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataInputError(
                f"{self.rec}: cannot be opened as a record file: {error.strerror or error}"
            ) from None
        self.buffer = np.frombuffer(self._map if self._map is not None else b"", dtype=np.uint8)
        self._words = self.buffer[: self.size // 4 * 4].view("<u4")
        self._order: Ints | None = None
        try:
            if self.idx is not None and self.idx.exists():
                self._keys, self.offsets = _read_index(self.idx)
                self._check_offsets()
            else:
                self.idx = None
                self.offsets = np.array([offset for offset, _ in scan(self.rec, self._words)], dtype=np.int64)
                self._keys = self._rebuilt_keys()
            self._contiguous = _is_range(self._keys)
            if not self._contiguous:
                self._order = np.argsort(self._keys, kind="stable")
                self._check_unique()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Iterator[int]:
        """The keys in the index's order."""
        return (int(key) for key in self._keys)

    @property
    def key_array(self) -> Ints:
        """The keys in the index's order, [n]; not to be changed."""
        return self._keys

    def positions(self, keys: Ints) -> Ints:
        """Each key's place in the index, [n], or -1 if it has none."""
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int64)
        if self._contiguous:
            places = keys - self._keys[0]
            return np.where((places >= 0) & (places < len(self._keys)), places, -1)
        order = self._order
        found = np.searchsorted(self._keys, keys, sorter=order).clip(max=len(self._keys) - 1)
        places = found if order is None else order[found]
        return np.where(self._keys[places] == keys, places, -1)

    def __contains__(self, key: int) -> bool:
        return bool(self.positions(np.array([key], dtype=np.int64))[0] >= 0)

    def __getitem__(self, key: int) -> Record:
        """The record of this key. Raises KeyError if there is none, RecordError if it is damaged."""
        body, offset = self._body(key)
        label, ident, start = self._parse_header(body, offset)
        return Record(label, ident, bytes(body[start:]))

    def payload_view(self, key: int) -> memoryview:
        """The payload without a copy (but for a record stored in parts, which is joined)."""
        body, offset = self._body(key)
        return body[self._parse_header(body, offset)[2] :]

    def locate(self, positions: Ints) -> Located:
        """Headers and payload places of the records at these places in the index, vectorised.

        Raises RecordError for the first that is damaged.
        """
        offsets = self.offsets[positions]
        word = offsets >> 2
        words = self._words
        # Only the words whose presence is already known may be looked up, hence check before each step.
        self._refuse(offsets, offsets > self.size - 8, "a record should start here, but the file ends")
        self._refuse(offsets, words[word] != MAGIC, "no record starts here")
        length_word = words[word + 1].astype(np.int64)
        part, length = length_word >> LENGTH_BITS, length_word & LENGTH_MASK
        self._refuse(offsets, offsets + 8 + length > self.size, "the record runs past the end of the file")
        self._refuse(offsets, part > 1, "a part of a record starts here, not a record")
        whole = part == 0
        self._refuse(offsets, whole & (length < HEADER.size), "the record is too short for its header")
        flag = np.zeros(len(offsets), dtype=np.int64)
        label = np.zeros(len(offsets), dtype=np.float32)
        begin = np.full(len(offsets), -1, dtype=np.int64)
        end = begin.copy()
        at = word[whole]
        flag[whole] = words[at + 2]
        begin[whole] = offsets[whole] + 8 + HEADER.size + 4 * flag[whole]
        end[whole] = offsets[whole] + 8 + length[whole]
        self._refuse(offsets, begin > end, "the record is too short for its labels")
        scalar_or_first = np.where(flag[whole] > 0, at + 2 + HEADER.size // 4, at + 3)
        label[whole] = words[scalar_or_first].view("<f4")
        for place in np.flatnonzero(~whole):
            body, _ = self._join(int(offsets[place]))
            vector, _, _ = self._parse_header(body, int(offsets[place]))
            flag[place] = 0 if isinstance(vector, float) else len(vector)
            label[place] = vector if isinstance(vector, float) else vector[0]
        return Located(flag, label, begin, end)

    def vectors(self, positions: Ints, length: int) -> npt.NDArray[np.float32]:
        """The first `length` labels of records that `locate` says have a vector of at least as many."""
        first = (self.offsets[positions] >> 2) + 2 + HEADER.size // 4
        values: npt.NDArray[np.float32] = self._words[first[:, None] + np.arange(length)].view("<f4")
        return values

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid and hold the map until they go."""
        self.buffer = np.zeros(0, dtype=np.uint8)
        self._words = self.buffer.view("<u4")
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self, key: int) -> tuple[memoryview, int]:
        place = int(self.positions(np.array([key], dtype=np.int64))[0])
        if place < 0:
            raise KeyError(key)
        offset = int(self.offsets[place])
        body, _ = self._join(offset)
        return body, offset

    def _join(self, offset: int) -> tuple[memoryview, int]:
        """The record at this offset, header and payload, its parts rejoined; and the offset after it."""
        pieces: list[memoryview] = []
        at = offset
        while True:
            if at + 8 > self.size:
                raise self._error(at, "a record should start here, but the file ends")
            magic, length_word = int(self._words[at >> 2]), int(self._words[(at >> 2) + 1])
            part, length = length_word >> LENGTH_BITS, length_word & LENGTH_MASK
            if magic != MAGIC:
                raise self._error(at, "no record starts here")
            if at + 8 + length > self.size:
                raise self._error(at, "the record runs past the end of the file")
            if part > 3 or (part in (0, 1)) != (not pieces):
                raise self._error(at, f"part {part} of a record stands where it cannot")
            pieces.append(self.buffer[at + 8 : at + 8 + length].data)
            at += 8 + (length + 3) // 4 * 4
            if part in (0, 3):
                break
        joined = pieces[0] if len(pieces) == 1 else memoryview(MAGIC_BYTES.join(pieces))
        return joined, at

    def _parse_header(self, body: memoryview, offset: int) -> tuple[Label, int, int]:
        if len(body) < HEADER.size:
            raise self._error(offset, "the record is too short for its header")
        flag, scalar, ident, _ = HEADER.unpack_from(body)
        start = HEADER.size + 4 * flag
        if start > len(body):
            raise self._error(offset, "the record is too short for its labels")
        if not flag:
            return float(scalar), ident, start
        return np.frombuffer(body[HEADER.size : start], dtype="<f4").copy(), ident, start

    def _error(self, offset: int, problem: str) -> RecordError:
        index = f" (index {self.idx})" if self.idx is not None else ""
        return RecordError(self.rec, offset, f"{problem}{index}; the file has {self.size} bytes; {_REBUILD}")

    def _refuse(self, offsets: Ints, wrong: npt.NDArray[np.bool_], problem: str) -> None:
        if wrong.any():
            raise self._error(int(offsets[np.argmax(wrong)]), problem)

    def _check_offsets(self) -> None:
        """An index that points outside the file, or at a last record that is cut off, is found at once."""
        offsets = self.offsets
        if not len(offsets):
            return
        self._refuse(offsets, offsets < 0, "the index names an offset below 0")
        self._refuse(offsets, offsets > self.size - 8, "the index points past the end of the file")
        self._refuse(
            offsets, offsets % 4 != 0, "the index points between 4-byte boundaries, no record starts"
        )
        self._join(int(offsets.max()))

    def _rebuilt_keys(self) -> Ints:
        ordinals = np.arange(len(self.offsets), dtype=np.int64)
        word = self.offsets >> 2
        lengths = self._words[word + 1].astype(np.int64)
        if ((lengths >> LENGTH_BITS != 0) | (lengths & LENGTH_MASK < HEADER.size)).any():
            return ordinals
        low, high = self._words[word + 4].astype(np.int64), self._words[word + 5].astype(np.int64)
        ids = (high & 0x7FFFFFFF) << 32 | low
        return ids if len(np.unique(ids)) == len(ids) else ordinals

    def _check_unique(self) -> None:
        if self._order is None:
            return
        ordered = self._keys[self._order]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(twice):
            raise DataInputError(
                f"{self.idx}: key {int(ordered[twice[0]])} stands twice in the index of {self.rec}; "
                + _REBUILD
            )


def scan(rec: Path, words: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Offset and size in bytes of each record of a file given as its 4-byte words, by skipping lengths."""
    view = words.data.cast("B").cast("I") if len(words) else memoryview(b"").cast("I")
    end = len(view)
    at = start = 0
    inside = False
    size = rec.stat().st_size
    while at < end:
        if view[at] != MAGIC:
            raise RecordError(rec, 4 * at, "no record starts here; the file is damaged, copy it again")
        word = view[at + 1] if at + 1 < end else end << 2
        part, length = word >> LENGTH_BITS, word & LENGTH_MASK
        if at + 1 >= end or 4 * at + 8 + length > size:
            raise RecordError(
                rec, 4 * at, f"the last record is cut off, the file has {size} bytes; copy the file again"
            )
        if part > 3 or (part > 1) != inside:
            raise RecordError(
                rec, 4 * at, f"part {part} of a record stands where it cannot; copy the file again"
            )
        if not inside:
            start = at
        at += 2 + (length + 3) // 4
        inside = part in (1, 2)
        if not inside:
            yield 4 * start, 4 * (at - start)
    if inside or size % 4:
        raise RecordError(rec, 4 * start, "the file ends inside a record; copy it again")


def _read_index(idx: Path) -> tuple[Ints, Ints]:
    """Keys and offsets, [n] each, of a text index."""
    try:
        text = idx.read_text(encoding="ascii")
    except OSError as error:
        raise DataInputError(f"{idx}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataInputError(f"{idx}: is no index (lines 'key<TAB>offset' expected); {_REBUILD}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
    except (ValueError, DeprecationWarning):
        numbers = np.zeros(1, dtype=np.int64)
    if len(numbers) % 2:
        raise DataInputError(f"{idx}: is no index (lines 'key<TAB>offset' expected); {_REBUILD}")
    # Two arrays of their own: a view with a stride would slow down every look-up.
    return numbers[0::2].copy(), numbers[1::2].copy()


def _is_range(keys: Ints) -> bool:
    return len(keys) == 0 or bool((np.diff(keys) == 1).all())

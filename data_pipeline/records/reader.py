"""Random access to mxnet's RecordIO files; `format.py` says what their bytes mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError, RecordError
from data_pipeline.records.file import Located, Record, RecordFile
from data_pipeline.records.format import HEADER, LENGTH_BITS, MAGIC
from data_pipeline.records.index import REBUILD, Ints, KeyTable, index_exists, read_index
from data_pipeline.records.scan import scan, scan_offsets
from data_pipeline.records.writer import RecordWriter

__all__ = ["Ints", "Located", "Record", "RecordReader", "RecordWriter", "scan"]

# Records looked at on opening to see whether the index is this file's.
_SAMPLE = 32


class RecordReader:
    """Random access by key to a `.rec` file, through its `.idx` or, without one, through a scan.

    A rebuilt index names the records by the id in their headers if all of those differ, as the usual
    writers make them, and otherwise counts from 0. Raises DataInputError if the file cannot be opened or the
    index is not of this file, and RecordError (file, offset, reason) for damaged records and for a single
    entry that does not fit. No length read from the file is trusted before it is checked against its size.

    An index may name some of the records only: a split of a set is often kept as several indexes of one
    file. That looks like an index that was left behind when its file grew, so `unindexed_bytes` says how
    much of the file lies behind the last record that the index names.

    A file cut while it is open is met as RecordError by every method that looks into it, but views handed
    out before are not safe (see RecordFile).
    """

    def __init__(self, rec: str | Path, idx: str | Path | None = None) -> None:
        self.rec = Path(rec)
        self.idx = Path(idx) if idx is not None and index_exists(Path(idx)) else None
        advice = f"its index is {self.idx}; {REBUILD}" if self.idx is not None else "copy the file again"
        self._file = RecordFile(self.rec, advice)
        self.unindexed_bytes = 0
        try:
            if self.idx is not None:
                self._keys, self.offsets = read_index(self.idx, self.rec)
                self._check_offsets()
            else:
                self.offsets = scan_offsets(self.rec, self._file.words, self.size)
                self._keys = self._rebuilt_keys()
            self._table = KeyTable(self._keys)
            if self._table.twice is not None:
                raise DataInputError(
                    f"{self.idx}: key {self._table.twice} stands twice in the index of {self.rec}; {REBUILD}"
                )
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def size(self) -> int:
        """Bytes of the record file; 0 once it is closed."""
        return self._file.size

    @property
    def file(self) -> RecordFile:
        """The record file, for whoever has offsets."""
        return self._file

    @property
    def buffer(self) -> npt.NDArray[np.uint8]:
        """The record file's bytes, [size]; not to be changed."""
        return self._file.buffer

    def keys(self) -> Iterator[int]:
        """The keys in the index's order."""
        return (int(key) for key in self._keys)

    @property
    def key_array(self) -> Ints:
        """The keys in the index's order, [n]; not to be changed."""
        return self._keys

    def positions(self, keys: Ints) -> Ints:
        """Each key's place in the index, [n], or -1 if it has none."""
        return self._table.positions(keys)

    def __contains__(self, key: int) -> bool:
        return self._table.position(key) >= 0

    def __getitem__(self, key: int) -> Record:
        """The record of this key. Raises KeyError if there is none, RecordError if it is damaged."""
        return self._file.record(self._offset(key))

    def payload_view(self, key: int) -> memoryview:
        """The payload without a copy (but for a record stored in parts, which is joined)."""
        return self._file.payload(self._offset(key))

    def locate(self, positions: Ints) -> Located:
        """Headers and payload places of the records at these places in the index, vectorised.

        A header or identity record has flag 2 and begin == end. Raises RecordError for the first record
        that is damaged.
        """
        return self._file.locate(self.offsets[positions])

    def vectors(self, positions: Ints, length: int) -> npt.NDArray[np.float32]:
        """The first `length` labels, [n, length], of records that `locate` says have at least as many."""
        return self._file.vectors(self.offsets[positions], length)

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid and hold the map until they go."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _offset(self, key: int) -> int:
        place = self._table.position(key)
        if place < 0:
            raise KeyError(key)
        return int(self.offsets[place])

    def _check_offsets(self) -> None:
        """Refuse an index that points outside the file, at a last record cut off, or nowhere near records."""
        offsets = self.offsets
        if not len(offsets):
            self.unindexed_bytes = self.size
            return
        self._file.refuse(offsets, offsets < 0, "the index names an offset below 0")
        self._file.refuse(offsets, offsets > self.size - 8, "the index points past the end of the file")
        self._file.refuse(
            offsets, offsets % 4 != 0, "the index points between 4-byte boundaries, no record starts"
        )
        # One damaged record is left to whoever reads it; an index of another file misses most of them.
        sample = offsets[np.linspace(0, len(offsets) - 1, min(_SAMPLE, len(offsets))).astype(np.int64)]
        missed = sample[self._file.words[sample >> 2] != MAGIC]
        if len(sample) > 1 and 2 * len(missed) > len(sample):
            raise self._file.error(
                int(missed[0]),
                f"no record starts here, nor at {len(missed)} of the {len(sample)} offsets looked at: "
                "the index is of another file",
            )
        _, end = self._file.join(int(offsets.max()))
        self.unindexed_bytes = max(self.size - end, 0)

    def _rebuilt_keys(self) -> Ints:
        """The ids of the records that a scan found, if each has one and all differ, else 0, 1, 2, …"""
        ordinals = np.arange(len(self.offsets), dtype=np.int64)
        words = self._file.words
        ids = np.empty(len(self.offsets), dtype=np.int64)
        for start in range(0, len(ids), 1 << 20):
            word = self.offsets[start : start + (1 << 20)] >> 2
            lengths = words[word + 1].astype(np.int64)
            whole = lengths >> LENGTH_BITS == 0
            if (whole & (lengths < HEADER.size)).any():
                return ordinals
            chunk = ids[start : start + len(word)]
            low, high = words[word[whole] + 4].astype(np.int64), words[word[whole] + 5].astype(np.int64)
            chunk[whole] = high << 32 | low
            for place in np.flatnonzero(~whole):
                try:
                    ident = self._file.record(4 * int(word[place])).id
                except RecordError:
                    return ordinals
                chunk[place] = np.uint64(ident).astype(np.int64)
        # Ids of 2**63 and more are no keys.
        if len(ids) and (ids.min() < 0 or KeyTable(ids).twice is not None):
            return ordinals
        return ids

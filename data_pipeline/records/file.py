"""One `.rec` file as a memory map: records at byte offsets. `format.py` says what the bytes mean."""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError, RecordError
from data_pipeline.files.regular import open_regular
from data_pipeline.records.format import HEADER, LENGTH_BITS, LENGTH_MASK, MAGIC, MAGIC_BYTES

Ints = npt.NDArray[np.int64]
Label = float | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """One record: its label (a float, or float32 [n] when the header holds a vector), id and payload."""

    label: Label
    id: int
    payload: bytes


@dataclass(frozen=True)
class Located:
    """Where the records at a list of offsets lie; every array is [n].

    flag: number of labels of the vector, 0 for a scalar label. label: the scalar, or the vector's first
    number, float32. begin, end: bytes of the payload in the file; begin = -1 for a record stored in parts,
    whose payload lies nowhere in one piece.
    """

    flag: Ints
    label: npt.NDArray[np.float32]
    begin: Ints
    end: Ints


class RecordFile:
    """Records of a `.rec` file by the byte at which they start; may be used from several threads.

    advice: what is added to the errors about damaged records (where the offsets come from, what to do).
    Raises DataInputError if the file cannot be opened and RecordError (file, offset, reason) for what is
    damaged. No length read from the file is trusted before it is checked against the file's size.

    A file that is cut while it is open would end the process at the next access beyond its new end (SIGBUS).
    Every method that looks into it asks the system for its size first, half a microsecond, and raises
    RecordError instead. A cut between that and the access, or under a view handed out before, is not met.
    """

    def __init__(self, path: str | Path, advice: str = "copy the file again") -> None:
        self.path = Path(path)
        self.advice = advice
        self._map: mmap.mmap | None = None
        with open_regular(self.path, "a record file") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size:
                try:
                    self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
                except (OSError, ValueError) as error:
                    raise DataInputError(f"{self.path}: cannot be mapped into memory: {error}") from None
        self.buffer = np.frombuffer(self._map if self._map is not None else b"", dtype=np.uint8)
        self.words = self.buffer[: self.size // 4 * 4].view("<u4")

    def locate(self, offsets: Ints) -> Located:
        """Headers and payload places of the records at these offsets, vectorised.

        Raises RecordError for the first that is damaged.
        """
        words = self.words
        part, length = self._lengths(offsets)
        word = offsets >> 2
        self.refuse(offsets, part > 1, "a part of a record starts here, not a record")
        whole = part == 0
        self.refuse(offsets, whole & (length < HEADER.size), "the record is too short for its header")
        flag = np.zeros(len(offsets), dtype=np.int64)
        label = np.zeros(len(offsets), dtype=np.float32)
        begin = np.full(len(offsets), -1, dtype=np.int64)
        end = begin.copy()
        at = word[whole]
        flag[whole] = words[at + 2]
        begin[whole] = offsets[whole] + 8 + HEADER.size + 4 * flag[whole]
        end[whole] = offsets[whole] + 8 + length[whole]
        self.refuse(offsets, begin > end, "the record is too short for its labels")
        scalar_or_first = np.where(flag[whole] > 0, at + 2 + HEADER.size // 4, at + 3)
        label[whole] = words[scalar_or_first].view("<f4")
        for place in np.flatnonzero(~whole):
            body, _ = self.join(int(offsets[place]))
            vector, _, _ = self.parse_header(body, int(offsets[place]))
            flag[place] = 0 if isinstance(vector, float) else len(vector)
            label[place] = vector if isinstance(vector, float) else vector[0]
        return Located(flag, label, begin, end)

    def vectors(self, offsets: Ints, length: int) -> npt.NDArray[np.float32]:
        """The first `length` labels, [n, length], of records that `locate` says have at least as many."""
        part, _ = self._lengths(offsets)
        whole = part == 0
        values = np.zeros((len(offsets), length), dtype=np.float32)
        first = (offsets[whole] >> 2) + 2 + HEADER.size // 4
        values[whole] = self.words[first[:, None] + np.arange(length)].view("<f4")
        for place in np.flatnonzero(~whole):
            values[place] = np.atleast_1d(self.record(int(offsets[place])).label)[:length]
        return values

    def record(self, offset: int) -> Record:
        """The record that starts at this byte."""
        body, _ = self.join(offset)
        label, ident, start = self.parse_header(body, offset)
        return Record(label, ident, bytes(body[start:]))

    def payload(self, offset: int) -> memoryview:
        """The payload without a copy (but for a record stored in parts, which is joined)."""
        body, _ = self.join(offset)
        return body[self.parse_header(body, offset)[2] :]

    def payloads(self, offsets: Ints) -> list[npt.NDArray[np.uint8]]:
        """The payloads as uint8 arrays over the memory map; headers are looked up for all at once."""
        located = self.locate(offsets)
        buffer = self.buffer
        views = [
            buffer[begin:end] for begin, end in zip(located.begin.tolist(), located.end.tolist(), strict=True)
        ]
        for place in np.flatnonzero(located.begin < 0):
            views[place] = np.frombuffer(self.payload(int(offsets[place])), dtype=np.uint8)
        return views

    def will_need(self, first: int, last: int) -> None:
        """Ask the system to read these bytes ahead; a hint, it returns at once."""
        start = max(0, first) // mmap.PAGESIZE * mmap.PAGESIZE
        length = min(last, self.size) - start
        if self._map is not None and length > 0 and hasattr(mmap, "MADV_WILLNEED"):
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_WILLNEED, start, length)

    def expect_random_reads(self) -> None:
        """Tell the system that neighbours of what is read will not be read next: it need not fetch them."""
        if self._map is not None and hasattr(mmap, "MADV_RANDOM"):
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_RANDOM)

    def join(self, offset: int) -> tuple[memoryview, int]:
        """The record at this offset, header and payload, its parts rejoined; and the offset after it."""
        self.check_size()
        pieces: list[memoryview] = []
        at = offset
        while True:
            if at < 0 or at % 4:
                raise self.error(at, "no record can start here")
            if at + 8 > self.size:
                raise self.error(at, "a record should start here, but the file ends")
            magic, length_word = int(self.words[at >> 2]), int(self.words[(at >> 2) + 1])
            part, length = length_word >> LENGTH_BITS, length_word & LENGTH_MASK
            if magic != MAGIC:
                raise self.error(at, "no record starts here")
            if at + 8 + length > self.size:
                raise self.error(at, "the record runs past the end of the file")
            if part > 3 or (part in (0, 1)) != (not pieces):
                raise self.error(at, f"part {part} of a record stands where it cannot")
            pieces.append(self.buffer[at + 8 : at + 8 + length].data)
            at += 8 + (length + 3) // 4 * 4
            if part in (0, 3):
                break
        joined = pieces[0] if len(pieces) == 1 else memoryview(MAGIC_BYTES.join(pieces))
        return joined, at

    def parse_header(self, body: memoryview, offset: int) -> tuple[Label, int, int]:
        """Label, id and the payload's place in a record's body; offset: of the record, for messages."""
        if len(body) < HEADER.size:
            raise self.error(offset, "the record is too short for its header")
        flag, scalar, ident, _ = HEADER.unpack_from(body)
        start = HEADER.size + 4 * flag
        if start > len(body):
            raise self.error(offset, "the record is too short for its labels")
        if not flag:
            return float(scalar), ident, start
        return np.frombuffer(body[HEADER.size : start], dtype="<f4").copy(), ident, start

    def check_size(self) -> None:
        """Raise RecordError if the file has become shorter than it was when it was opened."""
        now = self._map.size() if self._map is not None else self.size
        if now < self.size:
            raise RecordError(
                self.path, now, f"the file ends here now, it had {self.size} bytes when opened; {self.advice}"
            )

    def _lengths(self, offsets: Ints) -> tuple[Ints, Ints]:
        """Numbers and lengths of the parts at these offsets, each of which lies in the file as a whole."""
        self.check_size()
        words = self.words
        # Only the words whose presence is already known may be looked up, hence check before each step.
        self.refuse(offsets, (offsets < 0) | (offsets % 4 != 0), "no record can start here")
        self.refuse(offsets, offsets > self.size - 8, "a record should start here, but the file ends")
        word = offsets >> 2
        self.refuse(offsets, words[word] != MAGIC, "no record starts here")
        length_word = words[word + 1].astype(np.int64)
        part, length = length_word >> LENGTH_BITS, length_word & LENGTH_MASK
        self.refuse(offsets, offsets + 8 + length > self.size, "the record runs past the end of the file")
        return part, length

    def error(self, offset: int, problem: str) -> RecordError:
        """What is wrong at this byte, with what the file has and what to do."""
        return RecordError(self.path, offset, f"{problem}; the file has {self.size} bytes; {self.advice}")

    def refuse(self, offsets: Ints, wrong: npt.NDArray[np.bool_], problem: str) -> None:
        """Raise RecordError for the first offset that is wrong."""
        if wrong.any():
            raise self.error(int(offsets[np.argmax(wrong)]), problem)

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid and hold the map until they go."""
        self.buffer = np.zeros(0, dtype=np.uint8)
        self.words = self.buffer.view("<u4")
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None
        self.size = 0

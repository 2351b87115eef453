"""Writing RecordIO; `recordio.py` says what the bytes mean."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
PART = struct.Struct("<II")
# mxnet's IRHeader: number of labels, scalar label, id, id2.
HEADER = struct.Struct("<IfQQ")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1


class RecordWriter:
    """Write a `.rec` and its `.idx`; both appear under their names only at a clean close.

    Raises ValueError for a record of 512 MiB or more and DataInputError if the files cannot be made.
    """

    def __init__(self, rec: str | Path, idx: str | Path) -> None:
        self.rec, self.idx = Path(rec), Path(idx)
        self._temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in (self.rec, self.idx)]
        self._offset = 0
        self._open = True
        try:
            self._records = self._temporary[0].open("wb")
            try:
                self._index = self._temporary[1].open("w", encoding="ascii", newline="\n")
            except OSError:
                self._records.close()
                self._temporary[0].unlink()
                raise
        except OSError as error:
            raise DataInputError(f"{self.rec}: cannot be written: {error.strerror or error}") from None

    def write(self, key: int, *, label: float | Sequence[float], id: int, payload: bytes) -> None:
        """Append one record; a sequence of labels becomes a vector of float32."""
        record = encode(label, id, payload)
        self._records.write(record)
        self._index.write(f"{key}\t{self._offset}\n")
        self._offset += len(record)

    def close(self) -> None:
        """Finish both files and give them their names."""
        if not self._open:
            return
        self._open = False
        self._records.close()
        self._index.close()
        # Between the two renames stands a .rec without an index, never one beside a foreign index.
        self.idx.unlink(missing_ok=True)
        os.replace(self._temporary[0], self.rec)
        os.replace(self._temporary[1], self.idx)

    def abort(self) -> None:
        """Throw away what was written."""
        if not self._open:
            return
        self._open = False
        self._records.close()
        self._index.close()
        for path in self._temporary:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def encode(label: float | Sequence[float] | npt.NDArray[np.float32], id: int, payload: bytes) -> bytes:
    """One record as it stands in a file: header, labels and payload, split at the magic word, padded."""
    if isinstance(label, int | float | np.integer | np.floating):
        body = HEADER.pack(0, float(label), id, 0) + payload
    else:
        vector = np.asarray(label, dtype="<f4")
        body = HEADER.pack(len(vector), 0.0, id, 0) + vector.tobytes() + payload
    if len(body) > LENGTH_MASK:
        raise ValueError(f"a record must be smaller than {LENGTH_MASK + 1} bytes, got {len(body)}")
    parts: list[bytes] = []
    start = 0
    found = body.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts += [
                PART.pack(MAGIC, (2 if start else 1) << LENGTH_BITS | found - start),
                body[start:found],
            ]
            start = found + 4
        found = body.find(MAGIC_BYTES, found + (4 if found % 4 == 0 else 1))
    parts += [PART.pack(MAGIC, (3 if start else 0) << LENGTH_BITS | len(body) - start), body[start:]]
    return b"".join(parts) + bytes(-len(body) % 4)

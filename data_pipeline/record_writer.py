"""Writing RecordIO; `record_format.py` says what the bytes mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from data_pipeline.errors import DataInputError
from data_pipeline.record_format import encode

__all__ = ["RecordWriter", "encode"]


class RecordWriter:
    """Write a `.rec` and its `.idx`; both appear under their names only at a clean close.

    Raises ValueError for a record of 512 MiB or more or an id that is none, and DataInputError if the files
    cannot be made.
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

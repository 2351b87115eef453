"""Writing RecordIO; `format.py` says what the bytes mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from data_pipeline.errors import DataInputError
from data_pipeline.files.atomic import Replacement
from data_pipeline.records.format import encode

__all__ = ["RecordWriter", "encode"]


class RecordWriter:
    """Write a `.rec` and its `.idx`; both appear under their names only at a clean close.

    Raises ValueError for a record of 512 MiB or more or an id that is none, and DataInputError if the files
    cannot be made.
    """

    def __init__(self, rec: str | Path, idx: str | Path) -> None:
        self.rec, self.idx = Path(rec), Path(idx)
        self._offset = 0
        self._open = True
        try:
            self._records = Replacement(self.rec, parents=False)
            try:
                self._index = Replacement(self.idx, parents=False)
            except OSError:
                self._records.discard()
                raise
        except OSError as error:
            raise DataInputError(f"{self.rec}: cannot be written: {error.strerror or error}") from None

    def write(self, key: int, *, label: float | Sequence[float], id: int, payload: bytes) -> None:
        """Append one record; a sequence of labels becomes a vector of float32."""
        record = encode(label, id, payload)
        self._records.file.write(record)
        self._index.file.write(b"%d\t%d\n" % (key, self._offset))
        self._offset += len(record)

    def close(self) -> None:
        """Finish both files and give them their names. Raises OSError, after which neither is there."""
        if not self._open:
            return
        self._open = False
        try:
            for new in (self._records, self._index):
                new.file.flush()
            # Between the two renames stands a .rec without an index, never one beside a foreign index.
            self.idx.unlink(missing_ok=True)
            self._records.commit()
            self._index.commit()
        except BaseException:
            self._discard()
            raise

    def abort(self) -> None:
        """Throw away what was written."""
        if self._open:
            self._open = False
            self._discard()

    def _discard(self) -> None:
        for new in (self._records, self._index):
            new.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

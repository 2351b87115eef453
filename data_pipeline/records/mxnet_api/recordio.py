"""mxnet's `recordio` module without mxnet, for code that was written against it.

Change the one line `from mxnet import recordio` into `from data_pipeline import mxnet_recordio as recordio`.
Names, arguments and what the files hold are those of mxnet 1.9.1; what differs, and why:

- Errors are DataInputError and RecordError (file, offset, reason) where mxnet raises MXNetError, and
  io.UnsupportedOperation where it asserts.
- `pack` takes vector labels and `pack_img` works on today's numpy, where mxnet's fail.
- A reader that met the end of its file reads on after `seek` or `read_idx`; mxnet's says None from then on.
- `keys` and `idx` of a reader are made when first asked for: looking records up needs neither.
- A reader may be pickled and goes on being open; mxnet closes it. A writer that is open may not: unpickled,
  it would empty its file.
- After a fork a reader goes on with the same map, and `seek` and `read_idx` work without reading the index
  again. `read` and writing in a child are refused as in mxnet.
"""

from __future__ import annotations

import io
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataInputError
from data_pipeline.records.file import RecordFile
from data_pipeline.records.format import frame
from data_pipeline.records.index import KeyTable, read_index
from data_pipeline.records.mxnet_api.packing import IRHeader, pack, pack_img, unpack, unpack_img

__all__ = [
    "IRHeader",
    "MXIndexedRecordIO",
    "MXRecordIO",
    "pack",
    "pack_img",
    "unpack",
    "unpack_img",
]


class MXRecordIO:
    """A record file read from its start to its end (flag "r") or written anew (flag "w").

    Raises ValueError for another flag and DataInputError if the file cannot be opened.
    """

    def __init__(self, uri: str | Path, flag: str) -> None:
        self.uri = str(uri)
        self.flag = flag
        self.pid: int | None = None
        self.is_open = False
        self.writable = False
        self._map: RecordFile | None = None
        self._out: io.FileIO | None = None
        self._position = 0
        self.open()

    def open(self) -> None:
        """Open the file, at its start; one that was open is closed first, one to be written is emptied."""
        if self.flag not in ("r", "w"):
            raise ValueError(f"flag must be 'r' or 'w', got {self.flag!r}")
        self.close()
        self.writable = self.flag == "w"
        self._position = 0
        if self.writable:
            self._out = _create(self.uri)
        else:
            self._map = RecordFile(self.uri)
        self.pid = os.getpid()
        self.is_open = True

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        # A plain FileIO holds nothing back, so a child that inherits it and ends writes nothing twice.
        if self._map is not None:
            self._map.close()
        if self._out is not None:
            self._out.close()
        self._map = self._out = None
        self.is_open = False
        self.pid = None

    def reset(self) -> None:
        """Go back to the start; a file that is written is emptied."""
        self.close()
        self.open()

    def read(self) -> bytes | None:
        """The next record, None at the end. Raises RecordError if it is damaged."""
        file = self._reader()
        self._check_pid(allow_reset=False)
        if self._position == file.size:
            return None
        body, self._position = file.join(self._position)
        return bytes(body)

    def write(self, buf: bytes | bytearray | memoryview) -> None:
        """Append one record. Raises ValueError for 512 MiB or more."""
        out = self._writer()
        self._check_pid(allow_reset=False)
        record = frame(buf if isinstance(buf, bytes) else bytes(memoryview(buf)))
        _write_all(out, record)
        self._position += len(record)

    def _reader(self) -> RecordFile:
        if self._map is None:
            raise io.UnsupportedOperation(f"{self.uri}: is not open for reading")
        return self._map

    def _writer(self) -> io.FileIO:
        if self._out is None:
            raise io.UnsupportedOperation(f"{self.uri}: is not open for writing")
        return self._out

    def _check_pid(self, allow_reset: bool = False) -> None:
        """Refuse a file opened in another process, or, if allowed, make it this one's."""
        if self.pid == os.getpid():
            return
        if not allow_reset:
            raise RuntimeError(f"{self.uri}: was opened in another process; use read_idx, or reset() first")
        self.pid = os.getpid()

    def __del__(self) -> None:
        # An object whose making failed may have no attributes yet.
        if "_out" in self.__dict__:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        if self.is_open and self.writable:
            raise io.UnsupportedOperation(
                f"{self.uri}: is open for writing and cannot be pickled; close it first"
            )
        return {**self.__dict__, "_map": None, "_out": None, "pid": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = dict(state)
        if state["is_open"]:
            self.is_open = False
            self.open()


class MXIndexedRecordIO(MXRecordIO):
    """A record file and its index: records by key. key_type makes a key of the text in the index.

    keys: list of the keys in the index's order. idx: dict from key to byte offset. Of a key that stands in
    the index twice the last one counts. Raises DataInputError if either file cannot be opened or the index
    is none.
    """

    def __init__(
        self, idx_path: str | Path, uri: str | Path, flag: str, key_type: Callable[[Any], Any] = int
    ) -> None:
        self.idx_path = str(idx_path)
        self.key_type = key_type
        self.fidx: io.FileIO | None = None
        self._table: KeyTable | None = None
        self._offsets = np.zeros(0, dtype=np.int64)
        self._idx: dict[Any, int] | None = {}
        self._keys: list[Any] | None = []
        super().__init__(uri, flag)

    def open(self) -> None:
        """Open both files; see MXRecordIO.open."""
        super().open()
        self._idx, self._keys, self._table = {}, [], None
        try:
            if self.writable:
                self.fidx = _create(self.idx_path)
            elif self.key_type is int:
                keys, self._offsets = read_index(Path(self.idx_path), Path(self.uri))
                self._table = KeyTable(keys)
                self._idx = self._keys = None
                self._reader().advice = f"its index is {self.idx_path}; copy both again"
            else:
                self._read_other_keys()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close both files; closing twice is allowed."""
        super().close()
        if self.fidx is not None:
            self.fidx.close()
            self.fidx = None

    @property
    def keys(self) -> list[Any]:
        """The keys in the index's order."""
        if self._keys is None:
            self._keys = self._table.keys.tolist() if self._table is not None else []
        return self._keys

    @property
    def idx(self) -> dict[Any, int]:
        """Byte offset of each key's record."""
        if self._idx is None:
            # Not from `keys`, which the caller may have shuffled.
            keys = self._table.keys.tolist() if self._table is not None else []
            self._idx = dict(zip(keys, self._offsets.tolist(), strict=True))
        return self._idx

    def seek(self, idx: Any) -> None:
        """Let the next `read` return the record of this key. Raises KeyError if there is none."""
        self._reader()
        self._check_pid(allow_reset=True)
        if self._idx is not None or self._table is None:
            self._position = self.idx[idx]
            return
        try:
            place = self._table.position(operator.index(idx))
        except TypeError:
            place = -1
        if place < 0:
            raise KeyError(idx)
        self._position = int(self._offsets[place])

    def tell(self) -> int:
        """Bytes written so far: the offset of the next record."""
        self._writer()
        return self._position

    def read_idx(self, idx: Any) -> bytes | None:
        """The record of this key. Raises KeyError if there is none, RecordError if it is damaged."""
        self.seek(idx)
        return self.read()

    def write_idx(self, idx: Any, buf: bytes | bytearray | memoryview) -> None:
        """Append one record under this key."""
        key, position = self.key_type(idx), self.tell()
        self.write(buf)
        if self.fidx is not None:
            _write_all(self.fidx, f"{key}\t{position}\n".encode())
        self.idx[key] = position
        self.keys.append(key)

    def _read_other_keys(self) -> None:
        try:
            lines = Path(self.idx_path).read_text(encoding="utf-8").splitlines()
            pairs = [line.strip().split("\t") for line in lines]
            self._keys = [self.key_type(pair[0]) for pair in pairs]
            self._idx = dict(zip(self._keys, (int(pair[1]) for pair in pairs), strict=True))
        except (OSError, ValueError, IndexError) as error:
            raise DataInputError(f"{self.idx_path}: is no index of {self.uri}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self.is_open:
            # Read again on opening.
            state |= {"_idx": None, "_keys": None, "_table": None, "_offsets": self._offsets[:0]}
        return {**state, "fidx": None}


def _create(path: str) -> io.FileIO:
    try:
        return io.FileIO(path, "w")
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else None
        raise DataInputError(f"{path}: cannot be written: {problem or error}") from None


def _write_all(file: io.FileIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]

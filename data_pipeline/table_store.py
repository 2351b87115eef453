"""Image tables on disk, so that a large set is read through once and then opened in no time.

They lie in `$COSFACE_CACHE`, or `~/.cache/cosface`, never in the user's folder: a table's name is made of
where the set is, its header says which state of the set (sizes and times of its files) it was made of. Every
process maps the same file, so the ranks of a host hold it once. Where nothing can be written there, each
process makes its own in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.lock import HeldByAnother, ProcessLock
from data_pipeline.image_table import ImageTable

MAGIC = b"cosface image table 1\n"
# Smaller sets are read through in less time than it takes to say so.
PERSISTED_FROM = 1 << 17
DEADLINE_S = 3600.0
_ALIGNMENT = 64
_LARGEST_HEADER = 1 << 20

State = dict[str, Any]


def table_directory() -> Path:
    """Where tables are kept."""
    if chosen := os.environ.get("COSFACE_CACHE"):
        return Path(chosen) / "tables"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cosface" / "tables"


def stored_table(
    state: State, build: Callable[[], ImageTable], *, persisted_from: int = PERSISTED_FROM
) -> ImageTable:
    """The table of a set in this state: from disk, or built, and kept on disk if it is large.

    state: what JSON can say; `state["set"]` names the set whatever its state. One process builds, others
    wait for it. Raises what `build` raises, and DataInputError if another process builds for an hour.
    """
    name = hashlib.blake2b(json.dumps(state["set"]).encode(), digest_size=16).hexdigest()
    try:
        file = table_directory() / f"{name}.table"
    except RuntimeError:  # no home
        return build()
    if (found := read_table(file, state)) is not None:
        return found
    if _bytes_of(state) < persisted_from * 32:
        # Not even the smallest records would make so many: no file, no lock.
        return build()
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(file.with_suffix(".lock")))
        except OSError:  # nothing can be written there
            return build()
        if (found := read_table(file, state)) is not None:
            return found
        table = build()
        if len(table) < persisted_from:
            return table
        try:
            write_table(file, state, table)
        except OSError:
            return table
    found = read_table(file, state)
    return table if found is None else found


def write_table(file: Path, state: State, table: ImageTable) -> None:
    """Write a table; it appears whole or not at all."""
    arrays = (table.place, table.label, table.key)
    header = json.dumps(
        {
            "state": state,
            "images": len(table),
            "classes": table.num_classes,
            "size": list(table.image_size),
            "dtypes": [array.dtype.str for array in arrays],
        }
    ).encode()
    with replacing(file, durable=True) as out:
        out.write(MAGIC + len(header).to_bytes(8, "little") + header)
        for array in arrays:
            out.write(bytes(-out.tell() % _ALIGNMENT))
            array.tofile(out)


def read_table(file: Path, state: State) -> ImageTable | None:
    """The table as a memory map; None if there is none, or one of another state, or one that is cut off or
    states classes that there are not.
    """
    try:
        with file.open("rb") as stream:
            start = len(MAGIC) + 8
            head = stream.read(start)
            length = int.from_bytes(head[len(MAGIC) :], "little")
            if head[: len(MAGIC)] != MAGIC or not 0 < length < _LARGEST_HEADER:
                return None
            header = json.loads(stream.read(length))
            if header["state"] != state:
                return None
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return _map_columns(mapped, start + length, header)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _map_columns(mapped: mmap.mmap, at: int, header: dict[str, Any]) -> ImageTable | None:
    images, (height, width) = int(header["images"]), header["size"]
    if header["dtypes"] not in (["<i8", "<i4", "<u4"], ["<i8", "<i4", "<i8"]):
        return None
    arrays: list[npt.NDArray[Any]] = []
    for kind in header["dtypes"]:
        at += -at % _ALIGNMENT
        end = at + images * np.dtype(kind).itemsize
        if end > len(mapped):
            return None
        arrays.append(np.frombuffer(mapped, dtype=kind, count=images, offset=at))
        at = end
    if at != len(mapped):
        return None
    place, label, key = arrays
    if images and not (label.min() >= 0 and label.max() < int(header["classes"]) and place.min() >= 0):
        return None
    return ImageTable(place, label, key, int(header["classes"]), (int(height), int(width)))


def _bytes_of(state: State) -> int:
    return sum(int(size) for _, size, _ in state["files"])


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock. Raises OSError where nothing can be written."""
    lock = ProcessLock(file, DEADLINE_S)
    try:
        lock.acquire()
    except HeldByAnother as other:
        raise DataInputError(
            f"{file}: {other.holder} has been reading the set through for {DEADLINE_S:.0f} s; "
            "end it, or wait and start again"
        ) from None
    try:
        yield
    finally:
        lock.release()

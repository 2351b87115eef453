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
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from data_pipeline.errors import DataInputError
from data_pipeline.files.atomic import leftovers
from data_pipeline.files.lock import HeldByAnother, ProcessLock
from data_pipeline.sets.table import ImageTable
from data_pipeline.sets.table_file import State, read_table, write_table

__all__ = ["PERSISTED_FROM", "State", "read_table", "stored_table", "table_directory", "write_table"]

# Smaller sets are read through in less time than it takes to say so.
PERSISTED_FROM = 1 << 17
DEADLINE_S = 3600.0


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
            for leftover in leftovers(file.parent, file.name):  # of who held the lock before and was killed
                leftover.unlink(missing_ok=True)
            write_table(file, state, table)
        except OSError:
            return table
    found = read_table(file, state)
    return table if found is None else found


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

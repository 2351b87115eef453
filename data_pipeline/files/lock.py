"""A file that one process at a time holds, on file systems without `flock` too.

Where the file system has `flock` (`filelock.FileLock`), the hold ends with the process, however that ends.
Where it has none (Lustre and NFS as they are often mounted) a marker beside the file, FILE.soft, is the hold
(`filelock.SoftFileLock`): it outlives a process that is killed, and is taken over if that process was of this
host and is gone. Of a process of another host nobody here can know; the error then says which file to remove.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import BaseFileLock, SoftFileLock, Timeout, UnixFileLock

from data_pipeline.files.stale_marker import look_at, remove_if_stale

_POLL_S = 0.05
_REMOVED_S = 10.0
_CAREFULLY = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class HeldByAnother(Exception):
    """Another process has it. holder: "process 71 on node3 since …", and what to do if that is gone."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class ProcessLock:
    """One process's hold on `file`; a context manager, or `acquire` and `release`.

    patience_s: how long to wait for another holder; the wait can be interrupted. The folder is made; whoever
    holds the lock may remove it. Raises HeldByAnother, and OSError if nothing can be written there.
    """

    def __init__(self, file: Path, patience_s: float = 0.0) -> None:
        self.file = Path(file)
        self.patience_s = patience_s
        self._marker = self.file.with_name(self.file.name + ".soft")
        self._lock: BaseFileLock = UnixFileLock(self.file, thread_local=False, fallback_to_soft=False)
        self._name: io.FileIO | None = None

    @property
    def is_soft(self) -> bool:
        """Whether the hold is a marker, since the file system has no flock."""
        return isinstance(self._lock, SoftFileLock)

    @property
    def is_held(self) -> bool:
        """Whether this process holds it."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock and leave this process's name in the file. Raises HeldByAnother, OSError."""
        deadline = time.monotonic() + self.patience_s
        while not self._try():
            # Where there is nothing, whoever had it has just finished and removed it: tried again at once.
            is_there = self._hold().exists()
            if time.monotonic() >= deadline + (0 if is_there else _REMOVED_S):
                raise HeldByAnother(self._holder())
            time.sleep(_POLL_S if is_there else 0)
        try:
            self._write_name()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go; nothing happens if it is not held."""
        if self.is_held:
            self._remove_name()
            self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> bool:
        before = look_at(self._marker) if self.is_soft else None
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return before is not None and remove_if_stale(self._marker, before) and self._try()
        except FileNotFoundError:
            return False  # the folder has just been removed
        except OSError as error:
            if self.is_soft or error.errno not in _NO_FLOCK:
                raise
            self._lock = SoftFileLock(self._marker, thread_local=False)
            return self._try()
        return True

    def _hold(self) -> Path:
        return self._marker if self.is_soft else self.file

    def _holder(self) -> str:
        try:
            name = self.file.read_text(encoding="utf-8", errors="replace")[:200].strip()
        except OSError:
            name = ""
        advice = f" (if it is gone, remove {self._marker})" if self.is_soft else ""
        return (name or "another process") + advice

    def _write_name(self) -> None:
        name = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        # Kept open, so that what is cleared in the end is this file and none that came in its place.
        self._name = io.FileIO(os.open(self.file, os.O_WRONLY | os.O_CREAT | _CAREFULLY, 0o644), "w")
        self._name.truncate(0)
        self._name.write(name.encode())

    def _remove_name(self) -> None:
        if self._name is not None:
            with suppress(OSError):  # a name that stays behind is only ever told of a lock that is held
                self._name.truncate(0)
                self._name.close()
            self._name = None

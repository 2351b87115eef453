"""The marker of a soft lock whose process was killed, taken away by one of those who want the lock.

`filelock` takes such a marker over itself, by exchanging two names in one step, which the very file systems
without flock may refuse. An attempt to lock that leaves the marker as it was before is the proof that this
one does; then whoever can create a file named after the marker removes it, and nobody else.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from filelock import SoftFileLock

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)

Seen = tuple[int, int, bytes]
"""A marker's file number, its time and its content: the same for no two markers."""


def look_at(marker: Path) -> Seen | None:
    """What is at the marker's place; None if nothing is there or it cannot be read."""
    try:
        descriptor = os.open(
            marker, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        )
    except OSError:
        return None
    try:
        state = os.fstat(descriptor)
        return state.st_ino, state.st_mtime_ns, os.read(descriptor, 1024)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def remove_if_stale(marker: Path, before: Seen) -> bool:
    """Remove the marker if its process was of this host and is gone; whether this process has done so.

    before: what was there before an attempt to lock, which has just failed.
    """
    if look_at(marker) != before or not is_gone(marker, before[2]):
        return False
    guard = marker.with_name(f"{marker.name}.{before[0]}-{before[1]}.stale")
    try:
        os.close(os.open(guard, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    try:
        if look_at(marker) != before:
            return False
        marker.unlink()
    except OSError:
        return False
    finally:
        with suppress(OSError):
            guard.unlink()
    return True


def is_gone(marker: Path, record: bytes) -> bool:
    """Whether the process that a marker's content names was of this host and runs no more."""
    # filelock's record: the process's number and its host, a line each; hosts in filelock's own spelling,
    # which tells containers of one host apart, so a marker of ours shows how this host is written.
    lines = record.decode("ascii", "replace").splitlines()
    if not record.endswith(b"\n") or len(lines) < 2 or not lines[0].isdecimal():
        return False
    probe = SoftFileLock(marker.with_name(f"{marker.name}.{secrets.token_hex(8)}"))
    with probe:
        here = Path(probe.lock_file).read_text(encoding="ascii", errors="replace").splitlines()[1:2]
    if lines[1:2] != here:
        return False
    try:
        os.kill(int(lines[0]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False

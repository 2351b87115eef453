"""Files that outlive the power: written, synced, renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def open_cut(path: Path, size: int) -> IO[bytes]:
    """The file, open at its end, which is `size`."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def write_durably(path: Path, text: str) -> None:
    """Puts a file in place of another, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sync(path: Path) -> None:
    """Waits until a file, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A growing file, of which only what was committed can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import IO


def open_cut(path: Path, size: int) -> IO[bytes]:
    """The file, open at its end, which is `size`."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file

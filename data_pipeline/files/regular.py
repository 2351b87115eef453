"""Opening a file that must be an ordinary one."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from data_pipeline.errors import DataInputError


def open_regular(path: Path, what: str) -> io.FileIO:
    """Open an ordinary file for reading; anything else, a pipe say, would block or have no size.

    what: for the message, "an index". Raises DataInputError.
    """
    try:
        file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else None
        raise DataInputError(f"{path}: cannot be opened as {what}: {problem or error}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataInputError(f"{path}: cannot be opened as {what}: is no ordinary file")
    return file

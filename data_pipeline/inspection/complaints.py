"""What the decoders behind OpenCV say about an image that they decode all the same.

libjpeg fills what a damaged JPEG lacks with grey, returns the image, and writes one line about it to
standard error: OpenCV has no other way to hear of it. So standard error is pointed at a file meanwhile.
"""

from __future__ import annotations

import os
import sys
import tempfile
from types import TracebackType
from typing import Self

# Other lines (a colour profile that libpng does not like) are about images that are whole.
_OF_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "libpng error")


class Complaints:
    """While open, all that this process writes to standard error goes to a file, not only the decoders'."""

    def __enter__(self) -> Self:
        if sys.stderr is not None:  # as in a process without a console
            sys.stderr.flush()
        self._file = tempfile.TemporaryFile()
        self._standard_error = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def take(self) -> str | None:
        """The first line about damage since the last call, or None."""
        size = os.fstat(self._file.fileno()).st_size
        if not size:
            return None
        lines = os.pread(self._file.fileno(), min(size, 1 << 20), 0).decode("utf-8", "replace").splitlines()
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        return next((line for line in lines if line.startswith(_OF_DAMAGE)), None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.stderr is not None:  # as in a process without a console
            sys.stderr.flush()
        os.dup2(self._standard_error, 2)
        os.close(self._standard_error)
        self._file.close()

"""Which files of a folder are taken for images: by their names, or else by their first bytes.

What lies beside images (Thumbs.db, desktop.ini, lists of points, notes) is none. A file that is named as an
image and holds none is damaged, not passed over.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

from data_pipeline.images.formats import HEAD_BYTES, format_of

# fmt: off
SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on

_PNM = re.compile(rb"P[1-6]\s+(?:#|\d+\s)")
_BMP_RESERVED = slice(6, 10)


def has_image_name(name: str) -> bool:
    """Whether a file's name ends as images' names do, in either case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether a file is named as images are (in either case), or begins as one; what cannot be read does not.

    Only a file with another name is opened, and only if it is an ordinary one.
    """
    if has_image_name(path.name):
        return True
    try:
        # A pipe would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return stat.S_ISREG(os.fstat(handle).st_mode) and _begins_as_image(
                os.read(handle, 2 * HEAD_BYTES)
            )
        finally:
            os.close(handle)
    except OSError:
        return False


def _begins_as_image(head: bytes) -> bool:
    """More than two letters must tell a picture from a text that begins with them."""
    match format_of(head):
        case None:
            return False
        case "bmp":
            return not any(head[_BMP_RESERVED]) and len(head) > HEAD_BYTES
        case "pnm":
            return _PNM.match(head) is not None
        case _:
            return True


def without_suffix(path: str) -> str:
    """A path without an image's suffix; `0001.02`, whose end is none, stays whole."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in SUFFIXES else path

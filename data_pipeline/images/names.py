"""Which files of a folder are taken for images: by their names, or else by their first bytes.

What lies beside images (Thumbs.db, desktop.ini, lists of points, notes) is none. A file that is named as an
image and holds none is damaged, not passed over.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

# fmt: off
SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on

_FIRST_BYTES = 32
_SIGNATURES = (
    rb"\xff\xd8\xff"
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF.{4}WEBP"
    rb"|BM.{12}[\x0c\x28\x6c\x7c]\0\0\0"
    rb"|II\*\0|MM\0\*"
    rb"|P[1-6]\s+(?:#|\d+\s)"
    rb"|\0\0\0\x0cjP  "
    rb"|.{4}ftyp(?:avif|heic|mif1)"
)
_IMAGE = re.compile(_SIGNATURES, re.DOTALL)


def is_image_file(path: Path) -> bool:
    """Whether a file is named as images are (in either case), or begins as one; what cannot be read does not.

    Only a file with another name is opened, and only if it is an ordinary one.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        # A pipe would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            ordinary = stat.S_ISREG(os.fstat(handle).st_mode)
            return ordinary and _IMAGE.match(os.read(handle, _FIRST_BYTES)) is not None
        finally:
            os.close(handle)
    except OSError:
        return False


def without_suffix(path: str) -> str:
    """A path without an image's suffix; `0001.02`, whose end is none, stays whole."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in SUFFIXES else path

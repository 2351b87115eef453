"""Which formats an image may have, told by its first bytes: one answer for training, packing and inspecting.

They are what DALI and OpenCV both read. What OpenCV alone reads (GIF, AVIF and rarer ones) is none: which
images a set has must not depend on the decoder that is installed.
"""

from __future__ import annotations

import re
from typing import Literal

Format = Literal["jpeg", "png", "webp", "bmp", "tiff", "pnm", "jp2"]
ALLOWED = "JPEG, PNG, WebP, BMP, TIFF, PNM nor JPEG 2000"
# As many bytes as tell every format.
HEAD_BYTES = 16
# What one picture may cost: 100 megapixels are 300 MB decoded.
MAX_PIXELS = 100_000_000

_STARTS: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\0\0\0\x0cjP  ", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
)
_PNM = re.compile(rb"P[1-6][\s#]")
# Pictures that people take for one of the above, since their names end in .jpg.
_OTHERS = (
    (0, b"GIF87a", "a GIF"),
    (0, b"GIF89a", "a GIF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
)


def format_of(head: bytes) -> Format | None:
    """The format of an encoded image by its first HEAD_BYTES bytes or more; None for what is none to us."""
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return "pnm" if _PNM.match(head) else None


def other_format(head: bytes) -> str | None:
    """What such bytes are instead, with the article, where that is known: "a GIF"."""
    return next((name for at, start, name in _OTHERS if head.startswith(start, at)), None)


def too_large(height: int, width: int) -> str | None:
    """What is wrong with a picture of so many pixels; None if nothing is."""
    if height * width <= MAX_PIXELS:
        return None
    return f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} megapixels"

"""Is an encoded image whole? A structural check that the loader can afford for every image.

DALI and OpenCV refuse what this refuses, but for a file cut off and filled up with zeros that
happen to decode; DALI writes about it to standard error first, and either may set aside
gigabytes for a size that a damaged header states. What lies inside the coded data is seen by
`entropy.scan_damage` alone: libjpeg decodes it with grey or wrong blocks and only prints a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.compiled import compiled

Payload = npt.NDArray[np.uint8]

_START, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# A block of 8 x 8 pixels takes a bit at least.
_PIXELS_PER_BYTE = 8 * 64
_LARGEST_SIDE = 65500
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_ARITHMETIC = {0xC9, 0xCA}
_OTHERS = (b"BM", b"II*\0", b"MM\0*", b"P5", b"P6", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


def damage(payload: Payload) -> str | None:
    """What is wrong with one encoded image, uint8 [n], as far as its structure tells; None if nothing is.

    JPEG (also progressive, grey and CMYK), PNG, WebP, BMP, TIFF, PNM and JPEG 2000 are what DALI and OpenCV
    both read.
    """
    if _is_whole_jpeg(payload):
        return None
    reason = _look_closely(payload.tobytes())
    return None if reason is None else f"its image cannot be decoded: {reason}"


def damages(payloads: Sequence[Payload]) -> dict[int, str]:
    """Places of the damaged among these, with the reasons."""
    found = ((place, damage(payload)) for place, payload in enumerate(payloads))
    return {place: reason for place, reason in found if reason is not None}


@compiled
def _is_whole_jpeg(data: Payload) -> bool:
    """The quick look: segments up to the scan, one frame header of a possible size, the end marker last."""
    size: Any = len(data)
    if size < 4 or data[0] != 0xFF or data[1] != 0xD8 or data[size - 2] != 0xFF or data[size - 1] != 0xD9:
        return False
    at: Any = 2
    has_frame = False
    while at + 9 < size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return has_frame
        if marker >= 0xC0 and marker <= 0xC2:
            height = (np.int64(data[at + 5]) << 8) + np.int64(data[at + 6])
            width = (np.int64(data[at + 7]) << 8) + np.int64(data[at + 8])
            if data[at + 4] != 8 or height * width == 0 or height * width > size * _PIXELS_PER_BYTE:
                return False
            has_frame = True
        elif not (marker == 0xC4 or marker == 0xDB or marker == 0xDD or 0xE0 <= marker <= 0xFE):
            return False
        length = (np.int64(data[at + 2]) << 8) + np.int64(data[at + 3])
        if length < 2:
            return False
        at += 2 + length
    return False


def _look_closely(data: bytes) -> str | None:
    if not data:
        return "the record holds no image"
    if data[:2] == _START:
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return None if b"IEND" in data else "the PNG file is cut off"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        whole = len(data) >= int.from_bytes(data[4:8], "little") + 8
        return None if whole else "the WebP file is cut off"
    if data.startswith(_OTHERS):
        return None
    return "it is neither JPEG, PNG, WebP, BMP, TIFF, PNM nor JPEG 2000"


def _jpeg(data: bytes) -> str | None:
    """Walk through the segments up to the first scan."""
    at, needed = 2, 0
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data):
            return f"the JPEG file ends after {len(data)} bytes, before its first scan"
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or marker in (0x00, 0xD8, 0xD9) or length < 2:
            return f"no JPEG segment at byte {at}, where one is due"
        if marker == _SCAN[1]:
            break
        if marker in _FRAMES:
            found = _frame(data, at, marker, length)
            if isinstance(found, str):
                return found
            needed = found
        at += 2 + length
    if not needed:
        return "the JPEG file has a scan but no frame header"
    if len(data) < needed:
        return f"the JPEG header states more pixels than {len(data)} bytes can hold"
    # Files may have something behind them; a preview's end in front of the scan is none.
    if _END not in data[at:]:
        return "the JPEG file is cut off: it has no end-of-image marker"
    return None


def _frame(data: bytes, at: int, marker: int, length: int) -> int | str:
    """How many bytes the file must have, or what is wrong with the frame header."""
    if length < 8 or at + 2 + length > len(data):
        return "the JPEG frame header is cut off"
    precision = data[at + 4]
    height, width = (int.from_bytes(data[at + place : at + place + 2], "big") for place in (5, 7))
    if marker in _LOSSLESS or precision != 8:
        return f"JPEG of kind {marker - 0xC0} with {precision} bits, not baseline or progressive with 8"
    if not 0 < height <= _LARGEST_SIDE or not 0 < width <= _LARGEST_SIDE:
        return f"the JPEG header states {height} x {width} pixels"
    return 1 if marker in _ARITHMETIC else -(-height * width // _PIXELS_PER_BYTE)

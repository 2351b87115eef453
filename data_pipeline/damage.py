"""Is an encoded image whole? A structural check that the loader can afford for every image.

DALI and OpenCV refuse what this refuses, but for other formats (OpenCV reads more) and a file cut off and
filled up with zeros that happen to decode. OpenCV decodes all else that is whole; DALI does not, see
`images.hand_over`. DALI writes about it to standard error first, and either may set aside
gigabytes for a size that a damaged header states. What lies inside the coded data is seen by
`entropy.scan_damage` alone: libjpeg decodes it with grey or wrong blocks and only prints a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.compiled import compiled
from data_pipeline.image_header import read_header
from data_pipeline.images.formats import ALLOWED, format_of, other_format

Payload = npt.NDArray[np.uint8]

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# A block of 8 x 8 pixels takes a bit at least.
_PIXELS_PER_BYTE = 8 * 64
_LARGEST_SIDE = 65500
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_ARITHMETIC = {0xC9, 0xCA}
# What one picture may cost: 100 megapixels are 300 MB decoded.
MAX_PIXELS = 100_000_000


def damage(payload: Payload) -> str | None:
    """What is wrong with one encoded image, uint8 [n], as far as its structure tells; None if nothing is.

    What this refuses is no image to training, `cosface pack` and `cosface inspect` alike: other formats than
    `formats.ALLOWED`, more than MAX_PIXELS, and what is cut off or contradicts itself.
    """
    if is_usual_jpeg(payload):
        return None
    reason = _look_closely(payload.tobytes())
    return None if reason is None else f"its image cannot be decoded: {reason}"


def unusual(payloads: Sequence[Payload]) -> list[int]:
    """Places of those among these that are no `is_usual_jpeg`: damaged, of another format or rare."""
    return [place for place, payload in enumerate(payloads) if not is_usual_jpeg(payload)]


def damages(payloads: Sequence[Payload], places: Iterable[int] | None = None) -> dict[int, str]:
    """Places of the damaged among these, or among those at some places, with the reasons."""
    looked_at = range(len(payloads)) if places is None else places
    found = ((place, damage(payloads[place])) for place in looked_at)
    return {place: reason for place, reason in found if reason is not None}


def too_large(height: int, width: int) -> str | None:
    """What is wrong with a picture of so many pixels; None if nothing is."""
    if height * width <= MAX_PIXELS:
        return None
    return f"{width} x {height} pixels, more than {MAX_PIXELS // 1_000_000} megapixels"


@compiled
def is_usual_jpeg(data: Payload) -> bool:
    """The quick look at uint8 [n], which is enough for nearly every image: segments up to the scan, one frame
    header of a possible size, the end marker last.
    """
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
            pixels = height * width
            if data[at + 4] != 8 or pixels == 0 or pixels > size * _PIXELS_PER_BYTE or pixels > MAX_PIXELS:
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
    kind = format_of(data)
    if kind is None:
        other = other_format(data)
        return f"it is neither {ALLOWED}" if other is None else f"it is {other}, neither {ALLOWED}"
    if kind == "jpeg" and (reason := _jpeg(data)):
        return reason
    if kind == "png" and b"IEND" not in data:
        return "the PNG file is cut off"
    if kind == "webp" and len(data) < int.from_bytes(data[4:8], "little") + 8:
        return "the WebP file is cut off"
    header = read_header(data)
    if header is None or not header.height * header.width:
        return "its header states no size"
    return too_large(header.height, header.width)


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

"""Is an encoded image whole? A check that the loader can afford for every image.

A JPEG as nearly all are is told by its structure, in a microsecond; any other is decoded by a libjpeg whose
warnings count. OpenCV decodes all in which nothing is found, DALI nearly all (`images.hand_over`). Of what
this refuses they would decode some with grey for what is missing; DALI writes about it to standard error
first, and either may set aside gigabytes for a size that a damaged header states. What lies inside the coded
data of a usual JPEG is seen by `images.jpeg.decode_strictly` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.files.compiled import compiled
from data_pipeline.images.formats import ALLOWED, MAX_PIXELS, format_of, other_format, too_large
from data_pipeline.images.header import read_header
from data_pipeline.images.jpeg import missing_data

Payload = npt.NDArray[np.uint8]

_PNG_END = b"IEND\xaeB`\x82"
# A block of 8 x 8 pixels takes a bit at least.
_PIXELS_PER_BYTE = 8 * 64


def damage(payload: Payload) -> str | None:
    """What is wrong with one encoded image, uint8 [n], as far as its structure tells; None if nothing is.

    What this refuses is no image to training, `cosface pack` and `cosface inspect` alike: other formats than
    `formats.ALLOWED`, more than `formats.MAX_PIXELS`, and what is cut off or contradicts itself.
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
    if kind == "jpeg":
        return missing_data(data)
    if kind == "png" and _PNG_END not in data:
        return "the PNG file is cut off"
    if kind == "webp" and len(data) < int.from_bytes(data[4:8], "little") + 8:
        return "the WebP file is cut off"
    header = read_header(data)
    if header is None or not header.height * header.width:
        return "its header states no size"
    return too_large(header.height, header.width)

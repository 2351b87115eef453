"""Format and size of an encoded image from its first bytes, and whether its last ones are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_pipeline import image_header
from data_pipeline.image_header import ImageHeader

Encoded = npt.NDArray[np.uint8]

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


def read_header(encoded: Encoded) -> ImageHeader | None:
    """The header of a JPEG or PNG, the formats whose end is known here; None for all else."""
    header = image_header.read_header(encoded.tobytes())
    return header if header is not None and header.format in ("jpeg", "png") else None


def is_cut_off(encoded: Encoded) -> bool:
    """Whether a JPEG or PNG lacks its end. Other bytes may follow the end; what is neither is not cut off."""
    start = encoded[:8].tobytes()
    if start == _PNG:
        return encoded[-12:].tobytes() != _PNG_END and _PNG_END not in encoded.tobytes()
    if not start.startswith(_SOI):
        return False
    # Quick, and right but for a file cut behind the last byte of a thumbnail in its header.
    return encoded[-2:].tobytes() != _EOI and not _has_end(encoded)


def _has_end(encoded: Encoded) -> bool:
    """Whether an EOI marker stands after the image's data, not inside a segment."""
    data, at = encoded.tobytes(), 2
    while (found := _next_segment(encoded, at)) is not None:
        marker, _, at = found
        if marker == 0xD9:
            return True
        if marker == _START_OF_SCAN:
            # In entropy-coded data 0xff is followed by 0, a restart marker or fill; all else ends the scan.
            while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
                if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7 and data[at + 1] != 0xFF:
                    break
                at += 1
            if at < 0:
                return False
    return False


def _next_segment(encoded: Encoded, at: int) -> tuple[int, int, int] | None:
    """(marker, start of its body, end of its body) of the segment at this byte; None if there is none."""
    end = len(encoded)
    if at + 1 >= end or encoded[at] != 0xFF:
        return None
    while at + 1 < end and encoded[at + 1] == 0xFF:
        at += 1
    if at + 1 >= end:
        return None
    marker = int(encoded[at + 1])
    if marker in _WITHOUT_LENGTH or marker == 0xD9:
        return marker, at + 2, at + 2
    if marker == 0 or at + 3 >= end:
        return None
    length = int(encoded[at + 2]) << 8 | int(encoded[at + 3])
    return (marker, at + 4, at + 2 + length) if length >= 2 else None

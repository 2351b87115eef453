"""An encoded picture's format and size from its first bytes, before anything is decoded.

A few kilobytes can say that they are 30,000 × 30,000 pixels; whoever decodes them needs gigabytes. A JPEG's
header is read by libjpeg. The others' few lines stay here: Pillow, tried in their place, takes 2 to 9 times
as long, calls a PNG of 16 bits RGB like one of 8, and writes about damaged TIFFs to standard error.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from data_pipeline.images.jpeg import jpeg_header

_CHANNELS = {"Gray": 1, "YCbCr": 3, "RGB": 3, "CMYK": 4, "YCCK": 4}
_PNM = re.compile(rb"P([1-6])(?:\s+|#[^\r\n]*[\r\n])+(\d{1,9})(?:\s+|#[^\r\n]*[\r\n])+(\d{1,9})\s")
_PNM_HEADER_BYTES = 4096


@dataclass(frozen=True)
class ImageHeader:
    """What a picture's first bytes say of it.

    channels: of a JPEG or PNG, 0 for other formats. plain: 8 bits a channel and nothing beside the pixels
    that changes how they are shown (orientation, palette, transparency).
    """

    format: str
    width: int
    height: int
    channels: int = 0
    plain: bool = False


def read_header(content: bytes) -> ImageHeader | None:
    """The header of a JPEG, PNG, WebP, BMP, PNM, TIFF or JPEG 2000 file; None: none of these, or no size."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
            return _png(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
        if content.startswith(b"BM"):
            return _bmp(content)
        if content[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(content)
        if match := _PNM.match(content, 0, _PNM_HEADER_BYTES):
            return ImageHeader("pnm", int(match[2]), int(match[3]))
        if content[4:8] == b"jP  " and (at := content.find(b"ihdr")) > 0:
            height, width = struct.unpack_from(">II", content, at + 4)
            return ImageHeader("jp2", width, height)
        if content.startswith(b"\xff\x4f\xff\x51"):
            right, bottom, left, top = struct.unpack_from(">4I", content, 8)
            return ImageHeader("jp2", right - left, bottom - top)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(content: bytes) -> ImageHeader | None:
    header = jpeg_header(content)
    if isinstance(header, str):
        return None
    channels = _CHANNELS.get(header.colours, 0)
    plain = channels in (1, 3) and b"Exif" not in content
    return ImageHeader("jpeg", header.width, header.height, channels, plain)


def _png(content: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 0)
    # A grey or colour PNG with a transparent colour or an EXIF orientation is not plain.
    body = content[: content.find(b"IDAT")]
    plain = bits == 8 and colour in (0, 2) and b"tRNS" not in body and b"eXIf" not in content
    return ImageHeader("png", width, height, channels, plain)


def _webp(content: bytes) -> ImageHeader | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        return ImageHeader("webp", width, int.from_bytes(content[27:30], "little") + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _bmp(content: bytes) -> ImageHeader:
    (header_bytes,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", content, 18)
    return ImageHeader("bmp", abs(width), abs(height))


def _tiff(content: bytes) -> ImageHeader | None:
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", content, 4)
    (entries,) = struct.unpack_from(order + "H", content, at)
    sizes = {}
    for entry in range(min(entries, 512)):
        tag, kind = struct.unpack_from(order + "HH", content, at + 2 + 12 * entry)
        if tag in (256, 257):
            (sizes[tag],) = struct.unpack_from(
                order + ("H" if kind == 3 else "I"), content, at + 10 + 12 * entry
            )
    return ImageHeader("tiff", sizes[256], sizes[257]) if len(sizes) == 2 else None

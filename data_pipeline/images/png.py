"""What OpenCV's reader of PNG would write to standard error: damage it refuses, and profiles it ignores."""

from __future__ import annotations

import zlib

_AFTER_SIGNATURE = 8


def png_damage(data: bytes) -> str | None:
    """What is wrong with the chunks that a picture needs, by their checksums and the last one's presence."""
    at = _AFTER_SIGNATURE
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        # Of a chunk that begins with a small letter libpng makes do without.
        is_needed = kind[:1].isupper()
        if is_needed and zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            return f"the checksum of its PNG chunk at byte {at} is wrong, or the file is cut off"
        if kind == b"IEND":
            return None
        at = end + 4
    return "the PNG file is cut off"


def without_profile(data: bytes) -> bytes:
    """The same without a colour profile, which OpenCV ignores and, with many, writes a line about."""
    at = data.find(b"iCCP", _AFTER_SIGNATURE, data.find(b"IDAT")) - 4
    if at < _AFTER_SIGNATURE:
        return data
    return data[:at] + data[at + 12 + int.from_bytes(data[at : at + 4], "big") :]

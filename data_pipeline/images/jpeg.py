"""JPEG files by a libjpeg whose warnings count (simplejpeg): the header, and whether all data are there.

Where data are cut off before an end marker, overwritten or flipped, other ways to libjpeg (OpenCV, DALI,
Pillow) fill in grey or wrong blocks and return an image all the same. Flipped bits that still make the right
number of blocks cannot be told from an image. What simplejpeg has no name for (rare samplings of colour, odd
remarks in the header) is left to Pillow, which is told of the JPEG format alone.
"""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.images.formats import too_large

Images = npt.NDArray[np.uint8]
Encoded = bytes | npt.NDArray[np.uint8]

# Warnings and errors about the data; other warnings are about headers that change no pixel.
_OF_DATA = ("Corrupt JPEG data", "Premature end of JPEG file")
_ONLY_BEHIND = "extraneous bytes before marker 0xd9"
_MODES = {"L": "Gray", "RGB": "YCbCr", "CMYK": "CMYK"}


class JpegHeader(NamedTuple):
    """colours: as stored, "Gray", "YCbCr", "RGB", "CMYK" or "YCCK"."""

    height: int
    width: int
    colours: str


def jpeg_header(data: Encoded) -> JpegHeader | str:
    """What a file states up to its first scan, or why that cannot be read."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError) as error:
        picture = _opened(data)
        if picture is None:
            return f"its JPEG header cannot be read: {_said(error)}"
        return JpegHeader(picture.height, picture.width, _MODES.get(picture.mode, picture.mode))
    return JpegHeader(height, width, colours)


def decode_strictly(data: Encoded) -> Images | str:
    """uint8 [H, W, 3] RGB, or [H, W, 4] of a file in CMYK, not turned as EXIF may say; or what is wrong: its
    size, or what libjpeg says about its data. The interpreter is let go of meanwhile.
    """
    import simplejpeg

    header = jpeg_header(data)
    if isinstance(header, str):
        return header
    if reason := too_large(header.height, header.width):
        return reason
    colours = "CMYK" if header.colours in ("CMYK", "YCCK") else "RGB"
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace=colours, strict=True), dtype=np.uint8)
    except (ValueError, KeyError) as error:
        said = _said(error)
        if said.startswith(_OF_DATA):
            return f"libjpeg says: {said}"
        image = _decoded(data, colours)
        return f"libjpeg says: {said}" if image is None else image


def missing_data(data: Encoded) -> str | None:
    """What `decode_strictly` finds wrong, but for bytes between the last block and the end marker: they
    change no pixel, and some cameras leave them there.
    """
    found = decode_strictly(data)
    if isinstance(found, str) and not found.endswith(_ONLY_BEHIND):
        return found
    return None


def _said(error: Exception) -> str:
    # A KeyError is of colours that are none, as where the header ends before it states any.
    return "it ends early" if isinstance(error, KeyError) else " ".join(str(error).split())


def _opened(data: Encoded) -> Any:
    """The file in Pillow, its header read; None if that cannot be read either."""
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        picture = JpegImageFile(io.BytesIO(bytes(data)))
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error):
        return None
    return picture if picture.width and picture.height else None


def _decoded(data: Encoded, colours: str) -> Images | None:
    picture = _opened(data)
    if picture is None:
        return None
    try:
        return np.asarray(picture.convert(colours), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error):
        return None

"""Images that OpenCV decodes where DALI decodes the others: which ones, and how their pixels get to DALI.

DALI is given what it was seen to decode as OpenCV does: JPEG as nearly all are, PNG and WebP. Of the rest it
refuses some valid files, and a few kinds end the process inside its decoder.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_pipeline.images.formats import HEAD_BYTES, format_of

Payload = npt.NDArray[np.uint8]

REFUSED = "DALI refuses it, OpenCV does not"
_NAMES = {"bmp": "a BMP", "tiff": "a TIFF", "pnm": "a PNM", "jp2": "a JPEG 2000"}


def left_to_opencv(payload: Payload) -> str | None:
    """Why DALI is not given an encoded image, uint8 [n], in which `damage` finds nothing and that is no
    `is_usual_jpeg`; None if it is.
    """
    match format_of(payload[:HEAD_BYTES].tobytes()):
        case "png":
            return None
        case "webp":
            lost = _exif_behind_odd_chunk(payload.tobytes())
            return "a WebP with EXIF behind a chunk of odd length, which DALI refuses" if lost else None
        case "jpeg":
            return "a JPEG of an unusual structure"
        case kind:
            return _NAMES.get(str(kind), "an unusual image")


def as_pixels(image: npt.NDArray[np.uint8]) -> Payload:
    """An image [H, W, 3] RGB in an encoding that DALI decodes by copying: PNM, uint8 [n]."""
    head = np.frombuffer(b"P6 %d %d 255\n" % (image.shape[1], image.shape[0]), dtype=np.uint8)
    return np.concatenate([head, image.reshape(-1)])


def _exif_behind_odd_chunk(data: bytes) -> bool:
    """Chunks of odd length are followed by a byte that their length does not count; DALI does not step over
    it where it looks for EXIF.
    """
    at, is_odd = 12, False
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return is_odd
        is_odd = is_odd or length % 2 == 1
        at += 8 + length + length % 2
    return False

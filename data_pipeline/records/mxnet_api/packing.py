"""mxnet's `pack` and `unpack`: an image record's header, labels and payload as bytes and back."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError
from data_pipeline.records.format import HEADER, image_header


class IRHeader(NamedTuple):
    """What stands before a record's payload: number of labels in a vector or 0, label or labels, ids."""

    flag: int
    label: Any
    id: int
    id2: int


def pack(header: IRHeader | Sequence[Any], s: bytes) -> bytes:
    """Header and payload as one record's bytes; a label that is no number becomes a float32 vector.

    Raises ValueError for ids outside 0 … 2**64 - 1.
    """
    _, label, ident, id2 = header
    if isinstance(label, numbers.Real):
        return image_header(float(label), ident, id2) + s
    return image_header(np.asarray(label, dtype=np.float32), ident, id2) + s


def unpack(s: bytes) -> tuple[IRHeader, bytes]:
    """Header and payload of one record's bytes. Raises DataInputError if they are too short for it."""
    if len(s) < HEADER.size:
        raise DataInputError(f"a record of {len(s)} bytes is too short for its header of {HEADER.size}")
    header = IRHeader(*HEADER.unpack_from(s))
    start = HEADER.size + 4 * header.flag
    if start > len(s):
        raise DataInputError(f"a record of {len(s)} bytes is too short for its {header.flag} labels")
    if header.flag:
        header = header._replace(label=np.frombuffer(s[HEADER.size : start], dtype="<f4"))
    return header, s[start:]


def unpack_img(s: bytes, iscolor: int = -1) -> tuple[IRHeader, npt.NDArray[Any] | None]:
    """Header and image of one record's bytes, as OpenCV decodes it (BGR); None if it cannot be decoded."""
    header, payload = unpack(s)
    image = cv2.imdecode(np.frombuffer(payload, dtype=np.uint8), iscolor) if payload else None
    return header, image


def pack_img(
    header: IRHeader | Sequence[Any], img: npt.NDArray[Any], quality: int = 95, img_fmt: str = ".jpg"
) -> bytes:
    """An image encoded by OpenCV as one record's bytes.

    quality: 1 … 100 for JPEG, compression 1 … 9 for PNG. Raises ValueError if it cannot be encoded.
    """
    parameters = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, quality],
    }.get(img_fmt.lower(), [])
    try:
        done, encoded = cv2.imencode(img_fmt, img, parameters)
    except cv2.error as error:
        raise ValueError(f"the image cannot be encoded as {img_fmt!r}: {error.err}") from None
    if not done:
        raise ValueError(f"the image cannot be encoded as {img_fmt!r}")
    return pack(header, encoded.tobytes())

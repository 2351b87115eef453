"""A look at one encoded image: its size, what is wrong with it, and what it is alike to."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.images.decode import Images, decode_image
from data_pipeline.images.formats import HEAD_BYTES, format_of
from data_pipeline.images.hand_over import left_to_opencv
from data_pipeline.images.header import read_header
from data_pipeline.images.jpeg import decode_strictly, jpeg_header
from data_pipeline.images.png import png_damage
from data_pipeline.images.soundness import damage, is_usual_jpeg

Encoded = npt.NDArray[np.uint8]
Depth = Literal["headers", "pixels", "near"]
"""headers: nothing is decoded and nothing compared; pixels: both; near: a perceptual hash too."""

CANNOT_BE_DECODED = "the image cannot be decoded"
NO_IMAGE = "the record holds no image"


class Look(NamedTuple):
    """size: (height, width), None if it cannot be decoded. hashes: the first 64 bits of each
    digest, 0 if not made. handed_over: why OpenCV decodes it even where DALI decodes the others.
    """

    size: tuple[int, int] | None
    problem: str | None = None
    file_hash: int = 0
    pixel_hash: int = 0
    near_hash: int = 0
    handed_over: str | None = None


def look_at(encoded: Encoded, depth: Depth = "pixels") -> Look:
    """Look at one image, as far as `depth` says."""
    if not len(encoded):
        return Look(None, NO_IMAGE)
    # What a run and a pack pass over is named here too.
    usual = is_usual_jpeg(encoded)
    if not usual and (reason := damage(encoded)):
        return Look(None, reason)
    handed_over = None if usual else left_to_opencv(encoded)
    if depth == "headers":
        header = jpeg_header(encoded) if usual else read_header(encoded.tobytes())
        if isinstance(header, str):
            return Look(None, header)
        size = None if header is None else (header.height, header.width)
        return Look(size, None if size else CANNOT_BE_DECODED, handed_over=handed_over)
    image = decode_all(encoded)
    if isinstance(image, str):
        return Look(None, image)
    size = (image.shape[0], image.shape[1])
    near = near_hash(image) if depth == "near" else 0
    hashes = _first_bits(file_digest(encoded)), _first_bits(pixel_digest(image))
    return Look(size, None, *hashes, near, handed_over)


def decode_all(encoded: Encoded) -> Images | str:
    """uint8 [H, W, 3] RGB as `decode_image` has it, or what is wrong: also what that would fill with grey."""
    kind = format_of(encoded[:HEAD_BYTES].tobytes())
    if kind == "jpeg":
        image = decode_strictly(encoded)
        # The same library, but it heeds no orientation and leaves four colours as they are.
        if isinstance(image, str) or (image.shape[2] == 3 and b"Exif" not in encoded.tobytes()):
            return image
    if kind == "png" and (reason := png_damage(encoded.tobytes())):
        return reason
    found = decode_image(encoded.data)
    return CANNOT_BE_DECODED if found is None else found


def file_digest(encoded: Encoded) -> bytes:
    """SHA-256 of the encoded image."""
    return hashlib.sha256(encoded.data).digest()


def pixel_digest(image: Images) -> bytes:
    """SHA-256 of the size and the pixels."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def near_hash(image: Images) -> int:
    """64 bits: whether each of 8 x 8 places of the grey image is darker than its right neighbour (dHash)."""
    import cv2

    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA)
    grey = small.astype(np.int32) @ np.array((299, 587, 114), dtype=np.int32)
    return int(np.packbits(grey[:, :-1] < grey[:, 1:]).view(">u8")[0])


def _first_bits(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")

"""One image file made ready for training or evaluation: decoded, aligned or resized, encoded as JPEG."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from data_pipeline.align import process_aligner
from data_pipeline.decode import Images, decode_image, fit

Alignment = Literal["mtcnn", "none"]

NO_IMAGE = "no image that can be decoded"
NO_FACE = "no face found"


@dataclass(frozen=True)
class Preparation:
    """What becomes of every image."""

    align: Alignment = "none"
    size: tuple[int, int] = (112, 112)
    """Height and width in pixels."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    keep_faceless: bool = False
    """Resize an image without a face as it is instead of leaving it out."""

    def __post_init__(self) -> None:
        if self.align not in ("mtcnn", "none"):
            raise ValueError(f"align must be mtcnn or none, got {self.align}")
        if min(self.size) < 8 or max(self.size) > 4096:
            raise ValueError(f"size must be between 8 and 4096 pixels, got {self.size[0]} {self.size[1]}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be between 1 and 100, got {self.quality}")


@dataclass(frozen=True)
class Prepared:
    """An image's JPEG, and what was wrong with its file; payload None: left out."""

    payload: bytes | None
    problem: str | None


def prepare_file(preparation: Preparation, path: Path) -> Prepared:
    """Reads and prepares one file; grey images become RGB."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return Prepared(None, os.strerror(error.errno) if error.errno else "cannot be read")
    image = decode_image(content)
    if image is None:
        return Prepared(None, NO_IMAGE)
    if preparation.align == "none":
        return Prepared(encode_jpeg(fit(image, preparation.size), preparation.quality), None)
    aligned = process_aligner(preparation.size).align(image)
    if aligned is not None:
        return Prepared(encode_jpeg(aligned, preparation.quality), None)
    if preparation.keep_faceless:
        return Prepared(encode_jpeg(fit(image, preparation.size), preparation.quality), NO_FACE)
    return Prepared(None, NO_FACE)


def encode_jpeg(image: Images, quality: int) -> bytes:
    """[H, W, 3] uint8 RGB to JPEG."""
    encoded, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data.tobytes())

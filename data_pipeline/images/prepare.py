"""One image file made ready for training or evaluation: decoded, aligned or resized, encoded as JPEG."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from data_pipeline.images.align import FloatArray, are_apart, crop, process_aligner
from data_pipeline.images.decode import Images, decoded, fit
from data_pipeline.images.formats import ALLOWED, other_format, too_large
from data_pipeline.images.header import ImageHeader, read_header
from data_pipeline.images.jpeg import missing_data

Alignment = Literal["mtcnn", "landmarks", "none"]
ALIGNMENTS = ("mtcnn", "landmarks", "none")

NO_IMAGE = "no image that can be decoded"
NO_FACE = "no face found"
NO_LANDMARKS = "no line in the landmarks file"
ONE_PLACE = "landmarks that lie in one place or on one line"

MAX_FILE_BYTES = 512 << 20


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
    keep: tuple[str, ...] = ("jpeg",)
    """Formats (jpeg, png) whose files, if they have the size and are not aligned, are taken byte for byte."""

    def __post_init__(self) -> None:
        if self.align not in ALIGNMENTS:
            raise ValueError(f"align must be one of {', '.join(ALIGNMENTS)}, got {self.align}")
        if min(self.size) < 8 or max(self.size) > 4096:
            raise ValueError(f"size must be between 8 and 4096 pixels, got {self.size[0]} {self.size[1]}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be between 1 and 100, got {self.quality}")


@dataclass(frozen=True)
class Prepared:
    """An image's encoded bytes, and what was wrong with its file; payload None: left out."""

    payload: bytes | None
    problem: str | None


def prepare_item(preparation: Preparation, item: tuple[Path, FloatArray | None]) -> Prepared:
    """`prepare_file` of a file and its landmarks as one argument."""
    return prepare_file(preparation, *item)


def prepare_file(preparation: Preparation, path: Path, landmarks: FloatArray | None = None) -> Prepared:
    """Reads and prepares one file; grey images become RGB, an EXIF orientation is applied.

    landmarks: [5, 2] (x, y), for align "landmarks". Of an animation the first picture is taken.
    """
    try:
        content = _read(path)
    except OSError as error:
        return Prepared(None, error.strerror or "cannot be read")
    header = read_header(content)
    if header is None:
        other = other_format(content)
        return Prepared(None, NO_IMAGE if other is None else f"{NO_IMAGE}: it is {other}, neither {ALLOWED}")
    if problem := too_large(header.height, header.width):
        return Prepared(None, problem)
    data = np.frombuffer(content, dtype=np.uint8)
    image = decoded(data)
    if isinstance(image, str):
        return Prepared(None, NO_IMAGE)
    # What is missing in the middle libjpeg fills with grey, without a word that OpenCV would hand on.
    if header.format == "jpeg" and (problem := missing_data(data)):
        return Prepared(None, problem)
    if preparation.align == "none":
        if _is_ready(preparation, header):
            return Prepared(content, None)
        return Prepared(encode_jpeg(fit(image, preparation.size), preparation.quality), None)
    aligned, problem = _align(preparation, image, landmarks)
    if aligned is not None:
        return Prepared(encode_jpeg(aligned, preparation.quality), None)
    if preparation.keep_faceless:
        return Prepared(encode_jpeg(fit(image, preparation.size), preparation.quality), problem)
    return Prepared(None, problem)


def _read(path: Path) -> bytes:
    """The file's bytes. Raises OSError; reading a pipe would wait for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise OSError(0, f"a file of {status.st_size >> 20} MiB, more than {MAX_FILE_BYTES >> 20}")
    return path.read_bytes()


def _is_ready(preparation: Preparation, header: ImageHeader) -> bool:
    ready = header.plain and header.format in preparation.keep
    return ready and (header.height, header.width) == preparation.size


def _align(
    preparation: Preparation, image: Images, landmarks: FloatArray | None
) -> tuple[Images | None, str | None]:
    if preparation.align == "mtcnn":
        aligned = process_aligner(preparation.size).align(image)
        return aligned, None if aligned is not None else NO_FACE
    if landmarks is None:
        return None, NO_LANDMARKS
    if not are_apart(landmarks):
        return None, ONE_PLACE
    return crop(image, landmarks, preparation.size), None


def encode_jpeg(image: Images, quality: int) -> bytes:
    """[H, W, 3] uint8 RGB to JPEG."""
    encoded, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data.tobytes())

"""Images with equal hashes, read again and compared properly: hashes of 64 bits only propose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_pipeline.images.decode import Images, decode_image
from data_pipeline.inspection.look import file_digest, pixel_digest
from data_pipeline.sets.source import ImageSource, Ints

# Measured on pairs of equal near hash among 3,678 + 12,305 aligned faces: of 17 that show the same photograph
# 15 lie above (the others, cropped otherwise, have 0.93 and 0.90), and all of different people below (0.76 to
# 0.935).
ALIKE_FROM = 0.95
_THUMBNAIL = 32


def same_files(source: ImageSource, images: Ints) -> list[Ints]:
    """`images` divided into those of equal SHA-256 of the encoded bytes."""
    return _by_digest(images, [file_digest(_encoded(source, index)) for index in images])


def same_pixels(source: ImageSource, images: Ints) -> list[Ints]:
    """`images` divided into those of equal SHA-256 of size and pixels."""
    return _by_digest(images, [pixel_digest(_decoded(source, index)) for index in images])


def alike(source: ImageSource, images: Ints) -> list[Ints]:
    """`images` divided: each with the first before it whose grey thumbnail correlates at least ALIKE_FROM."""
    leaders: list[npt.NDArray[np.float64]] = []
    members: list[list[int]] = []
    for index in images:
        thumbnail = _thumbnail(_decoded(source, index))
        for place, leader in enumerate(leaders):
            if float(leader @ thumbnail) >= ALIKE_FROM:
                members[place].append(int(index))
                break
        else:
            leaders.append(thumbnail)
            members.append([int(index)])
    return [np.array(group, dtype=np.int64) for group in members]


def _by_digest(images: Ints, digests: list[bytes]) -> list[Ints]:
    found: dict[bytes, list[int]] = {}
    for index, digest in zip(images.tolist(), digests, strict=True):
        found.setdefault(digest, []).append(index)
    return [np.array(group, dtype=np.int64) for group in found.values()]


def _encoded(source: ImageSource, index: np.int64) -> npt.NDArray[np.uint8]:
    return source.payloads(np.array([index]))[0]


def _decoded(source: ImageSource, index: np.int64) -> Images:
    image = decode_image(_encoded(source, index).data)
    # It decoded a moment ago: only a file that somebody changes meanwhile gets here.
    return image if image is not None else np.zeros((1, 1, 3), dtype=np.uint8)


def _thumbnail(image: Images) -> npt.NDArray[np.float64]:
    """[1024 + 1] grey values with mean 0 and length 1; of an image without any contrast, the last unit."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    values = np.append(small.astype(np.float64).ravel() - small.mean(), 0.0)
    length = float(np.linalg.norm(values))
    if length < 1e-6:
        values[:], values[-1] = 0.0, 1.0
        return values
    return np.asarray(values / length)

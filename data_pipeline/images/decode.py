"""Decoding by OpenCV: evaluation uses it, and tests hold the DALI loader against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError
from data_pipeline.images.formats import HEAD_BYTES, format_of
from data_pipeline.images.png import without_profile
from data_pipeline.images.resampling import resize
from data_pipeline.images.soundness import damage

if TYPE_CHECKING:
    import torch

Payload = bytes | memoryview
Images = npt.NDArray[np.uint8]


def decode_image(payload: Payload) -> Images | None:
    """uint8 [H, W, 3] RGB, or None if they are none of `formats.ALLOWED` or OpenCV cannot decode them."""
    import cv2

    data = np.frombuffer(payload, dtype=np.uint8)
    kind = format_of(data[:HEAD_BYTES].tobytes())
    if kind is None:
        return None
    if kind == "png":
        data = np.frombuffer(without_profile(data.tobytes()), dtype=np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    return image if image is None else np.asarray(image, dtype=np.uint8)


def decoded(payload: npt.NDArray[np.uint8]) -> Images | str:
    """An encoded image, uint8 [n], as uint8 [H, W, 3] RGB, or what is wrong with it, in half a sentence."""
    if reason := damage(payload):
        return reason
    image = decode_image(payload.data)
    return "its image cannot be decoded" if image is None else image


def fit(image: Images, size: tuple[int, int]) -> Images:
    """uint8 [H, W, 3] brought to `size` (height, width): what training, evaluation and packing share.

    The middle if the height is right and the width too large, otherwise `resampling.resize`: smoothed by a
    triangle as wide as the reduction along a side that shrinks, linear along one that grows. 112 x 112 to
    112 x 96, the two sizes of the field, is the middle: both share one alignment template.
    """
    if image.shape[0] == size[0] and image.shape[1] > size[1]:
        return crop(image, size)
    return resize(image, size)


def crop(image: Images, size: tuple[int, int]) -> Images:
    """The middle of an image [H, W, 3]; an odd pixel too many goes at the top and at the left, as in DALI."""
    top, left = (image.shape[0] - size[0] + 1) // 2, (image.shape[1] - size[1] + 1) // 2
    return image[top : top + size[0], left : left + size[1]]


def encode_png(image: Images) -> npt.NDArray[np.uint8]:
    """[H, W, 3] uint8 RGB to a PNG, uint8 [n]: quickly, not small."""
    import cv2

    encoded, data = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise RuntimeError("OpenCV could not encode a PNG")
    return np.asarray(data, dtype=np.uint8).reshape(-1)


def decode_images(payloads: Sequence[Payload], size: tuple[int, int] | None) -> Images:
    """uint8 [n, H, W, 3] RGB of n encoded images, brought to `size` (height, width); None: the first's size.

    Raises DataInputError naming the image's place in the list if one cannot be decoded.
    """
    images: list[Images] = []
    for place, payload in enumerate(payloads):
        image = decode_image(payload)
        if image is None:
            raise DataInputError(f"image {place} of {len(payloads)} cannot be decoded: JPEG or PNG expected")
        size = size or (image.shape[0], image.shape[1])
        images.append(fit(image, size))
    if not images:
        return np.zeros((0, *(size or (0, 0)), 3), dtype=np.uint8)
    return np.stack(images)


def normalise(images: Images) -> torch.Tensor:
    """uint8 [n, H, W, 3] to float32 [n, 3, H, W], (x - 127.5) / 128 as in the paper."""
    import torch

    planes = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return (planes.to(torch.float32) - 127.5).div_(128.0).contiguous()

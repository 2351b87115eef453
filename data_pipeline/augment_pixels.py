"""The augmentations on pixels by OpenCV, for the CPU: there DALI's own operators take five times as long.

It does what the operators of `dali_pipeline.py` do, to within the rounding and the interpolation weights of
either; tests hold one against the other. Settings come by the names under which they are fed to the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Images = Sequence[Image]
# ITU-R BT.601 luma, as DALI's colour operators have it.
_LUMA = np.array([0.299, 0.587, 0.114])
_MIDDLE = 128.0
GREY = 127


def batch_function(names: Sequence[str]) -> Callable[..., list[Image]]:
    """A function of n images and then, for each name, n values; gives the changed images."""

    def change(images: Images, *values: Sequence[npt.NDArray[Any]]) -> list[Image]:
        return [
            change_image(image, dict(zip(names, row, strict=True)))
            for image, *row in zip(images, *values, strict=True)
        ]

    return change


def change_image(image: Image, settings: dict[str, npt.NDArray[Any]]) -> Image:
    """One image uint8 [H, W, 3] RGB, changed by the settings that are given."""
    if "low_size" in settings:
        image = _lower_resolution(image, settings["low_size"])
    if "matrix" in settings:
        image = _warp(image, settings["matrix"])
    if "blur_sigma" in settings:
        image = _blur(image, float(settings["blur_sigma"]), int(settings["blur_window"]))
    if "brightness" in settings:
        image = _colour(image, *(float(settings[name]) for name in ("brightness", "contrast", "saturation")))
    if "erase_shape" in settings:
        image = _erase(image, settings["erase_anchor"], settings["erase_shape"])
    return image


def _lower_resolution(image: Image, size: npt.NDArray[Any]) -> Image:
    import cv2

    full_height, full_width = image.shape[:2]
    height, width = int(size[0]), int(size[1])
    if (height, width) == (full_height, full_width):
        return image
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(small, (full_width, full_height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8
    )


def _warp(image: Image, matrix: npt.NDArray[Any]) -> Image:
    import cv2

    # DALI counts from a pixel's corner, OpenCV from its middle.
    inverse = matrix.astype(np.float64)
    inverse[:, 2] += inverse[:, :2].sum(axis=1) / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, inverse, (image.shape[1], image.shape[0]), flags=flags)
    return np.asarray(warped, dtype=np.uint8)


def _blur(image: Image, sigma: float, window: int) -> Image:
    import cv2

    if window == 1:
        return image
    return np.asarray(cv2.GaussianBlur(image, (window, window), sigma), dtype=np.uint8)


def _colour(image: Image, brightness: float, contrast: float, saturation: float) -> Image:
    """out = brightness (contrast (saturation x + (1 - saturation) luma - 128) + 128)."""
    import cv2

    mixed = saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :]
    offset = np.full((3, 1), brightness * (1 - contrast) * _MIDDLE)
    matrix = np.concatenate([brightness * contrast * mixed, offset], axis=1)
    return np.asarray(cv2.transform(image, matrix), dtype=np.uint8)


def _erase(image: Image, anchor: npt.NDArray[Any], shape: npt.NDArray[Any]) -> Image:
    size = np.array(image.shape[:2])
    (top, left), (bottom, right) = (anchor * size).astype(int), ((anchor + shape) * size).astype(int)
    if bottom > top and right > left:
        image = image.copy()
        image[top:bottom, left:right] = GREY
    return image

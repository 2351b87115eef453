"""The augmentations on pixels by OpenCV, for the CPU: there DALI's own operators take several times as long.

Each does what its operator in `loader/dali/pipeline.py` does, to within one grey level; tests hold one
against the other. Settings come by the names under which they are fed to the graph, and are applied in this
order: JPEG, colour, low resolution, warp, blur, erased rectangle, blanked surroundings. What is the same to
the last bit in both comes first, so that a rounding is never multiplied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.augment.pixel_settings import changes_of
from data_pipeline.images.resampling import resample, saturate

Image = npt.NDArray[np.uint8]
GREY = 127
BLACK = 0


def change_batch(images: npt.NDArray[np.uint8], settings: dict[str, npt.NDArray[Any]]) -> None:
    """Change uint8 [n, H, W, 3] RGB images in place, by what `pixel_settings.settings_of` gives for them.

    By one thread: of several, each would wait for the interpreter most of the time.
    """
    changes = changes_of(settings, len(images), (images.shape[1], images.shape[2]))
    for place, change in enumerate(changes):
        if change:
            images[place] = change_image(images[place], change)


def change_image(image: Image, settings: dict[str, npt.NDArray[Any]]) -> Image:
    """One image uint8 [H, W, 3] RGB, changed by the settings that are given."""
    if "jpeg_quality" in settings:
        image = _compress(image, int(settings["jpeg_quality"]))
    if "colour" in settings:
        image = _colour(image, settings["colour"], settings["colour_offset"])
    if "low_size" in settings:
        image = _lower_resolution(image, settings["low_size"], settings["low_down"], settings["low_up"])
    if "matrix" in settings:
        image = _warp(image, settings["matrix"])
    if "blur_sigma" in settings:
        image = _blur(image, float(settings["blur_sigma"]), int(settings["blur_window"]))
    if "erase_shape" in settings:
        image = _fill(image, settings["erase_anchor"], settings["erase_shape"], GREY)
    if "blank_shape" in settings:
        image = _fill(image, settings["blank_anchor"], settings["blank_shape"], BLACK)
    return image


def _compress(image: Image, quality: int) -> Image:
    """Through a JPEG file with colours at half resolution; quality 0 leaves the image alone."""
    import cv2

    if not quality:
        return image
    # OpenCV's encoder takes blue first.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _colour(image: Image, matrix: npt.NDArray[Any], offset: npt.NDArray[Any]) -> Image:
    import cv2

    if not offset.any() and np.array_equal(matrix, np.eye(3, dtype=np.float32)):
        return image
    # On uint8 OpenCV would round the matrix.
    whole = np.concatenate([matrix, offset[:, None]], axis=1)
    return saturate(cv2.transform(image.astype(np.float32), whole))


def _lower_resolution(
    image: Image, size: npt.NDArray[Any], down: npt.NDArray[Any], up: npt.NDArray[Any]
) -> Image:
    full, low = (image.shape[0], image.shape[1]), (int(size[0]), int(size[1]))
    if low == full:
        return image
    # Not rounded in between: where one rounds up and the other down, enlarging would widen the gap.
    return saturate(resample(resample(image.astype(np.float32), low, int(down)), full, int(up)))


def _warp(image: Image, matrix: npt.NDArray[Any]) -> Image:
    import cv2

    # DALI counts from a pixel's corner, OpenCV from its middle.
    inverse = matrix.astype(np.float64)
    inverse[:, 2] += inverse[:, :2].sum(axis=1) / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image.astype(np.float32), inverse, (image.shape[1], image.shape[0]), flags=flags)
    return np.asarray(cv2.convertScaleAbs(warped), dtype=np.uint8)


def _blur(image: Image, sigma: float, window: int) -> Image:
    import cv2

    if window == 1:
        return image
    # On uint8 OpenCV would round the weights if it made them itself.
    weights = _gaussian(sigma, window)
    return np.asarray(
        cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REFLECT_101), dtype=np.uint8
    )


@lru_cache(maxsize=256)
def _gaussian(sigma: float, window: int) -> npt.NDArray[np.float32]:
    x = np.arange(window) - window // 2
    bell = np.exp(-(x * x) / (2 * sigma * sigma))
    weights: npt.NDArray[np.float32] = (bell / bell.sum()).astype(np.float32)
    return weights


def _fill(image: Image, anchors: npt.NDArray[Any], shapes: npt.NDArray[Any], value: int) -> Image:
    """Rectangles in pixels: y and x of the first corner, height and width, for each after the other."""
    boxes = [(*anchor, *shape) for anchor, shape in zip(_pairs(anchors), _pairs(shapes), strict=True)]
    boxes = [box for box in boxes if box[2] > 0 and box[3] > 0]
    if boxes:
        image = image.copy()
    for top, left, height, width in boxes:
        image[top : top + height, left : left + width] = value
    return image


def _pairs(values: npt.NDArray[Any]) -> list[tuple[int, int]]:
    whole = [int(value) for value in values]
    return list(zip(whole[::2], whole[1::2], strict=True))

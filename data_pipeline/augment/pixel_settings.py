"""Drawn parameters as the numbers that pixels are changed by, the same for DALI's operators and OpenCV's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.augment.settings import Augmentation, Parameters

# Pixel settings are stated for images of this height and grow with the image.
_REFERENCE_HEIGHT = 112
# ITU-R BT.601 luma, and the grey about which contrast changes.
_LUMA = np.array([0.299, 0.587, 0.114])
_MIDDLE = 128.0
# One that says whether there is a change, and what that change takes.
_BELONG_TOGETHER = {
    "jpeg_quality": ("jpeg_quality",),
    "colour": ("colour", "colour_offset"),
    "low_size": ("low_size", "low_down", "low_up"),
    "matrix": ("matrix",),
    "blur_window": ("blur_sigma", "blur_window"),
    "erase_shape": ("erase_anchor", "erase_shape"),
    "blank_shape": ("blank_anchor", "blank_shape"),
}


def inputs(a: Augmentation) -> dict[str, int]:
    """Names of the settings that are fed, with their number of dimensions for one image."""
    return {
        **({"jpeg_quality": 0} if a.jpeg else {}),
        **({"colour": 2, "colour_offset": 1} if a.colours else {}),
        **({"low_size": 1, "low_down": 0, "low_up": 0} if a.low_resolution else {}),
        **({"matrix": 2} if a.moves else {}),
        **({"blur_sigma": 0, "blur_window": 0} if a.blur else {}),
        **({"erase_anchor": 1, "erase_shape": 1} if a.erase else {}),
        **({"blank_anchor": 1, "blank_shape": 1} if a.crop else {}),
        **({"mirror": 0} if a.flip else {}),
    }


def settings_of(
    augmentation: Augmentation, parameters: Parameters, size: tuple[int, int]
) -> dict[str, npt.NDArray[Any]]:
    """What n images of this (height, width) are changed by: the settings of `augment_pixels.change_image`,
    and "mirror", each [n, ...]; only what is switched on.
    """
    every = values(parameters, size)
    return {name: every[name] for name in inputs(augmentation)}


def values(p: Parameters, size: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
    """Every setting for n images of this (height, width)."""
    unit = np.float32(size[0] / _REFERENCE_HEIGHT)
    # A window of one pixel leaves the image as it is, whatever the deviation.
    sigma = np.where(p.blur > 0, p.blur * unit, np.float32(1))
    colour, offset = colour_matrices(p)
    # Whole pixels, cut off where both ends of a rectangle lie, so that all who fill it agree.
    full = np.array(size, dtype=np.float32)
    erase_start, erase_end = (
        np.floor(p.erase_anchor * full),
        np.floor((p.erase_anchor + p.erase_shape) * full),
    )
    blank_anchor, blank_shape = _surroundings(p, size)
    return {
        "jpeg_quality": p.jpeg,
        "colour": colour,
        "colour_offset": offset,
        "low_size": np.maximum(np.rint(p.resolution[:, None] * full), 1),
        "low_down": np.ascontiguousarray(p.interpolation[:, 0]),
        "low_up": np.ascontiguousarray(p.interpolation[:, 1]),
        "matrix": warp_matrices(p, size),
        "blur_sigma": sigma,
        "blur_window": np.where(p.blur > 0, 2 * np.ceil(3 * sigma) + 1, 1).astype(np.int32),
        "erase_anchor": erase_start,
        "erase_shape": erase_end - erase_start,
        "blank_anchor": blank_anchor,
        "blank_shape": blank_shape,
        "mirror": p.mirror.astype(np.int32),
    }


def changes_of(
    settings: dict[str, npt.NDArray[Any]], count: int, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """For each of `count` images of this (height, width) the settings that change something in it."""
    changes: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, names in _BELONG_TOGETHER.items():
        if key in settings:
            for place in np.flatnonzero(_has_effect(key, settings, size)):
                changes[place].update((name, settings[name][place]) for name in names)
    return changes


def _has_effect(
    key: str, settings: dict[str, npt.NDArray[Any]], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """bool [n]: whether these settings change an image."""
    value = settings[key]
    match key:
        case "colour":
            result = (value != np.eye(3)).any(axis=(1, 2)) | settings["colour_offset"].any(axis=1)
        case "low_size":
            result = (value != size).any(axis=1)
        case "matrix":
            result = (value != np.eye(2, 3)).any(axis=(1, 2))
        case "blur_window":
            result = value > 1
        case _:
            result = value.reshape(len(value), -1).any(axis=1)
    return np.asarray(result, dtype=np.bool_)


def _surroundings(p: Parameters, size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], ...]:
    """Anchors and shapes [n, 8] of what lies above, below, left and right of the box that stays."""
    full = np.array(size, dtype=np.float32)
    start, end = np.rint(p.crop_anchor * full), np.rint((p.crop_anchor + p.crop_shape) * full)
    (top, left), (bottom, right) = start.T, end.T
    none, height, width = np.zeros_like(top), np.full_like(top, size[0]), np.full_like(top, size[1])
    anchors = [none, none, bottom, none, none, none, none, right]
    shapes = [top, width, height - bottom, width, height, left, height, width - right]
    return np.stack(anchors, axis=1), np.stack(shapes, axis=1)


def colour_matrices(p: Parameters) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """[n, 3, 3] and [n, 3]: out = brightness (contrast (saturation x + (1 - saturation) luma - 128) + 128),
    as a matrix and an offset for x = (red, green, blue) in grey levels.
    """
    brightness, contrast, saturation = (
        values.astype(np.float64)[:, None, None] for values in (p.brightness, p.contrast, p.saturation)
    )
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA[None, None, :])
    offset = np.repeat((brightness * (1 - contrast) * _MIDDLE)[:, :, 0], 3, axis=1)
    return matrix.astype(np.float32), offset.astype(np.float32)


def warp_matrices(p: Parameters, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """[n, 2, 3]: where each output pixel (x, y) comes from, when the image is rotated and scaled about its
    centre c and then shifted by t: source = R^-1 (output - c - t) / scale + c. Angles are counter-clockwise
    as seen.
    """
    height, width = size
    angle = np.radians(p.rotation.astype(np.float64))
    cosine, sine = np.cos(angle) / p.scale, np.sin(angle) / p.scale
    inverse = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], axis=1)
    centre = np.array([width / 2, height / 2])
    shift = p.shift.astype(np.float64) * (height / _REFERENCE_HEIGHT)
    offset = centre - np.einsum("nij,nj->ni", inverse, centre + shift)
    return np.concatenate([inverse, offset[:, :, None]], axis=2).astype(np.float32)

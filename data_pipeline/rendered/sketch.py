"""Shapes on a head: collected in face units, turned and projected together, then painted in order."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_pipeline.rendered.identity import FaceIdentity, FloatArray
from data_pipeline.rendered.nuisance import View

SHIFT_BITS = 4  # OpenCV's fixed-point coordinates: sixteenths of a pixel
HEAD_DEPTH = 0.72
CAMERA_DISTANCE = 5.0
HEADS_PER_PICTURE = 0.37  # picture heights in one face unit at zoom 1
_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
UNIT_CIRCLE = np.column_stack((np.cos(_ANGLES), np.sin(_ANGLES)))


def circle(x: float, y: float, radius_x: float, radius_y: float | None = None) -> FloatArray:
    """[20, 2] the outline of an ellipse."""
    return UNIT_CIRCLE * (radius_x, radius_x if radius_y is None else radius_y) + (x, y)


def mixed(colour: FloatArray, other: FloatArray | float, weight: float) -> FloatArray:
    """`colour` with `weight` of `other` in it; a number stands for a grey."""
    return np.asarray(colour * (1 - weight) + np.asarray(other) * weight)


@dataclass(frozen=True)
class _Shape:
    first: int
    last: int
    colour: tuple[float, float, float]
    line_width: float  # face units; 0: filled


class Sketch:
    """The shapes of one picture. `surface` shapes lie on the head, others at a depth of their own."""

    def __init__(self, identity: FaceIdentity) -> None:
        self._inverse_radii = np.array((1 / identity.head_width, 1 / identity.head_height))
        self._points: list[FloatArray] = []
        self._lifts: list[float] = []
        self._flat: list[bool] = []
        self._shapes: list[_Shape] = []
        self._count = 0

    def fill(self, points: FloatArray, colour: FloatArray, lift: float = 0.0, flat: bool = False) -> None:
        """A polygon. points: [n, 2] face units; lift: depth above the surface, or if flat its depth."""
        self._add(points, colour, 0.0, lift, flat)

    def line(
        self, points: FloatArray, colour: FloatArray, width: float, lift: float = 0.0, flat: bool = False
    ) -> None:
        """An open line `width` face units thick."""
        self._add(points, colour, width, lift, flat)

    def _add(self, points: FloatArray, colour: FloatArray, width: float, lift: float, flat: bool) -> None:
        red, green, blue = (float(part) for part in colour)
        self._points.append(points)
        self._lifts.append(lift)
        self._flat.append(flat)
        self._shapes.append(_Shape(self._count, self._count + len(points), (red, green, blue), width))
        self._count += len(points)

    def paint(self, canvas: NDArray[np.uint8], view: View) -> None:
        """Projects every shape as `view` sees the head and paints them in the order they were added."""
        lengths = [len(points) for points in self._points]
        lifts = np.repeat(self._lifts, lengths)
        on_surface = ~np.repeat(self._flat, lengths)
        pixels = self._project(np.concatenate(self._points), lifts, on_surface, view, canvas.shape[0])
        fixed = np.rint(pixels * (1 << SHIFT_BITS)).astype(np.int32)
        unit = HEADS_PER_PICTURE * view.zoom * canvas.shape[0]
        for shape in self._shapes:
            points = fixed[shape.first : shape.last]
            if shape.line_width:
                thickness = max(1, round(shape.line_width * unit))
                cv2.polylines(canvas, [points], False, shape.colour, thickness, cv2.LINE_AA, SHIFT_BITS)
            else:
                cv2.fillPoly(canvas, [points], shape.colour, cv2.LINE_AA, SHIFT_BITS)

    def _project(
        self, points: FloatArray, lifts: FloatArray, on_surface: NDArray[np.bool_], view: View, size: int
    ) -> FloatArray:
        # Depth on the head: an ellipsoid's, and the chin a little forward. At the rim it is zero, where
        # the outline is the silhouette and does not narrow as the head turns.
        scaled = points * self._inverse_radii
        bulge = np.sqrt(np.maximum(0, 1 - (scaled * scaled).sum(axis=1))) * on_surface
        depth = HEAD_DEPTH * bulge + 0.22 * np.maximum(0, points[:, 1]) * on_surface + lifts
        x = points[:, 0] * (1 - (1 - np.cos(view.yaw)) * bulge) + depth * np.sin(view.yaw)
        y = points[:, 1] * (1 - (1 - np.cos(view.pitch)) * bulge) + depth * np.sin(view.pitch)
        near = HEADS_PER_PICTURE * view.zoom * size * CAMERA_DISTANCE / (CAMERA_DISTANCE - depth)
        x, y = x * near, y * near
        cosine, sine = np.cos(view.roll), np.sin(view.roll)
        across = cosine * x - sine * y + view.shear * y
        down = sine * x + cosine * y
        centre = np.array((0.5, 0.53)) + view.shift
        return np.column_stack((across, down)) + centre * size

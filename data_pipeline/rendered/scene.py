"""What is around the head and between it and the picture: background, covers, light, camera."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from data_pipeline.rendered.identity import FaceIdentity
from data_pipeline.rendered.nuisance import View
from data_pipeline.rendered.sketch import HEADS_PER_PICTURE, Sketch, circle, mixed

Picture = NDArray[np.float32]
_GRID = 24  # light is smooth: it is computed on a coarse grid and enlarged


def paint_background(view: View, size: int) -> NDArray[np.uint8]:
    """[size, size, 3] smooth patches of colour."""
    coarse = view.background.astype(np.uint8)
    smooth = cv2.resize(coarse, (_GRID, _GRID), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.resize(smooth, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def add_glasses(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Frames in front of the eyes; dark ones hide them."""
    if view.glasses == "none":
        return
    angle = np.linspace(0, 2 * np.pi, 24)
    power = 1.0 if view.glasses == "round" else 0.55
    ring = np.column_stack(
        [np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(angle), np.sin(angle))]
    ) * (face.eye_width * 1.3, 0.165)
    lift = 0.14
    for side in (-1, 1):
        centre = np.array((side * face.eye_spacing, face.eye_y + 0.02))
        if view.glasses == "dark":
            sketch.fill(ring + centre, view.glasses_colour * 0.35, lift)
        sketch.line(ring + centre, view.glasses_colour, 0.04, lift)
        outer = centre[0] + side * face.eye_width * 1.3
        sketch.line(
            np.array([(outer, centre[1]), (side * face.head_width, centre[1] - 0.05)]),
            view.glasses_colour,
            0.035,
        )
    gap = face.eye_spacing - face.eye_width * 1.3
    sketch.line(
        np.array([(-gap, face.eye_y), (0, face.eye_y - 0.03), (gap, face.eye_y)]),
        view.glasses_colour,
        0.04,
        lift,
    )


def add_cover(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Something in front of the face: a mask, fingers, a card, or a cap on the head."""
    first, second, third = (float(number) for number in view.cover_place)
    colour = view.cover_colour
    if view.cover == "mask":
        width = face.head_width * 0.93
        mask = np.array(
            [
                (-width, 0.12),
                (-0.15, 0.2),
                (0, 0.16),
                (0.15, 0.2),
                (width, 0.12),
                (width * 0.8, 0.65),
                (0.25, 0.98),
                (-0.25, 0.98),
                (-width * 0.8, 0.65),
            ]
        )
        sketch.fill(mask, colour, lift=0.12)
        for fold in (0.42, 0.6):
            sketch.line(
                np.array([(-width * 0.85, fold), (0.0, fold + 0.06), (width * 0.85, fold)]),
                colour * 0.82,
                0.02,
                0.12,
            )
    elif view.cover == "hand":
        side = -1 if first < 0.5 else 1
        for finger in range(4):
            base = np.array((side * (0.95 - 0.03 * finger), 0.1 + 0.2 * finger + 0.3 * second))
            tip = base + np.array((-side * (0.5 + 0.25 * third + 0.08 * (finger in (1, 2))), -0.12))
            sketch.line(np.stack((base, tip)), face.skin * 0.7, 0.21, lift=0.7, flat=True)
            sketch.line(np.stack((base, tip)), face.skin * 0.93, 0.17, lift=0.7, flat=True)
    elif view.cover == "card":
        angle = first * np.pi
        corners = np.array([(-0.5, -0.3), (0.5, -0.3), (0.5, 0.3), (-0.5, 0.3)])
        turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        place = np.array((second - 0.5, third - 0.4)) * 1.8
        sketch.fill(corners @ turn + place, colour, lift=0.7, flat=True)
        sketch.fill(corners * 0.75 @ turn + place, mixed(colour, 255, 0.25), lift=0.7, flat=True)
    elif view.cover == "cap":
        width, top = face.head_width * 1.1, -face.head_height * 1.13
        arc = np.linspace(np.pi, 2 * np.pi, 16)
        crown = np.column_stack((np.cos(arc) * width, -0.48 + np.sin(arc) * (-0.48 - top)))
        sketch.fill(crown, colour)
        sketch.fill(circle(0, -0.5, width * 0.95, 0.13), colour * 0.7, lift=0.25)


def apply_light(picture: Picture, face: FaceIdentity, view: View) -> Picture:
    """Lambert's law on the head's ellipsoid: ambient + strength · max(0, normal · light), times the tint.

    picture: [size, size, 3] float32, 0–255; lit in place and returned.
    """
    size = picture.shape[0]
    span = (np.arange(_GRID) + 0.5) / _GRID
    unit = HEADS_PER_PICTURE * view.zoom * 1.12
    x = ((span - 0.5 - view.shift[0]) / (unit * face.head_width))[None, :]
    y = ((span - 0.53 - view.shift[1]) / (unit * face.head_height))[:, None]
    squared = x * x + y * y
    z = np.sqrt(np.maximum(0.04, 1 - squared))
    length = np.sqrt(squared + z * z)
    lit = np.maximum(0, (x * view.light[0] + y * view.light[1] + z * view.light[2]) / length)
    shade = (view.ambient + view.light_strength * lit)[:, :, None] * view.tint
    picture *= cv2.resize(shade.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return picture


@lru_cache(maxsize=4)
def _noise_field(size: int) -> NDArray[np.float32]:
    """[2·size, 2·size, 3] standard normal noise: each picture takes its own part of one fixed field."""
    random = np.random.Generator(np.random.PCG64(size))
    return random.standard_normal((2 * size, 2 * size, 3), dtype=np.float32)


def through_camera(picture: Picture, view: View) -> NDArray[np.uint8]:
    """Blur, gamma and pixel noise. picture: [size, size, 3] float32, 0–255."""
    size = picture.shape[0]
    if view.blur:
        blurred = cv2.GaussianBlur(picture, (0, 0), view.blur * size / 112)
        picture = np.asarray(blurred, dtype=np.float32)
    field = _noise_field(size)
    down, right = (place % size for place in view.noise_place)
    picture = picture + field[down : down + size, right : right + size] * np.float32(view.noise)
    exposed = np.clip(picture, 0, 255).astype(np.uint8)
    curve = (255 * (np.arange(256) / 255) ** view.gamma).astype(np.uint8)
    return np.asarray(cv2.LUT(exposed, curve), dtype=np.uint8)

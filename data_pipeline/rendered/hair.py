"""Hair: what falls behind the head, and the cap between the head's outline and the hairline."""

from __future__ import annotations

import numpy as np

from data_pipeline.rendered.features import head_outline
from data_pipeline.rendered.identity import FaceIdentity, FloatArray
from data_pipeline.rendered.sketch import Sketch, circle, mixed

_ACROSS = np.linspace(-1, 1, 29)
_FALLS_TO = {"bob": (0.55, 0.95), "long": (1.3, 1.9), "wavy": (1.1, 1.8)}


def covers_ears(face: FaceIdentity) -> bool:
    """Whether the hair style hides the ears."""
    return face.hair_style in _FALLS_TO or face.hair_style == "curly"


def add_back_hair(sketch: Sketch, face: FaceIdentity) -> None:
    """Everything that is behind the neck and the ears."""
    dark = face.hair * 0.72
    volume = face.hair_volume
    if face.hair_style in _FALLS_TO:
        low, high = _FALLS_TO[face.hair_style]
        end = low + (high - low) * face.hair_length
        down = np.linspace(0, 1, 18)
        width = face.head_width * (1.12 + 0.16 * volume) + 0.10 * np.sin(np.pi * down)
        if face.hair_style == "wavy":
            width = width + 0.055 * np.sin(down * 15)
        side = np.column_stack((width, -0.35 + (end + 0.35) * down))
        top = _dome(face, 0.10 + 0.1 * volume, -0.35)
        sketch.fill(np.concatenate((top, side, side[::-1] * (-1, 1))), dark, lift=-0.3, flat=True)
    elif face.hair_style == "curly":
        for x, y in _curl_places(face, 0.06):
            sketch.fill(circle(x, y, 0.23 + 0.1 * volume), dark, lift=-0.25, flat=True)
    elif face.hair_style == "bun":
        sketch.fill(
            circle(0, -face.head_height - 0.14 - 0.1 * volume, 0.24 + 0.12 * volume), dark, -0.15, True
        )
    elif face.hair_style == "bunches":
        for sign in (-1, 1):
            bunch = circle(
                sign * (face.head_width + 0.2), 0.25 * face.hair_length, 0.2, 0.32 + 0.25 * face.hair_length
            )
            sketch.fill(bunch, dark, lift=-0.2, flat=True)


def add_front_hair(sketch: Sketch, face: FaceIdentity) -> None:
    """The cap, some strands over it, and the curls' front row."""
    style, volume = face.hair_style, face.hair_volume
    if style == "bald":
        return
    if style == "cropped":
        sketch.fill(_cap(face, 0.01, 0.0, -0.12), mixed(face.hair, face.skin, 0.3))
        return
    thickness = 0.08 + 0.13 * volume
    rise = 0.24 + 0.16 * volume if style == "quiff" else 0.0
    side_end = {"quiff": -0.3, "short": -0.05, "bun": -0.1, "bunches": -0.05}.get(style, 0.1)
    cap = _cap(face, thickness, rise, side_end)
    sketch.fill(cap, face.hair)
    _add_strands(sketch, face, thickness + rise * 0.5)
    if style == "curly":
        for index, (x, y) in enumerate(_curl_places(face, -0.04)):
            tone = face.hair * (1.0, 1.0, 1.0) if index % 2 else mixed(face.hair, 255, 0.07)
            sketch.fill(circle(x, y, 0.15 + 0.06 * volume), tone)


def _add_strands(sketch: Sketch, face: FaceIdentity, thickness: float) -> None:
    light, dark = mixed(face.hair, 255, 0.11), face.hair * 0.84
    top = -face.head_height - 0.6 * thickness
    start = np.array((face.parting * 0.35, top))
    for index, place in enumerate(np.linspace(-0.82, 0.82, 9)):
        end = np.array((place * face.head_width, _hairline(face, np.array([place]), -0.2)[0] - 0.05))
        bend = np.array((end[0] * 0.95, start[1] * 0.55 + end[1] * 0.45))
        steps = np.linspace(0, 1, 6)[:, None]
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        sketch.line(curve, light if index % 2 else dark, 0.022)


def _hairline(face: FaceIdentity, across: FloatArray, side_end: float) -> FloatArray:
    """Height of the hairline at `across` in [-1, 1] of the head's width."""
    centre = face.hairline
    if face.hair_style == "fringe":
        centre = -0.33 + 0.12 * face.hair_length - 0.1
    y = centre + (side_end - centre) * np.abs(across) ** face.hairline_shape
    y = y + face.hairline_peak * np.exp(-((across / 0.18) ** 2))
    if face.hair_style == "fringe":
        y = y + 0.035 * np.abs(np.sin(across * 9 + face.parting * 3))
    if face.hair_style in ("parted", "long", "bob"):
        # Hair falls from the parting: high there, lower towards the far side.
        away = np.abs(across - face.parting)
        y = y - 0.16 * np.exp(-((away / 0.22) ** 2)) + 0.12 * np.clip(away, 0, 1.2)
    return np.minimum(y, side_end + 0.02)


def _cap(face: FaceIdentity, thickness: float, rise: float, side_end: float) -> FloatArray:
    """The polygon between an outline `thickness` outside the head and the hairline."""
    dome = _dome(face, thickness, side_end)
    if rise:
        dome = dome - np.column_stack((np.zeros(len(dome)), rise * np.exp(-((dome[:, 0] / 0.4) ** 2))))
    line_y = _hairline(face, _ACROSS[::-1], side_end)
    limit = np.interp(line_y, *_half_width_by_height(face))
    line_x = np.clip(_ACROSS[::-1] * face.head_width, -limit, limit)
    return np.concatenate((dome, np.column_stack((line_x, line_y))))


def _half_width_by_height(face: FaceIdentity) -> tuple[FloatArray, FloatArray]:
    outline = head_outline(face)
    side = outline[: len(outline) // 2]
    return side[:, 1], side[:, 0]


def _dome(face: FaceIdentity, thickness: float, end: float) -> FloatArray:
    """The head's outline from the left ear over the top to the right, pushed out by `thickness`."""
    outline = head_outline(face)
    side = outline[: len(outline) // 2]
    side = side[side[:, 1] < end]
    pushed = side * (1 + thickness / face.head_width * 0.75, 1 + thickness)
    return np.concatenate((pushed[::-1] * (-1, 1), pushed))


def _curl_places(face: FaceIdentity, outside: float) -> FloatArray:
    """[n, 2] centres of curls along the dome."""
    dome = _dome(face, 0.06 + outside + 0.1 * face.hair_volume, 0.25 + 0.5 * face.hair_length)
    return dome[::2]

"""Head, ears, eyes, brows, nose, mouth, beard and marks as shapes."""

from __future__ import annotations

import numpy as np

from data_pipeline.rendered.identity import FaceIdentity, FloatArray
from data_pipeline.rendered.nuisance import View
from data_pipeline.rendered.sketch import Sketch, circle, mixed

_TURN = np.linspace(0, np.pi, 22)  # from the top of the head down one side to the chin
_ALONG = np.linspace(-1, 1, 15)
NOSE_LIFT = 0.16


def head_outline(face: FaceIdentity) -> FloatArray:
    """[44, 2] the head's outline, clockwise from the top; the lower half as square as `jaw` says."""
    y = -np.cos(_TURN)
    lower = np.clip((y + 0.1) / 0.9, 0, 1)
    exponent = 0.80 + lower * (1.25 - 0.75 * face.jaw - 0.80)
    x = face.head_width * np.sin(_TURN) ** exponent
    side = np.column_stack((x, y * face.head_height))
    return np.concatenate((side, side[::-1] * (-1, 1)))


def add_body(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Neck and shoulders behind the head."""
    shoulders = np.array(
        [
            (-0.36, 1.12),
            (0.36, 1.12),
            (0.75, 1.26),
            (1.35, 1.5),
            (1.7, 2.6),
            (-1.7, 2.6),
            (-1.35, 1.5),
            (-0.75, 1.26),
        ]
    )
    neck = np.array([(-0.36, 0.5), (0.36, 0.5), (0.4, 1.2), (0.2, 1.38), (-0.2, 1.38), (-0.4, 1.2)])
    sketch.fill(shoulders, view.shirt, lift=-0.3, flat=True)
    sketch.fill(neck, face.skin * 0.78, lift=-0.15, flat=True)
    sketch.line(neck[2:], view.shirt * 0.75, 0.05, lift=-0.15, flat=True)


def add_head(sketch: Sketch, face: FaceIdentity, ears: bool) -> None:
    """Ears, where hair leaves them free, and the head, darker at its edge to stand out everywhere."""
    for side in (-1, 1) if ears else ():
        place = side * (face.head_width + 0.25 * face.ear_size)
        ear = circle(place, 0.04, face.ear_size * (0.62 + face.ear_tilt * 3), face.ear_size * 1.35)
        sketch.fill(ear, face.skin * 0.9, lift=-0.08, flat=True)
        sketch.fill(ear * 0.5 + ear.mean(axis=0) * 0.5, face.skin * 0.74, lift=-0.08, flat=True)
    outline = head_outline(face)
    sketch.fill(outline, face.skin * 0.86)
    sketch.fill(outline * 0.955, face.skin * 0.95)
    sketch.fill(outline * 0.88, face.skin)
    if face.blush > 0.1:
        for side in (-1, 1):
            cheek = circle(side * 0.4 * face.head_width / 0.75, 0.3, 0.17, 0.12)
            sketch.fill(cheek, mixed(face.skin, face.skin * (1.0, 0.72, 0.70), 0.6 * face.blush))


def add_eyes(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Almond, iris, pupil, glint, lid and brow on both sides."""
    half_width = face.eye_width
    opening = face.eye_height * view.eye_open
    for side in (-1.0, 1.0):
        centre = np.array((side * face.eye_spacing, face.eye_y))

        def placed(
            x: FloatArray, y: FloatArray, centre: FloatArray = centre, side: float = side
        ) -> FloatArray:
            # Tilt is mirrored: positive lifts the outer corners of both eyes.
            return np.column_stack((x, y - side * x / half_width * face.eye_tilt)) + centre

        x = _ALONG * half_width
        bow = (1 - _ALONG**2) ** 0.75
        upper, lower = -opening * bow, 0.75 * opening * bow
        sketch.fill(circle(centre[0], centre[1], half_width * 1.2, face.eye_height * 1.75), face.skin * 0.91)
        almond = np.concatenate((placed(x, upper), placed(x[::-1], lower[::-1])))
        sketch.fill(almond, np.array((244.0, 242.0, 238.0)))
        gaze = view.gaze * (0.45 * half_width, 0.25 * opening)
        for radius, colour in (
            (face.iris_size, face.iris * 0.6),
            (face.iris_size * 0.84, face.iris),
            (face.iris_size * 0.42, face.iris * 0.1),
        ):
            ring = circle(gaze[0], gaze[1], radius)
            ring_bow = np.maximum(0, 1 - (ring[:, 0] / half_width) ** 2) ** 0.75
            clipped = np.clip(ring[:, 1], -opening * ring_bow, 0.75 * opening * ring_bow)
            sketch.fill(placed(np.clip(ring[:, 0], -half_width, half_width), clipped), colour)
        if view.eye_open > 0.3:
            glint = circle(centre[0] + gaze[0] + 0.022, centre[1] + gaze[1] - 0.024, 0.017)
            sketch.fill(glint, np.array((250.0, 250.0, 250.0)))
        sketch.line(placed(x, upper), face.brow_colour * 0.35, 0.016 + 0.022 * face.lash)
        sketch.line(placed(x, lower), face.skin * 0.66, 0.014)
        sketch.line(placed(x * 1.02, upper - 0.045), face.skin * 0.72, 0.014)
        _add_brow(sketch, face, view, side)


def _add_brow(sketch: Sketch, face: FaceIdentity, view: View, side: float) -> None:
    outwards = (_ALONG + 1) / 2
    x = face.eye_spacing + face.brow_length * (_ALONG + 0.05)
    y = face.eye_y - face.brow_gap - view.brow_raise - face.brow_arch * np.sin(np.pi * outwards**1.3)
    y = y - face.brow_tilt * _ALONG
    thickness = face.brow_thickness * (1 - 0.65 * outwards**2)
    top, bottom = np.column_stack((x, y - thickness)), np.column_stack((x, y + thickness))[::-1]
    sketch.fill(np.concatenate((top, bottom)) * (side, 1), face.brow_colour, lift=0.03)


def add_nose(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """The bridge's shaded side (away from the light), wings, tip, nostrils."""
    top, tip = face.eye_y + 0.02, face.eye_y + face.nose_length
    wing, bridge = face.nose_width, face.nose_bridge
    shaded = -1.0 if view.light[0] > 0 else 1.0
    wings = np.column_stack((_ALONG * wing, tip + 0.055 * np.sqrt(1 - _ALONG**2) - 0.035))
    sketch.fill(
        np.concatenate((wings, [(bridge, tip - 0.16), (-bridge, tip - 0.16)])), face.skin * 0.93, lift=0.08
    )
    flank = np.array(
        [(bridge * 0.6, top), (bridge * 1.4, top + 0.05), (wing * 0.95, tip - 0.02), (wing * 0.4, tip)]
    )
    sketch.fill(flank * (shaded, 1), face.skin * 0.85, lift=0.10)
    sketch.fill(
        circle(0, tip - 0.02, wing * 0.58, 0.06 + face.nose_tip * 0.5), mixed(face.skin, 255, 0.08), NOSE_LIFT
    )
    ridge = np.array([(0.0, top + 0.05), (0.0, tip - 0.06)])
    sketch.line(ridge, mixed(face.skin, 255, 0.16), bridge * 0.8, lift=NOSE_LIFT)
    sketch.line(wings, face.skin * 0.62, 0.018, lift=0.10)
    for side in (-1, 1):
        sketch.fill(
            circle(side * wing * 0.5, tip + 0.012 - face.nose_tip * 0.3, 0.032, 0.02), face.skin * 0.38, 0.12
        )


def add_mouth(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Lips round an opening that may show teeth; a smile lifts and widens the corners."""
    curve = face.mouth_curve + view.smile
    half_width = face.mouth_width * (1 + 1.6 * max(0.0, view.smile))
    x = _ALONG * half_width
    rest = face.mouth_y + curve * (0.5 - _ALONG**2) * 1.3
    bow = np.maximum(0, 1 - _ALONG**2) ** 0.8
    gap = view.mouth_open * bow
    upper_edge = rest - face.upper_lip * bow * (1 - 0.4 * np.exp(-((_ALONG / 0.2) ** 2))) - 0.2 * gap
    inner_top, inner_bottom = rest - 0.2 * gap, rest + gap
    lower_edge = inner_bottom + face.lower_lip * bow
    lift = 0.05

    def band(top: FloatArray, bottom: FloatArray) -> FloatArray:
        return np.concatenate((np.column_stack((x, top)), np.column_stack((x, bottom))[::-1]))

    sketch.fill(
        circle(0, float(lower_edge.max()) + 0.045, half_width * 0.45, 0.028), face.skin * 0.86, lift=lift
    )
    if view.mouth_open > 0.015:
        sketch.fill(band(inner_top, inner_bottom), np.array((70.0, 24.0, 26.0)), lift=lift)
        sketch.fill(band(inner_top, inner_top + 0.45 * gap), np.array((240.0, 236.0, 226.0)), lift=lift)
    sketch.fill(band(upper_edge, inner_top), face.lips * 0.86, lift=lift)
    sketch.fill(band(inner_bottom, lower_edge), face.lips, lift=lift)
    if view.mouth_open <= 0.015:
        sketch.line(np.column_stack((x, rest)), face.lips * 0.45, 0.018, lift=lift)


def add_beard(sketch: Sketch, face: FaceIdentity, view: View) -> None:
    """Beard below the mouth's shapes; stubble is skin with hair's colour in it."""
    if face.beard_style == "none":
        return
    colour = mixed(face.hair, np.array((62.0, 46.0, 38.0)), 0.4)
    if face.beard_style == "stubble":
        colour = mixed(face.skin, colour, 0.3)
    top = face.mouth_y - face.upper_lip - 0.055
    if face.beard_style in ("stubble", "full"):
        outline = head_outline(face)
        grown = 1 + 0.16 * face.beard_length * (face.beard_style == "full")
        jaw = outline[outline[:, 1] > 0.12] * (1 + (grown - 1) * 0.4, grown)
        inner = np.column_stack((_ALONG[::-1], top + 0.02 - 0.42 * np.abs(_ALONG) ** 7))
        order = np.argsort(np.arctan2(jaw[:, 0], jaw[:, 1] + 0.3))[::-1]
        cheek = inner * (face.head_width * 0.9, 1)
        sketch.fill(np.concatenate((jaw[order], cheek[::-1])), colour)
    if face.beard_style in ("moustache", "goatee", "full"):
        width = face.mouth_width * (0.85 + 0.4 * face.beard_length)
        upper = np.column_stack((_ALONG * width, top - 0.03 * (1 - _ALONG**2) + 0.05 * _ALONG**2))
        lower = np.column_stack((_ALONG * width, top + 0.055 + 0.07 * _ALONG**2))[::-1]
        sketch.fill(np.concatenate((upper, lower)), colour * 0.92, lift=0.06)
    if face.beard_style == "goatee":
        chin = circle(
            0, 0.85 + 0.08 * face.beard_length, face.mouth_width * 0.75, 0.13 + 0.1 * face.beard_length
        )
        sketch.fill(chin, colour, lift=0.04)


def add_marks(sketch: Sketch, face: FaceIdentity) -> None:
    """Freckles, moles, a scar, wrinkles of forehead and cheeks."""
    width = face.head_width / 0.75
    for x, y in face.freckles:
        sketch.fill(circle(x * width, y, 0.017)[::3], face.skin * (0.76, 0.64, 0.58))
    if face.wrinkles > 0:
        shade = face.skin * (0.92 - 0.2 * face.wrinkles)
        for row in range(2):
            forehead = np.column_stack((_ALONG * 0.32, -0.5 + 0.09 * row + 0.02 * _ALONG**2))
            sketch.line(forehead, shade, 0.016)
        for side in (-1, 1):
            fold = np.array([(0.2, 0.36), (0.27, 0.44), (face.mouth_width + 0.08, face.mouth_y)])
            sketch.line(fold * (side, 1), shade, 0.02)
    for x, y, radius in face.moles:
        sketch.fill(circle(x * width, y, radius), face.skin * 0.3)
    if len(face.scar):
        sketch.line(face.scar, mixed(face.skin, 255, 0.35) * (1.0, 0.88, 0.88), 0.035)
        sketch.line(face.scar, face.skin * 0.72, 0.012)

"""What changes from one picture of an identity to the next: pose, light, expression, camera, surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.rendered.identity import VIEW_STREAM, FloatArray, random_generator

COVERS = ("none", "mask", "hand", "card", "cap")
COVER_WEIGHTS = (0.984, 0.004, 0.004, 0.004, 0.004)


@dataclass(frozen=True)
class View:
    """One picture's nuisance. Angles in radians, lengths in face units, colours 0–255."""

    yaw: float
    pitch: float
    roll: float
    zoom: float
    """Face units to picture heights, 1 = the usual framing."""
    shift: FloatArray
    """[2], in picture heights."""
    shear: float
    light: FloatArray
    """[3] direction to the light: right, down, towards the camera; a unit vector."""
    light_strength: float
    ambient: float
    tint: FloatArray
    """[3] the light's colour, 1 = neutral."""
    gamma: float
    smile: float
    mouth_open: float
    eye_open: float
    brow_raise: float
    gaze: FloatArray
    glasses: str
    glasses_colour: FloatArray
    cover: str
    cover_colour: FloatArray
    cover_place: FloatArray
    """[3] uniform numbers that say where the cover lies."""
    shirt: FloatArray
    background: FloatArray
    """[6, 6, 3] the colours of a coarse grid that is smoothed into the background."""
    blur: float
    """Gaussian sigma in pixels at 112×112."""
    noise: float
    """Standard deviation of the pixel noise, 0–255."""
    noise_place: tuple[int, int]
    """Which part of the noise field falls on the picture."""
    jpeg_quality: int


def draw_view(identity: int, view: int, seed: int) -> View:
    """The nuisance of view number `view` of identity number `identity` under `seed`."""
    random = random_generator(seed, VIEW_STREAM, identity, view)

    def between(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    light = np.array((random.normal(0, 0.8), random.normal(-0.3, 0.55), between(0.25, 1.0)))
    tint = np.exp(random.normal(0, 0.08, 3))
    base = random.uniform(5, 250) + random.normal(0, 35, 3)
    background = (
        base + random.normal(0, between(2, 25), (6, 6, 3)) + random.normal(0, between(20, 90), (6, 6, 1))
    )
    return View(
        yaw=float(np.clip(random.normal(0, 0.11), -0.3, 0.3)),
        pitch=float(np.clip(random.normal(0, 0.06), -0.18, 0.18)),
        roll=float(np.clip(random.normal(0, 0.05), -0.14, 0.14)),
        zoom=between(0.98, 1.11),
        shift=random.uniform(-0.03, 0.03, 2),
        shear=float(random.normal(0, 0.03)),
        light=light / np.linalg.norm(light),
        light_strength=between(0.3, 0.95),
        ambient=between(0.5, 0.9),
        tint=tint / tint.mean(),
        gamma=between(0.65, 1.5),
        smile=float(random.normal(0.02, 0.03)),
        mouth_open=max(0.0, float(random.normal(-0.01, 0.045))),
        eye_open=0.08 if random.random() < 0.03 else between(0.75, 1.12),
        brow_raise=float(random.normal(0, 0.018)),
        gaze=random.normal(0, 0.35, 2).clip(-0.8, 0.8),
        glasses=str(random.choice(("none", "round", "square", "dark"), p=(0.9, 0.048, 0.048, 0.004))),
        glasses_colour=random.uniform(10, 120, 3),
        cover=str(random.choice(COVERS, p=COVER_WEIGHTS)),
        cover_colour=random.uniform(30, 235, 3),
        cover_place=random.random(3),
        shirt=random.uniform(20, 235, 3),
        background=np.clip(background, 0, 255),
        blur=between(0.4, 1.0) if random.random() < 0.2 else 0.0,
        noise=between(1.0, 4.5),
        noise_place=(int(random.integers(1 << 16)), int(random.integers(1 << 16))),
        jpeg_quality=int(random.integers(70, 96)),
    )

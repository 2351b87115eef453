"""Who a rendered face is: the parameters that stay the same in every view of one identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Streams of the seed: identities and views never share random numbers.
IDENTITY_STREAM = 1
VIEW_STREAM = 2

# Skin from light to dark; a tone is a place on this line plus a little of its own hue.
SKIN_TONES = np.array(
    [
        (250, 222, 202),
        (240, 200, 172),
        (224, 176, 140),
        (198, 145, 106),
        (160, 110, 76),
        (116, 76, 52),
        (82, 54, 40),
    ],
    dtype=np.float64,
)
# Natural colours first, then dyed ones, which are as frequent in all as four of the natural ones.
HAIR_COLOURS = np.array(
    [
        (28, 24, 26),
        (60, 38, 28),
        (98, 62, 38),
        (140, 92, 54),
        (150, 54, 30),
        (216, 108, 40),
        (198, 158, 88),
        (238, 212, 150),
        (140, 140, 144),
        (232, 230, 228),
        (208, 70, 132),
        (52, 92, 176),
        (44, 140, 128),
        (118, 68, 160),
        (178, 34, 44),
        (96, 150, 58),
    ],
    dtype=np.float64,
)
HAIR_COLOUR_WEIGHTS = np.array([1.0] * 10 + [0.6] * 6)
IRIS_COLOURS = np.array(
    [(70, 44, 28), (104, 68, 36), (132, 112, 60), (84, 128, 84), (76, 128, 178), (124, 144, 158)],
    dtype=np.float64,
)
HAIR_STYLES = (
    "bald",
    "cropped",
    "short",
    "parted",
    "fringe",
    "bob",
    "long",
    "wavy",
    "curly",
    "bun",
    "quiff",
    "bunches",
)
HAIR_STYLE_WEIGHTS = np.array((0.5, 0.7, *[1.0] * (len(HAIR_STYLES) - 2)))
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class FaceIdentity:
    """One identity in face units: the head is about 2 high, its centre is the origin, y points down."""

    skin: FloatArray
    lips: FloatArray
    hair: FloatArray
    iris: FloatArray
    brow_colour: FloatArray
    head_width: float
    head_height: float
    jaw: float
    ear_size: float
    ear_tilt: float
    eye_spacing: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_size: float
    lash: float
    brow_gap: float
    brow_thickness: float
    brow_tilt: float
    brow_arch: float
    brow_length: float
    nose_length: float
    nose_width: float
    nose_bridge: float
    nose_tip: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    mouth_curve: float
    hair_style: str
    hair_volume: float
    hair_length: float
    hairline: float
    hairline_shape: float
    hairline_peak: float
    parting: float
    beard_style: str
    beard_length: float
    blush: float
    wrinkles: float
    freckles: FloatArray
    """[n, 2] positions, n may be 0."""
    moles: FloatArray
    """[n, 3] positions and radii."""
    scar: FloatArray
    """[2, 2] its two ends, or [0, 2]."""


def random_generator(seed: int, stream: int, *key: int) -> np.random.Generator:
    """A generator that depends on its arguments alone (no global state, any order of calls)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, stream, *key))))


def _colour_between(palette: FloatArray, place: float) -> FloatArray:
    """The colour at `place` in [0, 1] along a palette."""
    position = place * (len(palette) - 1)
    lower = min(int(position), len(palette) - 2)
    weight = position - lower
    return np.asarray(palette[lower] * (1 - weight) + palette[lower + 1] * weight)


def draw_identity(identity: int, seed: int) -> FaceIdentity:
    """The parameters of identity number `identity` under `seed`."""
    random = random_generator(seed, IDENTITY_STREAM, identity)

    def between(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    skin = np.clip(_colour_between(SKIN_TONES, between(0, 1)) + random.normal(0, 5, 3), 20, 252)
    weights = HAIR_COLOUR_WEIGHTS / HAIR_COLOUR_WEIGHTS.sum()
    hair = HAIR_COLOURS[random.choice(len(HAIR_COLOURS), p=weights)]
    hair = np.clip(hair * between(0.85, 1.15) + random.normal(0, 6, 3), 12, 245)
    natural_lips = skin * (0.88, 0.62, 0.60) + (18, 0, 4)
    lipstick = np.array((between(120, 205), between(20, 70), between(40, 110)))
    lips = natural_lips if random.random() < 0.6 else 0.35 * natural_lips + 0.65 * lipstick
    beard_style = "none" if random.random() < 0.5 else str(random.choice(BEARD_STYLES[1:]))
    freckles = random.normal(
        (0, 0.16), (0.26, 0.10), (random.integers(14, 32) if random.random() < 0.25 else 0, 2)
    )
    mole_count = int(random.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    moles = np.column_stack(
        (
            random.uniform(-0.5, 0.5, mole_count),
            random.uniform(-0.35, 0.75, mole_count),
            random.uniform(0.024, 0.045, mole_count),
        )
    )
    scar = np.empty((0, 2))
    if random.random() < 0.15:
        start = random.uniform((-0.5, -0.5), (0.5, 0.5))
        scar = np.stack((start, start + random.uniform((-0.22, 0.1), (0.22, 0.3))))
    return FaceIdentity(
        skin=skin,
        lips=lips,
        hair=hair,
        iris=np.clip(IRIS_COLOURS[random.integers(len(IRIS_COLOURS))] * between(0.85, 1.2), 0, 255),
        brow_colour=np.clip(0.75 * hair + 0.1 * skin, 0, 255) * between(0.6, 0.95),
        head_width=between(0.63, 0.87),
        head_height=between(0.94, 1.06),
        jaw=between(0.35, 1.05),
        ear_size=between(0.12, 0.2),
        ear_tilt=between(0.0, 0.08),
        eye_spacing=between(0.235, 0.385),
        eye_y=between(-0.14, 0.09),
        eye_width=between(0.115, 0.195),
        eye_height=between(0.058, 0.13),
        eye_tilt=between(-0.05, 0.05),
        iris_size=between(0.06, 0.095),
        lash=between(0.4, 1.0),
        brow_gap=between(0.13, 0.26),
        brow_thickness=between(0.012, 0.065),
        brow_tilt=between(-0.06, 0.03),
        brow_arch=between(0.0, 0.11),
        brow_length=between(0.15, 0.24),
        nose_length=between(0.26, 0.5),
        nose_width=between(0.08, 0.22),
        nose_bridge=between(0.03, 0.065),
        nose_tip=between(0.0, 0.06),
        mouth_y=between(0.48, 0.65),
        mouth_width=between(0.16, 0.36),
        upper_lip=between(0.02, 0.085),
        lower_lip=between(0.03, 0.11),
        mouth_curve=between(-0.03, 0.05),
        hair_style=str(random.choice(HAIR_STYLES, p=HAIR_STYLE_WEIGHTS / HAIR_STYLE_WEIGHTS.sum())),
        hair_volume=between(0.0, 1.0),
        hair_length=between(0.0, 1.0),
        hairline=between(-0.76, -0.38),
        hairline_shape=between(2.0, 8.0),
        hairline_peak=between(0.0, 0.12) if random.random() < 0.35 else 0.0,
        parting=between(-0.6, 0.6),
        beard_style=beard_style,
        beard_length=between(0.0, 1.0),
        blush=between(0.0, 0.5),
        wrinkles=between(0.0, 1.0) if random.random() < 0.3 else 0.0,
        freckles=freckles,
        moles=moles,
        scar=scar,
    )

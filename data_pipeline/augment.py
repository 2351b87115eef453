"""What is done to which image: parameters drawn from (seed, epoch, image) alone.

So a resumed run, another number of ranks or another batch size sees the same pixels, and switching one
augmentation on leaves the others' draws as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from data_pipeline.hashing import hash_words, uniform

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Area of the erased rectangle as a part of the image's, and its sides' ratio.
_ERASE_AREA = (0.02, 0.2)
_ERASE_RATIO = (0.5, 2.0)
# Standard deviation of the blur in pixels at 112, and the side that a low-resolution image is brought down
# to as a part of the full one (AdaFace's range starts at 0.2).
_BLUR_SIGMA = (0.5, 2.0)
_LOW_RESOLUTION = (0.2, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """Which changes training images undergo; the default is the mirror image alone, as in the paper."""

    flip: bool = True
    """Mirror every second image, at random."""
    shift: float = 0.0
    """Largest shift along each axis, in pixels of a 112 pixel high image."""
    rotation: float = 0.0
    """Largest rotation to either side, in degrees."""
    scale: float = 0.0
    """Largest relative change of size: 0.1 means between 0.9 and 1.1."""
    brightness: float = 0.0
    """Largest relative change of brightness."""
    contrast: float = 0.0
    """Largest relative change of contrast."""
    saturation: float = 0.0
    """Largest relative change of colour saturation."""
    grey: float = 0.0
    """Probability that an image loses its colour."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 20 % of the image's area becomes grey."""
    blur: float = 0.0
    """Probability of a Gaussian blur of 0.5 to 2 pixels (of a 112 pixel high image)."""
    low_resolution: float = 0.0
    """Probability that an image is brought down to 20 to 100 % of its size and up again."""

    def __post_init__(self) -> None:
        limits = {"shift": 112.0, "rotation": 180.0}
        for field in fields(self):
            value = getattr(self, field.name)
            limit = limits.get(field.name, 1.0)
            if not 0 <= value <= limit:
                raise ValueError(f"{field.name} must be between 0 and {limit:g}, got {value:g}")
        if self.scale == 1:
            raise ValueError("scale must be below 1, got 1")

    @property
    def moves(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotation or self.scale)

    @property
    def colours(self) -> bool:
        """Whether brightness, contrast or colour change."""
        return bool(self.brightness or self.contrast or self.saturation or self.grey)


@dataclass(frozen=True)
class Parameters:
    """One batch's draws, each for n images; what is off has the value that changes nothing.

    mirror: bool [n]. shift: pixels at 112, x and y, [n, 2]. rotation: degrees, [n]. scale: [n].
    brightness, contrast, saturation: factors, [n]. erase_anchor, erase_shape: y and x as parts of the
    image, [n, 2], shape 0 for none. blur: standard deviation in pixels at 112, [n], 0 for none.
    resolution: part of the full side, [n], 1 for all of it.
    """

    mirror: npt.NDArray[np.bool_]
    shift: Floats
    rotation: Floats
    scale: Floats
    brightness: Floats
    contrast: Floats
    saturation: Floats
    erase_anchor: Floats
    erase_shape: Floats
    blur: Floats
    resolution: Floats


class _Draws:
    """Uniform numbers of a batch by name of the parameter."""

    # A name's place in this list is part of the hash: append, never reorder.
    _NAMES = (
        *("mirror", "shift_x", "shift_y", "rotation", "scale"),
        *("brightness", "contrast", "saturation", "grey"),
        *("erase", "erase_area", "erase_ratio", "erase_y", "erase_x"),
        *("blur", "blur_sigma", "low", "low_side"),
    )

    def __init__(self, seed: int, epochs: Ints, images: Ints) -> None:
        self._base = hash_words(seed, epochs, images)
        self.count = len(images)

    def unit(self, name: str) -> npt.NDArray[np.float64]:
        """[n] in [0, 1)."""
        return uniform(hash_words(self._base, self._NAMES.index(name) + 1))

    def between(self, name: str, low: float, high: float) -> npt.NDArray[np.float64]:
        """[n] in [low, high); a constant costs nothing."""
        return np.full(self.count, low) if low == high else low + (high - low) * self.unit(name)

    def chosen(self, name: str, probability: float) -> npt.NDArray[np.bool_]:
        """[n], true with this probability."""
        return self.unit(name) < probability if probability else np.zeros(self.count, dtype=np.bool_)


def draw(augmentation: Augmentation, seed: int, epochs: Ints, images: Ints) -> Parameters:
    """The parameters of n images: epochs, images int64 [n]."""
    draws = _Draws(seed, epochs, images)
    a = augmentation
    saturation = draws.between("saturation", 1 - a.saturation, 1 + a.saturation)
    saturation[draws.chosen("grey", a.grey)] = 0.0
    anchor, shape = _rectangles(draws, a.erase)
    shift = [draws.between(name, -a.shift, a.shift) for name in ("shift_x", "shift_y")]
    return Parameters(
        mirror=draws.chosen("mirror", 0.5 if a.flip else 0.0),
        shift=np.stack(shift, axis=1).astype(np.float32),
        rotation=draws.between("rotation", -a.rotation, a.rotation).astype(np.float32),
        scale=draws.between("scale", 1 - a.scale, 1 + a.scale).astype(np.float32),
        brightness=draws.between("brightness", 1 - a.brightness, 1 + a.brightness).astype(np.float32),
        contrast=draws.between("contrast", 1 - a.contrast, 1 + a.contrast).astype(np.float32),
        saturation=saturation.astype(np.float32),
        erase_anchor=anchor,
        erase_shape=shape,
        blur=_sometimes(draws, "blur", a.blur, "blur_sigma", _BLUR_SIGMA, otherwise=0.0),
        resolution=_sometimes(draws, "low", a.low_resolution, "low_side", _LOW_RESOLUTION, otherwise=1.0),
    )


def _sometimes(
    draws: _Draws, choice: str, probability: float, value: str, span: tuple[float, float], otherwise: float
) -> Floats:
    result = np.full(draws.count, otherwise, dtype=np.float32)
    if probability:
        chosen = draws.chosen(choice, probability)
        result[chosen] = draws.between(value, *span)[chosen]
    return result


def _rectangles(draws: _Draws, probability: float) -> tuple[Floats, Floats]:
    if not probability:
        nothing = np.zeros((draws.count, 2), dtype=np.float32)
        return nothing, nothing
    area = draws.between("erase_area", *_ERASE_AREA)
    # Between 1/2 and 2 uniformly in the logarithm, so that upright and lying are as frequent.
    ratio = np.exp(draws.between("erase_ratio", *np.log(_ERASE_RATIO)))
    shape = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1)
    anchor = np.stack([draws.unit("erase_y"), draws.unit("erase_x")], axis=1) * (1 - shape)
    shape[~draws.chosen("erase", probability)] = 0.0
    return anchor.astype(np.float32), shape.astype(np.float32)

"""What is done to which image: parameters drawn from (seed, epoch, image) alone.

So a resumed run, another number of ranks or another batch size sees the same pixels, and switching one
augmentation on leaves the others' draws as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from data_pipeline.images.resampling import INTERPOLATIONS, LINEAR
from data_pipeline.order.hashing import hash_words, uniform

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Area of the erased rectangle as a part of the image's, and its sides' ratio.
_ERASE_AREA = (0.02, 0.2)
_ERASE_RATIO = (0.5, 2.0)
# What stays of a cropped image: its area as a part of the whole, and its sides' ratio (AdaFace's).
_CROP_AREA = (0.2, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
# Standard deviation of the blur in pixels at 112, and the side that a low-resolution image is brought down
# to as a part of the full one (AdaFace's range starts at 0.2).
_BLUR_SIGMA = (0.5, 2.0)
_LOW_RESOLUTION = (0.2, 1.0)
_JPEG_QUALITY = (30, 95)


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
    photometric: float = 1.0
    """Probability that an image's brightness, contrast and saturation change at all."""
    grey: float = 0.0
    """Probability that an image loses its colour."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 20 % of the image's area becomes grey."""
    blur: float = 0.0
    """Probability of a Gaussian blur of 0.5 to 2 pixels (of a 112 pixel high image)."""
    low_resolution: float = 0.0
    """Probability that an image is brought down to 20 to 100 % of its size and up again, each way by nearest,
    linear, smoothed (DALI's triangle, for AdaFace's area), cubic or Lanczos interpolation at random."""
    crop: float = 0.0
    """Probability that all but a box of 20 to 100 % of the image's area, sides 3:4 to 4:3, becomes black."""
    jpeg: float = 0.0
    """Probability that an image is compressed once more, as JPEG of quality 30 to 95."""

    def __post_init__(self) -> None:
        limits = {"shift": 112.0, "rotation": 180.0}
        for field in fields(self):
            value = getattr(self, field.name)
            limit = limits.get(field.name, 1.0)
            if not 0 <= value <= limit:
                raise ValueError(f"{field.name} must be between 0 and {limit:g}, got {value:g}")
        if self.scale == 1:
            raise ValueError("scale must be below 1, got 1")

    @classmethod
    def adaface(cls) -> Augmentation:
        """The set of AdaFace (Kim et al. 2022, section 4.1): mirror; crop, low resolution and photometric
        changes of up to a half, each for every fifth image.
        """
        return cls(
            crop=0.2, low_resolution=0.2, photometric=0.2, brightness=0.5, contrast=0.5, saturation=0.5
        )

    @property
    def changes_pixels(self) -> bool:
        """Whether anything but the mirror is switched on."""
        others = self.grey or self.erase or self.blur or self.low_resolution or self.crop or self.jpeg
        return self.moves or self.colours or bool(others)

    @property
    def moves(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotation or self.scale)

    @property
    def colours(self) -> bool:
        """Whether brightness, contrast or colour change."""
        changes = self.brightness or self.contrast or self.saturation
        return bool(self.grey or (self.photometric and changes))


PRESETS = {
    "none": Augmentation(flip=False),
    "flip": Augmentation(),
    "light": Augmentation(
        shift=2, rotation=3, scale=0.03, photometric=0.5, brightness=0.1, contrast=0.1, saturation=0.1,
        grey=0.02, blur=0.05, low_resolution=0.05, jpeg=0.1,
    ),
    "adaface": Augmentation.adaface(),
}  # fmt: skip
"""Sets of augmentations by name."""


@dataclass(frozen=True)
class Parameters:
    """One batch's draws, each for n images; what is off has the value that changes nothing.

    mirror: bool [n]. shift: pixels at 112, x and y, [n, 2]. rotation: degrees, [n]. scale: [n].
    brightness, contrast, saturation: factors, [n]. erase_anchor, erase_shape: y and x as parts of the
    image, [n, 2], shape 0 for none. blur: standard deviation in pixels at 112, [n], 0 for none.
    resolution: part of the full side, [n], 1 for all of it. interpolation: places in
    `resampling.INTERPOLATIONS`, down and up, int32 [n, 2]. crop_anchor, crop_shape: y and x of the box that
    stays, as parts of the image, [n, 2], shape 1 for all of it. jpeg: quality, int32 [n], 0 for none.
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
    interpolation: npt.NDArray[np.int32]
    crop_anchor: Floats
    crop_shape: Floats
    jpeg: npt.NDArray[np.int32]


class _Draws:
    """Uniform numbers of a batch by name of the parameter."""

    # A name's place in this list is part of the hash: append, never reorder.
    _NAMES = (
        *("mirror", "shift_x", "shift_y", "rotation", "scale"),
        *("brightness", "contrast", "saturation", "grey"),
        *("erase", "erase_area", "erase_ratio", "erase_y", "erase_x"),
        *("blur", "blur_sigma", "low", "low_side"),
        *("photometric", "low_down", "low_up", "crop", "crop_area", "crop_ratio", "crop_y", "crop_x"),
        *("jpeg", "jpeg_quality"),
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
    brightness, contrast, saturation = _photometric(draws, a)
    erase_anchor, erase_shape = _rectangles(draws, a.erase)
    crop_anchor, crop_shape = _boxes(draws, a.crop)
    shift = [draws.between(name, -a.shift, a.shift) for name in ("shift_x", "shift_y")]
    quality = _sometimes(
        draws, "jpeg", a.jpeg, "jpeg_quality", (_JPEG_QUALITY[0], _JPEG_QUALITY[1] + 1), otherwise=0.0
    )
    return Parameters(
        mirror=draws.chosen("mirror", 0.5 if a.flip else 0.0),
        shift=np.stack(shift, axis=1).astype(np.float32),
        rotation=draws.between("rotation", -a.rotation, a.rotation).astype(np.float32),
        scale=draws.between("scale", 1 - a.scale, 1 + a.scale).astype(np.float32),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        erase_anchor=erase_anchor,
        erase_shape=erase_shape,
        blur=_sometimes(draws, "blur", a.blur, "blur_sigma", _BLUR_SIGMA, otherwise=0.0),
        resolution=_sometimes(draws, "low", a.low_resolution, "low_side", _LOW_RESOLUTION, otherwise=1.0),
        interpolation=_interpolation(draws, a.low_resolution),
        crop_anchor=crop_anchor,
        crop_shape=crop_shape,
        jpeg=np.minimum(quality.astype(np.int32), _JPEG_QUALITY[1]),
    )


def _photometric(draws: _Draws, a: Augmentation) -> list[Floats]:
    """Factors of brightness, contrast and saturation."""
    changed = draws.chosen("photometric", a.photometric) if a.photometric < 1 else True
    reach = {"brightness": a.brightness, "contrast": a.contrast, "saturation": a.saturation}
    factors = [np.where(changed, draws.between(name, 1 - r, 1 + r), 1.0) for name, r in reach.items()]
    factors[2][draws.chosen("grey", a.grey)] = 0.0
    return [factor.astype(np.float32) for factor in factors]


def _interpolation(draws: _Draws, probability: float) -> npt.NDArray[np.int32]:
    if not probability:
        return np.full((draws.count, 2), LINEAR, dtype=np.int32)
    kinds = len(INTERPOLATIONS)
    return np.stack([draws.unit(name) * kinds for name in ("low_down", "low_up")], axis=1).astype(np.int32)


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


def _boxes(draws: _Draws, probability: float) -> tuple[Floats, Floats]:
    if not probability:
        return np.zeros((draws.count, 2), dtype=np.float32), np.ones((draws.count, 2), dtype=np.float32)
    area = draws.between("crop_area", *_CROP_AREA)
    # Of the ratios those that fit into the image, where AdaFace draws area and ratio again.
    low, high = np.log(np.maximum(_CROP_RATIO[0], area)), np.log(np.minimum(_CROP_RATIO[1], 1 / area))
    ratio = np.exp(low + (high - low) * draws.unit("crop_ratio"))
    shape = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=1)
    shape[~draws.chosen("crop", probability)] = 1.0
    anchor = np.stack([draws.unit("crop_y"), draws.unit("crop_x")], axis=1) * (1 - shape)
    return anchor.astype(np.float32), shape.astype(np.float32)

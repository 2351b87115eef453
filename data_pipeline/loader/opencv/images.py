"""A batch of images without DALI: what its graph does before normalisation, by OpenCV on the CPU.

The loader for machines without DALI is made of it, and it is the oracle of the one with DALI: decoded,
brought to one size, augmented and cropped, they agree to within one grey level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from data_pipeline.augment.on_cpu import change_image
from data_pipeline.augment.pixel_settings import changes_of, settings_of
from data_pipeline.augment.settings import Augmentation, Parameters
from data_pipeline.images.decode import crop, decoded, fit

Images = npt.NDArray[np.uint8]


def opencv_batch(
    payloads: Sequence[npt.NDArray[np.uint8]],
    parameters: Parameters,
    augmentation: Augmentation,
    *,
    stored: tuple[int, int] | None,
    size: tuple[int, int],
) -> tuple[Images, dict[int, str]]:
    """uint8 [n, H, W, 3] RGB of n encoded images, changed by the n parameters drawn for `augmentation`, and
    which are damaged: place in the batch to reason. Damaged ones are black; nothing is raised for them.

    stored: (height, width) that every image must have, or None if each is brought to `size` by `decode.fit`;
    size: (height, width) that comes out, by a crop of the middle if it is smaller than stored. Images are
    turned as their EXIF says.
    """
    worked = stored or size
    changes = changes_of(settings_of(augmentation, parameters, worked), len(payloads), worked)
    images = np.zeros((len(payloads), *size, 3), dtype=np.uint8)
    damaged: dict[int, str] = {}
    for place, payload in enumerate(payloads):
        image = decoded(payload)
        if isinstance(image, str):
            damaged[place] = image
            continue
        if stored is None:
            image = fit(image, size)
        elif image.shape[:2] != stored:
            damaged[place] = wrong_size((image.shape[0], image.shape[1]), stored)
            continue
        image = crop(change_image(image, changes[place]), size)
        images[place] = image[:, ::-1] if parameters.mirror[place] else image
    return images, damaged


def wrong_size(found: tuple[int, int], stored: tuple[int, int]) -> str:
    """What is wrong with an image of this (height, width) in a set whose images have another."""
    return f"its image has {found[0]} x {found[1]} pixels, not {stored[0]} x {stored[1]} as the others"

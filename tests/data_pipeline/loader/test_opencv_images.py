"""Images without DALI; tests/data_pipeline/augment/test_augment_dali.py holds their pixels against DALI's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from data_pipeline.augment.on_cpu import change_image
from data_pipeline.augment.pixel_settings import settings_of
from data_pipeline.augment.settings import Augmentation, Parameters, draw
from data_pipeline.images.resampling import INTERPOLATIONS, resize
from data_pipeline.loader.opencv.images import opencv_batch
from tests.waiting import patience_s

SIZE = (112, 112)
NONE = Augmentation(flip=False)
ALL = Augmentation(
    shift=4, rotation=10, scale=0.1, brightness=0.5, contrast=0.5, saturation=0.5, grey=0.1, erase=0.5,
    blur=0.3, low_resolution=0.5, crop=0.5, jpeg=0.5,
)  # fmt: skip


def picture(seed: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", image)[1], dtype=np.uint8).reshape(-1)


def drawn(augmentation: Augmentation, count: int) -> Parameters:
    return draw(augmentation, 3, np.zeros(count, dtype=np.int64), np.arange(count))


def test_it_does_without_dali() -> None:
    program = """
import sys
import data_pipeline.loader.opencv.images
assert not [name for name in sys.modules if name.startswith("nvidia")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=patience_s())


def test_plain_images_come_as_they_are_and_the_mirror_turns_them() -> None:
    images = [picture(seed) for seed in range(20)]
    parameters = drawn(Augmentation(), 20)
    found, damaged = opencv_batch(
        [png(image) for image in images], parameters, Augmentation(), stored=SIZE, size=SIZE
    )
    assert not damaged
    assert 0 < parameters.mirror.sum() < 20
    for image, mirror, out in zip(images, parameters.mirror, found, strict=True):
        assert np.array_equal(out, image[:, ::-1, ::-1] if mirror else image[:, :, ::-1])


def test_a_damaged_image_is_black_and_named_and_the_others_are_as_ever() -> None:
    payloads = [png(picture(seed)) for seed in range(6)]
    whole, none = opencv_batch(payloads, drawn(ALL, 6), ALL, stored=SIZE, size=SIZE)
    assert not none
    spoilt = list(payloads)
    spoilt[1] = payloads[1][:5000]
    spoilt[2] = np.frombuffer(b"no image", dtype=np.uint8)
    spoilt[4] = png(picture(1, (90, 112)))
    images, damaged = opencv_batch(spoilt, drawn(ALL, 6), ALL, stored=SIZE, size=SIZE)
    assert {place: reason.split(":")[0] for place, reason in damaged.items()} == {
        1: "its image cannot be decoded",
        2: "its image cannot be decoded",
        4: "its image has 90 x 112 pixels, not 112 x 112 as the others",
    }
    assert not images[[1, 2, 4]].any()
    assert np.array_equal(images[[0, 3, 5]], whole[[0, 3, 5]])


def test_a_crop_keeps_its_box_and_nothing_else() -> None:
    augmentation = replace(NONE, crop=1.0)
    parameters = drawn(augmentation, 50)
    for place in range(50):
        image = np.full((112, 96, 3), 200, dtype=np.uint8)
        settings = settings_of(augmentation, parameters, (112, 96))
        changed = change_image(image, {name: values[place] for name, values in settings.items()})
        kept = np.argwhere(changed[:, :, 0] == 200)
        (top, left), (bottom, right) = kept.min(axis=0), kept.max(axis=0) + 1
        assert len(kept) == (bottom - top) * (right - left)
        assert (changed[top:bottom, left:right] == 200).all()
        assert len(kept) / (112 * 96) == pytest.approx(parameters.crop_shape[place].prod(), abs=0.02)


def test_resize_to_the_same_size_is_the_image() -> None:
    image = picture(2)
    for kind in range(len(INTERPOLATIONS)):
        assert resize(image, SIZE, kind) is image


def test_shrinking_smoothly_keeps_the_mean_and_enlarging_a_ramp_is_exact() -> None:
    image = picture(1)
    for kind in (INTERPOLATIONS.index(name) for name in ("triangular",)):
        small = resize(image, (28, 28), kind)
        assert np.abs(small.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 0.5
        assert small.std() < image.std() / 3
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[:, None, None], 20, axis=1).repeat(3, axis=2)
    for kind in (INTERPOLATIONS.index(name) for name in ("linear", "triangular", "cubic", "lanczos")):
        large = resize(ramp, (40, 40), kind)
        middle = (np.arange(40) + 0.5) / 2 - 0.5
        assert np.abs(large[8:-8, 20, 0] - 10 * middle[8:-8]).max() <= 1

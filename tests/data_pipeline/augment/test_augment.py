from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from data_pipeline.augment.settings import PRESETS, Augmentation, Parameters, draw
from data_pipeline.images.resampling import INTERPOLATIONS

ALL = Augmentation(
    shift=4, rotation=10, scale=0.1, brightness=0.2, contrast=0.3, saturation=0.4, grey=0.1, erase=0.5,
    blur=0.25, low_resolution=0.3, crop=0.4, jpeg=0.2,
)  # fmt: skip
EPOCHS, IMAGES = np.repeat([0, 1], 20_000), np.tile(np.arange(20_000), 2)


def equal(one: Parameters, other: Parameters, pick: slice = slice(None)) -> bool:
    return all(
        np.array_equal(getattr(one, field.name)[pick], getattr(other, field.name)) for field in fields(one)
    )


def test_draws_know_neither_batch_nor_rank() -> None:
    whole = draw(ALL, 5, EPOCHS, IMAGES)
    for pick in (slice(0, 1), slice(7, 300, 3), slice(39_000, None)):
        assert equal(whole, draw(ALL, 5, EPOCHS[pick], IMAGES[pick]), pick)


def test_seeds_epochs_and_images_differ() -> None:
    draws = draw(ALL, 5, EPOCHS, IMAGES)
    other = draw(ALL, 6, EPOCHS, IMAGES)
    assert abs(np.corrcoef(draws.rotation, other.rotation)[0, 1]) < 0.02
    assert abs(np.corrcoef(draws.rotation[:20_000], draws.rotation[20_000:])[0, 1]) < 0.03
    assert abs(np.corrcoef(draws.rotation[1:], draws.rotation[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(draws.rotation, draws.scale)[0, 1]) < 0.02


def test_one_more_augmentation_leaves_the_others_alone() -> None:
    with_erase = draw(ALL, 5, EPOCHS, IMAGES)
    without = draw(replace(ALL, erase=0.0, shift=0.0), 5, EPOCHS, IMAGES)
    for name in ("mirror", "rotation", "scale", "brightness", "contrast", "saturation", "blur", "resolution"):
        assert np.array_equal(getattr(with_erase, name), getattr(without, name))
    assert not without.erase_shape.any()
    assert not without.shift.any()


def test_ranges_and_frequencies() -> None:
    draws = draw(ALL, 1, EPOCHS, IMAGES)
    assert abs(draws.mirror.mean() - 0.5) < 0.01
    for name, centre, reach in (
        ("shift", 0, 4), ("rotation", 0, 10), ("scale", 1, 0.1), ("brightness", 1, 0.2), ("contrast", 1, 0.3),
    ):  # fmt: skip
        values = getattr(draws, name)
        assert values.min() == pytest.approx(centre - reach, abs=reach / 100)
        assert values.max() == pytest.approx(centre + reach, abs=reach / 100)
        assert values.mean() == pytest.approx(centre, abs=reach / 20)
    assert (draws.saturation == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (draws.blur > 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (draws.resolution < 1).mean() == pytest.approx(0.3, abs=0.01)
    erased = draws.erase_shape.any(axis=1)
    assert erased.mean() == pytest.approx(0.5, abs=0.01)
    area = draws.erase_shape[erased].prod(axis=1)
    assert area.min() >= 0.0199
    assert area.max() <= 0.2001
    assert (draws.erase_anchor >= 0).all()
    assert (draws.erase_anchor + draws.erase_shape <= 1.0001).all()


def test_low_resolution_draws_every_interpolation_each_way() -> None:
    draws = draw(ALL, 1, EPOCHS, IMAGES)
    pairs = draws.interpolation @ [len(INTERPOLATIONS), 1]
    counts = np.bincount(pairs, minlength=25)
    assert len(counts) == 25
    # 1,600 each, with a standard deviation of 39.
    assert abs(counts - 1600).max() < 5 * 39


def test_crops_are_of_the_stated_area_and_sides() -> None:
    draws = draw(ALL, 1, EPOCHS, IMAGES)
    cropped = (draws.crop_shape < 1).any(axis=1)
    assert cropped.mean() == pytest.approx(0.4, abs=0.01)
    area, ratio = draws.crop_shape.prod(axis=1), draws.crop_shape[:, 1] / draws.crop_shape[:, 0]
    assert area[cropped].min() == pytest.approx(0.2, abs=0.002)
    assert area[cropped].max() == pytest.approx(1.0, abs=0.002)
    assert area[cropped].mean() == pytest.approx(0.6, abs=0.01)
    assert ratio.min() == pytest.approx(3 / 4, abs=0.005)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.005)
    assert (draws.crop_anchor >= 0).all()
    assert (draws.crop_anchor + draws.crop_shape <= 1.00001).all()
    # Every place of the box is as likely.
    part = draws.crop_anchor[cropped] / (1 - draws.crop_shape[cropped] + 1e-6)
    assert np.histogram(part, bins=4, range=(0, 1))[0] / part.size == pytest.approx([0.25] * 4, abs=0.01)


def test_jpeg_qualities() -> None:
    draws = draw(ALL, 1, EPOCHS, IMAGES)
    assert (draws.jpeg > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert set(draws.jpeg[draws.jpeg > 0].tolist()) == set(range(30, 96))


def test_photometric_is_a_probability_and_grey_another() -> None:
    some = draw(replace(ALL, photometric=0.25, grey=0.1), 1, EPOCHS, IMAGES)
    always = draw(replace(ALL, grey=0.1), 1, EPOCHS, IMAGES)
    changed = some.brightness != 1
    assert changed.mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(changed, some.contrast != 1)
    for name in ("brightness", "contrast"):
        assert np.array_equal(getattr(some, name)[changed], getattr(always, name)[changed])
    assert np.array_equal(some.saturation == 0, always.saturation == 0)
    assert not Augmentation(brightness=0.5, photometric=0.0).colours


def test_presets() -> None:
    assert list(PRESETS) == ["none", "flip", "light", "adaface"]
    assert PRESETS["flip"] == Augmentation()
    assert PRESETS["none"] == Augmentation(flip=False)
    a = PRESETS["adaface"]
    assert a == Augmentation.adaface()
    assert (a.crop, a.low_resolution, a.photometric) == (0.2, 0.2, 0.2)
    assert (a.brightness, a.contrast, a.saturation) == (0.5, 0.5, 0.5)
    assert {a.shift, a.rotation, a.scale, a.blur, a.erase, a.jpeg, a.grey} == {0}


def test_the_default_is_the_mirror_alone() -> None:
    draws = draw(Augmentation(), 1, EPOCHS, IMAGES)
    assert 0 < draws.mirror.sum() < len(IMAGES)
    nothing = draw(Augmentation(flip=False), 1, EPOCHS, IMAGES)
    assert not nothing.mirror.any()
    for name, value in (("shift", 0), ("rotation", 0), ("scale", 1), ("brightness", 1), ("contrast", 1),
                        ("saturation", 1), ("erase_shape", 0), ("blur", 0), ("resolution", 1),
                        ("crop_anchor", 0), ("crop_shape", 1), ("jpeg", 0)):  # fmt: skip
        assert (getattr(draws, name) == value).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"shift": -1.0}, "shift must be between 0 and 112, got -1"),
        ({"rotation": 200.0}, "rotation must be between 0 and 180, got 200"),
        ({"grey": 1.5}, "grey must be between 0 and 1, got 1.5"),
        ({"blur": float("nan")}, "blur must be between 0 and 1, got nan"),
        ({"jpeg": 2.0}, "jpeg must be between 0 and 1, got 2"),
        ({"crop": -0.1}, "crop must be between 0 and 1, got -0.1"),
        ({"scale": 1.0}, "scale must be below 1, got 1"),
    ],
)
def test_wrong_settings(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**setting)  # type: ignore[arg-type]

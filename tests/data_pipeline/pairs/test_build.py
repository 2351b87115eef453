"""`build_pairs`: a list and a folder of images become a `.bin`."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.errors import PairSetError
from data_pipeline.images.decode import decode_image
from data_pipeline.pairs import build_pairs, read_bin

LIST = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\nBob\t1\t2\nBob\t2\tAnn\t10\n"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for name, numbers in (("Ann", (1, 2, 10)), ("Bob", (1, 2, 3))):
        for number in numbers:
            path = tmp_path / "people" / name / f"{name}_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(path), np.full((20, 20, 3), 10 * number + (100 if name == "Bob" else 0), np.uint8)
            )
    (tmp_path / "pairs.txt").write_text(LIST)
    return tmp_path / "people"


def _greys(path: Path) -> list[int]:
    decoded = [decode_image(image) for image in read_bin(path).images]
    return [round(float(image.mean()), -1) // 1 for image in decoded if image is not None]


def test_pairs_are_built_of_a_list_and_images(people: Path, tmp_path: Path) -> None:
    report = build_pairs(tmp_path / "pairs.txt", people, tmp_path / "out.bin", size=(32, 24), workers=1)
    assert (report.num_pairs, report.num_images, report.faceless) == (4, 6, [])
    assert _greys(tmp_path / "out.bin") == [10, 20, 10, 130, 110, 120, 120, 100]
    pairs = read_bin(tmp_path / "out.bin")
    assert pairs.same == [True, False, True, False]
    assert decode_image(pairs.images[0]).shape == (32, 24, 3)  # type: ignore[union-attr]
    build_pairs(tmp_path / "pairs.txt", people, tmp_path / "two.bin", fold=2, workers=1)
    assert _greys(tmp_path / "two.bin") == [110, 120, 120, 100]


def test_building_pairs_says_what_is_missing(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.bin"
    with pytest.raises(PairSetError, match=r"pairs\.txt: has folds 1 to 2, got fold 3"):
        build_pairs(tmp_path / "pairs.txt", people, out, fold=3)
    with pytest.raises(PairSetError, match="nowhere: no such folder"):
        build_pairs(tmp_path / "pairs.txt", tmp_path / "nowhere", out)
    (people / "Ann" / "Ann_0002.png").write_text("no image")
    with pytest.raises(PairSetError, match=r"Ann_0002\.png: no image that can be decoded"):
        build_pairs(tmp_path / "pairs.txt", people, out, workers=1)
    (people / "Ann" / "Ann_0010.png").unlink()
    with pytest.raises(PairSetError, match=r"Ann_0010\.jpg: no such file"):
        build_pairs(tmp_path / "pairs.txt", people, out)
    assert not out.exists()


@pytest.mark.mtcnn
def test_a_pair_without_a_found_face_is_kept(people: Path, tmp_path: Path) -> None:
    report = build_pairs(tmp_path / "pairs.txt", people, tmp_path / "out.bin", align="mtcnn", workers=1)
    assert report.num_pairs == 4
    assert len(report.faceless) == 6


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_a_fold_of_lfw_is_aligned(shared_data: Path, tmp_path: Path) -> None:
    lfw = shared_data / "lfw"
    report = build_pairs(
        lfw / "pairs.txt", lfw / "images", tmp_path / "f.bin", fold=10, align="mtcnn", workers=2
    )
    assert (report.num_pairs, report.faceless) == (600, [])
    same = np.array(read_bin(tmp_path / "f.bin").same)
    assert same.reshape(10, 60).sum(axis=1).tolist() == [30] * 10
    buffer = io.BytesIO((tmp_path / "f.bin").read_bytes())
    assert len(pickle.load(buffer, encoding="bytes")[0]) == 1200

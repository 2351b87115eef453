from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset
from data_pipeline.images.decode import decode_image
from data_pipeline.pairs import read_bin
from data_pipeline.rendered import render_face, render_jpeg, write_rendered_dataset, write_rendered_pairs
from data_pipeline.rendered.identity import BEARD_STYLES, HAIR_STYLES, draw_identity
from data_pipeline.rendered.nuisance import COVERS, draw_view
from data_pipeline.rendered.write import draw_pairs


@pytest.mark.parametrize("size", [48, 112, 160])
def test_a_face_is_an_rgb_picture_of_the_size_asked_for(size: int) -> None:
    face = render_face(3, 1, seed=0, size=size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.std() > 10


def test_a_face_depends_on_its_arguments_alone() -> None:
    before = render_face(5, 2, seed=1, size=64)
    np.random.seed(7)
    render_face(6, 0, seed=1, size=64)
    assert np.array_equal(before, render_face(5, 2, seed=1, size=64))
    for other in ((6, 2, 1), (5, 3, 1), (5, 2, 2)):
        assert not np.array_equal(before, render_face(*other, size=64))


def test_another_process_draws_the_same_face() -> None:
    script = (
        "import zlib; from data_pipeline.rendered import render_face; "
        "print(zlib.crc32(render_face(9, 4, 3, 64).tobytes()))"
    )
    import zlib

    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert int(printed) == zlib.crc32(render_face(9, 4, 3, 64).tobytes())


def test_every_style_is_drawn() -> None:
    faces = [draw_identity(identity, 0) for identity in range(200)]
    views = [draw_view(0, view, 0) for view in range(3000)]
    assert {face.hair_style for face in faces} == set(HAIR_STYLES)
    assert {face.beard_style for face in faces} == set(BEARD_STYLES)
    assert {view.cover for view in views} == set(COVERS)
    for identity, view in [(0, view) for view in range(60)] + [(identity, 0) for identity in range(60)]:
        render_face(identity, view, size=32)


def test_identity_parameters_stay_and_nuisance_changes() -> None:
    assert np.array_equal(draw_identity(4, 0).skin, draw_identity(4, 0).skin)
    assert draw_view(4, 0, 0).yaw != draw_view(4, 1, 0).yaw


def test_a_jpeg_is_the_face_at_the_views_quality() -> None:
    decoded = decode_image(render_jpeg(2, 0, seed=0, size=112))
    assert decoded is not None
    difference = np.abs(decoded.astype(int) - render_face(2, 0, seed=0, size=112))
    assert difference.mean() < 8


def test_a_rendered_dataset_is_a_record_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = write_rendered_dataset(tmp_path / "set", range(10, 14), 6, seed=2, size=48, workers=2)
    assert count == 24
    assert "rendering faces: 24 of 24 images" in capsys.readouterr().out
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert (dataset.num_classes, dataset.image_size) == (4, (48, 48))
        assert dataset.labels.tolist() == np.repeat(range(4), 6).tolist()
        assert bytes(dataset.payload(7)) == render_jpeg(11, 1, seed=2, size=48)
    with pytest.raises(DatasetError, match="already exists"):
        write_rendered_dataset(tmp_path / "set", range(2), 1, size=48)
    with pytest.raises(ValueError, match="must not be empty"):
        write_rendered_dataset(tmp_path / "other", range(0), 1)


def test_rendered_pairs_are_half_same_in_every_fold(tmp_path: Path) -> None:
    write_rendered_pairs(tmp_path / "p.bin", range(100, 110), 40, seed=1, size=48, workers=1)
    pairs = read_bin(tmp_path / "p.bin")
    assert (len(pairs), pairs.folds, len(pairs.images)) == (40, 10, 80)
    assert np.array(pairs.same).reshape(10, 4).sum(axis=1).tolist() == [2] * 10
    images, same = pickle.loads((tmp_path / "p.bin").read_bytes(), encoding="bytes")
    assert (images, same) == (pairs.images, pairs.same)
    for first, view, second, other_view, is_same in draw_pairs(range(100, 110), 200, 1):
        assert (first == second) == is_same
        assert {first, second} <= set(range(100, 110))
        assert view != other_view
    with pytest.raises(ValueError, match="at least 2 identities"):
        draw_pairs(range(1), 10, 0)


def test_pixels_alone_do_not_verify_rendered_identities() -> None:
    # Nuisance is meant to outweigh identity in raw pixels, or a demo's training would prove nothing.
    drawn = draw_pairs(range(1000, 1060), 200, 0)
    faces = np.stack([render_face(*end, seed=0, size=32) for pair in drawn for end in (pair[:2], pair[2:4])])
    flat = faces.reshape(len(faces), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    scores = (flat[::2] * flat[1::2]).sum(axis=1)
    same = np.array([pair[4] for pair in drawn])
    best = max(((scores > threshold) == same).mean() for threshold in scores)
    assert 0.5 < best < 0.75

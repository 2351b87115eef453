from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset
from data_pipeline.images.decode import decode_image
from data_pipeline.pack.pack import find_images, pack
from data_pipeline.rendered import render_face


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for identity, name in enumerate(("bob", "alice", "zoe")):
        for view in range(3):
            _write(folder / name / f"{view}.png", render_face(identity, view, size=64))
    return folder


def _csv(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_is_packed_in_the_order_of_names(images: Path, tmp_path: Path, workers: int) -> None:
    for view in range(3, 10):
        _write(images / "alice" / f"{view}.png", render_face(1, view, size=64))
    report = pack(images, tmp_path / "out", size=(64, 64), quality=100, workers=workers)
    assert (report.num_images, report.identities, report.skipped) == (16, ["alice", "bob", "zoe"], [])
    with FaceDataset.open(tmp_path / "out") as dataset:
        assert dataset.labels.tolist() == [0] * 10 + [1] * 3 + [2] * 3
        assert dataset.image_size == (64, 64)
        for index, identity, view in ((0, 1, 0), (9, 1, 9), (10, 0, 0), (15, 2, 2)):
            decoded = decode_image(dataset.payload(index))
            assert decoded is not None
            difference = decoded.astype(int) - render_face(identity, view, size=64)
            # JPEG halves the colours' resolution: the noise of the picture's colours is lost.
            assert np.abs(difference.mean(axis=2)).mean() < 2
    assert _csv(tmp_path / "out" / "identities.csv") == [
        ["class", "folder"],
        ["0", "alice"],
        ["1", "bob"],
        ["2", "zoe"],
    ]
    assert not (tmp_path / "out" / "skipped.csv").exists()


def test_the_number_of_workers_changes_nothing(images: Path, tmp_path: Path) -> None:
    for view in range(3, 20):
        _write(images / "zoe" / f"{view}.png", render_face(2, view, size=64))
    for workers in (1, 2):
        pack(images, tmp_path / f"out{workers}", workers=workers)
    names = sorted(path.name for path in (tmp_path / "out1").iterdir())
    assert names == ["identities.csv", "property", "train.idx", "train.rec"]
    for name in names:
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_what_is_no_image_is_left_out_counted_and_listed(images: Path, tmp_path: Path) -> None:
    (images / "README").write_text("about")
    (images / "bob" / "notes.txt").write_text("about bob")
    (images / "bob" / "empty.jpg").write_bytes(b"")
    (images / "bob" / ".hidden").write_text("no image, and not counted")
    cut = (images / "zoe" / "0.png").read_bytes()[:20]
    (images / "nobody").mkdir()
    (images / "nobody" / "cut.png").write_bytes(cut)
    report = pack(images, tmp_path / "out", size=(64, 64), workers=1)
    # A folder without a usable image is no class.
    assert report.identities == ["alice", "bob", "zoe"]
    skipped = {path.name: reason for path, reason in report.skipped}
    assert skipped == {
        "README": "not in an identity's folder",
        "notes.txt": "no image that can be decoded",
        "empty.jpg": "no image that can be decoded",
        "cut.png": "no image that can be decoded",
    }
    table = _csv(tmp_path / "out" / "skipped.csv")
    assert table[0] == ["path", "reason"]
    assert [Path(path).name for path, _ in table[1:]] == [path.name for path, _ in report.skipped]
    with FaceDataset.open(tmp_path / "out") as dataset:
        assert (dataset.num_images, dataset.num_classes) == (9, 3)


def test_grey_images_become_rgb_of_the_size_asked_for(tmp_path: Path) -> None:
    _write(tmp_path / "in" / "a" / "1.pgm", np.tile(np.arange(92, dtype=np.uint8), (112, 1)))
    pack(tmp_path / "in", tmp_path / "out", size=(112, 96), workers=1)
    with FaceDataset.open(tmp_path / "out") as dataset:
        decoded = decode_image(dataset.payload(0))
    assert decoded is not None
    assert decoded.shape == (112, 96, 3)
    assert np.ptp(decoded.astype(int), axis=2).max() == 0


def test_folders_within_an_identity_and_linked_ones_belong_to_it(images: Path, tmp_path: Path) -> None:
    _write(images / "bob" / "2019" / "7.png", render_face(0, 7, size=64))
    (images / "linked").symlink_to(images / "alice", target_is_directory=True)
    files, strays = find_images(images)
    assert not strays
    assert [path.name for name, path in files if name == "bob"] == ["0.png", "1.png", "2.png", "7.png"]
    assert sum(name == "linked" for name, _ in files) == 3


def test_bad_folders_are_one_line_and_leave_nothing(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DatasetError, match="missing: no such folder"):
        pack(tmp_path / "missing", out)
    (tmp_path / "empty" / "someone").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no images in sub-folders"):
        pack(tmp_path / "empty", out)
    (tmp_path / "empty" / "someone" / "text.jpg").write_text("no image")
    with pytest.raises(DatasetError, match=r"none of 1 files could be used.*text\.jpg: no image"):
        pack(tmp_path / "empty", out)
    out.mkdir()
    (out / "mine").write_text("precious")
    with pytest.raises(DatasetError, match="out: already exists"):
        pack(images, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "images", "out"]
    assert [path.name for path in out.iterdir()] == ["mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_named(images: Path, tmp_path: Path) -> None:
    (images / "bob").chmod(0)
    try:
        with pytest.raises(DatasetError, match="bob: cannot be read: Permission denied"):
            pack(images, tmp_path / "out")
    finally:
        (images / "bob").chmod(0o755)


@pytest.mark.real_faces
def test_att_faces_are_packed(shared_data: Path, tmp_path: Path) -> None:
    report = pack(shared_data / "att_faces", tmp_path / "att", workers=2)
    assert (report.num_images, len(report.identities)) == (400, 40)
    assert [path.name for path, _ in report.skipped] == ["README"]
    with FaceDataset.open(tmp_path / "att") as dataset:
        assert dataset.class_counts().tolist() == [10] * 40


@pytest.mark.mtcnn
@pytest.mark.real_faces
def test_faceless_images_are_left_out_when_aligning(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "lfw" / "images" / "Abel_Pacheco"
    folder = tmp_path / "in" / "Abel_Pacheco"
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir())[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    _write(folder / "wall.png", np.full((150, 150, 3), 90, dtype=np.uint8))
    report = pack(tmp_path / "in", tmp_path / "out", align="mtcnn", workers=1)
    assert report.num_images == 3
    assert [(path.name, reason) for path, reason in report.skipped] == [("wall.png", "no face found")]


def test_a_jpeg_without_its_lower_half_is_left_out(tmp_path: Path) -> None:
    """libjpeg fills in grey where the data end, even if an end marker was put behind."""
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 256, (14, 14, 3), dtype=np.uint8), (112, 112))
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    (tmp_path / "images" / "a").mkdir(parents=True)
    files = {
        "behind": whole[:-2] + b"\0" * 9 + whole[-2:],
        "cut": whole[: len(whole) // 2] + b"\xff\xd9",
        "whole": whole,
    }
    for name, content in files.items():
        (tmp_path / "images" / "a" / f"{name}.jpg").write_bytes(content)
    report = pack(tmp_path / "images", tmp_path / "out", workers=1)
    assert report.num_images == 2
    assert [(path.name, reason) for path, reason in report.skipped] == [
        ("cut.jpg", "libjpeg says: Corrupt JPEG data: premature end of data segment")
    ]

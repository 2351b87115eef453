from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import FaceDataset
from data_pipeline.errors import DatasetError, PairSetError
from data_pipeline.pack.pack import pack
from data_pipeline.pack.unpack import unpack_pairs, unpack_records
from data_pipeline.pairs import PairSet, build_pairs, read_bin, write_bin
from data_pipeline.rendered import render_face


def _jpeg(identity: int, view: int, suffix: str = ".jpg", size: int = 64) -> bytes:
    return cv2.imencode(suffix, render_face(identity, view, size=size)[..., ::-1])[1].tobytes()


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_bin_becomes_files_and_the_same_bin_again(tmp_path: Path) -> None:
    images = [_jpeg(pair // 2, pair % 2, ".png" if pair % 5 == 0 else ".jpg") for pair in range(24)]
    write_bin(tmp_path / "set.bin", PairSet(images, [True, False] * 6))
    report = unpack_pairs(tmp_path / "set.bin", tmp_path / "files")
    assert (report.num_images, report.num_groups) == (24, 12)
    rows = (tmp_path / "files" / "pairs.txt").read_text().splitlines()
    assert rows[:2] == ["images/00_a.png images/00_b.jpg 1", "images/01_a.jpg images/01_b.jpg 0"]
    assert (tmp_path / "files" / "images" / "00_b.jpg").read_bytes() == images[1]
    build_pairs(tmp_path / "files" / "pairs.txt", tmp_path / "files", tmp_path / "again.bin", size=(64, 64))
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "set.bin").read_bytes()


@pytest.mark.real_faces
def test_glints_pairs_go_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    unpack_pairs(shared_data / "glint4.bin", tmp_path / "files")
    report = build_pairs(
        tmp_path / "files" / "pairs.txt", tmp_path / "files", tmp_path / "again.bin", workers=1
    )
    assert report.num_pairs == 600
    before, after = read_bin(shared_data / "glint4.bin"), read_bin(tmp_path / "again.bin")
    assert (before.images, before.same) == (after.images, after.same)


def _packed(tmp_path: Path) -> Path:
    for identity, name in enumerate(("bob", "ann", "zoe b")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for view in range(11):
            (tmp_path / "images" / name / f"{view}.jpg").write_bytes(_jpeg(identity, view))
    pack(tmp_path / "images", tmp_path / "set", size=(64, 64), workers=1)
    return tmp_path / "set"


def test_a_record_folder_becomes_files_and_the_same_folder_again(tmp_path: Path) -> None:
    packed = _packed(tmp_path)
    report = unpack_records(packed, tmp_path / "files")
    assert (report.num_images, report.num_groups, report.damaged) == (33, 3, [])
    assert [path.name for path in sorted((tmp_path / "files").iterdir())] == ["ann", "bob", "zoe b"]
    # Packed byte for byte, unpacked byte for byte.
    original = (tmp_path / "images" / "ann" / "0.jpg").read_bytes()
    assert original in [path.read_bytes() for path in (tmp_path / "files" / "ann").iterdir()]
    pack(tmp_path / "files", tmp_path / "again", size=(64, 64), workers=1)
    assert _hashes(tmp_path / "again") == _hashes(packed)


@pytest.mark.parametrize(
    "table", ["", "class,folder\n0,../up\n1,b\n2,c\n", "class,folder\n0,b\n1,a\n2,c\n", "0\n" * 4]
)
def test_names_that_cannot_be_used_become_numbers(tmp_path: Path, table: str) -> None:
    packed = _packed(tmp_path)
    (packed / "identities.csv").write_text(table)
    unpack_records(packed, tmp_path / "files")
    assert [path.name for path in sorted((tmp_path / "files").iterdir())] == ["0", "1", "2"]


@pytest.mark.real_faces
def test_glint16_goes_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    unpack_records(shared_data / "glint16", tmp_path / "files")
    pack(tmp_path / "files", tmp_path / "again", workers=2)
    with FaceDataset.open(shared_data / "glint16") as before, FaceDataset.open(tmp_path / "again") as after:
        assert np.array_equal(before.labels, after.labels)
        assert all(bytes(before.payload(i)) == bytes(after.payload(i)) for i in range(before.num_images))


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    packed = _packed(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine").write_text("precious")
    with pytest.raises(DatasetError, match="files: already exists"):
        unpack_records(packed, tmp_path / "files")
    with pytest.raises(PairSetError):
        unpack_pairs(packed / "property", tmp_path / "new")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "images", "set"]

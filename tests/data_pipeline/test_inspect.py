from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, write_dataset
from data_pipeline.inspect import inspect_dataset


def jpeg(size: tuple[int, int] = (20, 16)) -> bytes:
    return cv2.imencode(".jpg", np.full((*size, 3), 90, dtype=np.uint8))[1].tobytes()


def make(folder: Path, images: list[tuple[int, bytes]], classes: int = 5) -> Path:
    write_dataset(folder / "set", images, classes, (20, 16))
    return folder / "set"


def test_a_sound_folder(tmp_path: Path) -> None:
    counts = [1, 9, 2, 3, 0]
    folder = make(tmp_path, [(label, jpeg()) for label, count in enumerate(counts) for _ in range(count)])
    report = inspect_dataset(folder)
    assert (report.num_images, report.num_classes, report.image_size) == (15, 5, (20, 16))
    assert report.sizes == {(20, 16): 15}
    assert report.images_per_identity == {0: 1, 1: 1, 2: 1, 3: 1, 9: 1}
    assert report.damaged == ()
    text = report.render()
    assert "damaged records: none" in text
    rows = [line.split() for line in text.splitlines() if line.endswith("#")]
    assert [row[:2] for row in rows] == [["0", "1"], ["1", "1"], ["2-3", "2"], ["8-15", "1"]]
    assert json.loads(json.dumps(report.to_json()))["images_per_identity"] == {
        "0": 1,
        "1": 1,
        "2": 1,
        "3": 1,
        "9": 1,
    }


def test_damaged_images_are_listed(tmp_path: Path) -> None:
    whole = jpeg()
    images = [(0, whole), (0, whole[:40]), (1, b""), (1, whole), (2, jpeg((30, 16))), (3, whole), (4, whole)]
    folder = make(tmp_path, images)
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(index) for index in range(7)]
    with (folder / "train.rec").open("r+b") as file:
        # The fourth image's header promises more labels than its record has bytes.
        file.seek(offsets[5] + 8)
        file.write(struct.pack("<I", 1 << 30))
    (folder / "property").write_text("5,20,16")
    with pytest.raises(Exception, match="too short for its labels"):
        inspect_dataset(folder)
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offsets[5] + 8)
        file.write(struct.pack("<I", 0))
    report = inspect_dataset(folder, num_threads=1)
    found = [(record.key, record.offset, record.label, record.reason) for record in report.damaged]
    assert found == [
        (2, offsets[1], 0, "the image cannot be decoded"),
        (3, offsets[2], 1, "the record holds no image"),
        (5, offsets[4], 2, "30 x 16 pixels, but 20 x 16 are stated"),
    ]
    assert report.sizes == {(20, 16): 4, (30, 16): 1}
    assert f"record 2 at byte {offsets[1]}, class 0: the image cannot be decoded" in report.render()
    assert report.to_json()["damaged"][1] == {
        "key": 3, "offset": offsets[2], "class": 1, "reason": "the record holds no image",
    }  # fmt: skip


def test_a_damaged_record_inside_a_range_is_listed(tmp_path: Path) -> None:
    folder = make(tmp_path, [(0, jpeg())] * 3, classes=1)
    with FaceDataset.open(folder) as dataset:
        offset = dataset.offset(1)
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offset)
        file.write(b"junk")
    (damaged,) = inspect_dataset(folder).damaged
    assert (damaged.key, damaged.offset, damaged.label) == (2, offset, 0)
    assert "no record starts here" in damaged.reason


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    folder = make(tmp_path, [(0, b"no image")] * 25, classes=1)
    report = inspect_dataset(folder)
    assert len(report.to_json()["damaged"]) == 25
    assert report.render().endswith("and 5 more")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        inspect_dataset(tmp_path / "none")


@pytest.mark.real_faces
def test_real_faces(shared_data: Path) -> None:
    report = inspect_dataset(shared_data / "glint16")
    assert (report.num_images, report.num_classes, report.damaged) == (3678, 16, ())
    assert report.sizes == {(112, 112): 3678}

"""Records of real faces as the field's tools hand them out: ten people, eight faces each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline import FaceDataset, RecordWriter
from data_pipeline.inspection.inspect import inspect_dataset
from tests.data_pipeline.people import (
    FACES,
    PEOPLE,
    ten_people,
    with_identity_records,
    without_lines,
    write_records,
)

pytestmark = pytest.mark.real_faces
LABELS = [place // FACES for place in range(PEOPLE * FACES)]


@pytest.fixture
def faces(shared_data: Path) -> list[bytes]:
    return ten_people(shared_data)


def expect_ten_people(folder: Path, labels: list[int], faces: list[bytes]) -> None:
    with FaceDataset.open(folder) as dataset:
        assert (dataset.num_images, dataset.num_classes, dataset.image_size) == (80, 10, (112, 112))
        assert dataset.labels.tolist() == labels
        assert [bytes(dataset.payload(index)) for index in range(80)] == faces
        assert dataset.uniform
    report = inspect_dataset(folder, num_threads=1, depth="headers")
    assert (report.num_images, report.num_classes, report.damaged, report.refusal) == (80, 10, (), None)
    assert report.class_counts.tolist() == [FACES] * PEOPLE


@pytest.mark.parametrize(
    "stated",
    ["10,112,112\n80\n", "10,112,112\n80\n8\n1\n", "10,112,112,80", "10,112,112,", "\ufeff10,112,112"],
)
def test_property_as_tools_write_it(tmp_path: Path, faces: list[bytes], stated: str) -> None:
    write_records(tmp_path, with_identity_records(LABELS, faces))
    (tmp_path / "property").write_text(stated, encoding="utf-8")
    expect_ten_people(tmp_path, LABELS, faces)


@pytest.mark.parametrize("stated", [True, False])
def test_identity_records_of_an_unsorted_list(tmp_path: Path, faces: list[bytes], stated: bool) -> None:
    order = np.random.default_rng(0).permutation(80)
    labels = [LABELS[place] for place in order]
    shuffled = [faces[place] for place in order]
    records = with_identity_records(labels, shuffled)
    assert len(records) - 81 > 60, "runs"
    write_records(tmp_path, records)
    if stated:
        (tmp_path / "property").write_text("10,112,112")
    expect_ten_people(tmp_path, labels, shuffled)


@pytest.mark.parametrize("stated", [True, False])
def test_one_person_who_comes_twice(tmp_path: Path, faces: list[bytes], stated: bool) -> None:
    order = [*range(4, 80), *range(4)]
    labels = [LABELS[place] for place in order]
    write_records(tmp_path, with_identity_records(labels, [faces[place] for place in order]))
    if stated:
        (tmp_path / "property").write_text("10,112,112")
    expect_ten_people(tmp_path, labels, [faces[place] for place in order])


@pytest.mark.parametrize("ids", ["all 0", "keys"])
def test_the_header_record_last(tmp_path: Path, faces: list[bytes], ids: str) -> None:
    header, *rest = with_identity_records(LABELS, faces)
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as out:
        for key, label, payload in [*rest, header]:
            out.write(key, label=label, id=0 if ids == "all 0" else key, payload=payload)
    (tmp_path / "train.idx").unlink()
    expect_ten_people(tmp_path, LABELS, faces)


def test_a_promised_key_that_is_missing_is_one_damaged_image(tmp_path: Path, faces: list[bytes]) -> None:
    write_records(tmp_path, with_identity_records(LABELS, faces))
    without_lines(tmp_path / "train.idx", [41])
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.num_classes) == (80, 10)
        assert dataset.labels.tolist() == LABELS
    report = inspect_dataset(tmp_path, num_threads=1)
    assert [(found.origin.key, found.origin.label) for found in report.damaged] == [(41, 5)]
    assert "no such key" in report.damaged[0].reason

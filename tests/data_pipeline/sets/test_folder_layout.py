"""Record folders as they are handed out: unsorted, without an index, with keys missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, GlobalOrder, RecordError, RecordWriter, TrainLoader
from data_pipeline.inspection.inspect import inspect_dataset
from tests.data_pipeline.people import with_identity_records, without_lines, write_records

SIZE = (24, 20)
SORTED = [label for label in range(5) for _ in range(4)]
UNSORTED = np.random.default_rng(0).permutation(SORTED).tolist()
ONE_COMES_TWICE = [*SORTED, 1, 1]


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def images(count: int) -> list[bytes]:
    return [jpeg(seed) for seed in range(count)]


# ---- identity records that are runs of an unsorted list ----


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("labels", [UNSORTED, ONE_COMES_TWICE])
def test_runs_of_an_unsorted_list_are_no_identities(tmp_path: Path, labels: list[int], stated: bool) -> None:
    records = with_identity_records(labels, images(len(labels)))
    assert len(records) > 1 + len(labels) + 5, "more runs than people"
    write_records(tmp_path, records)
    if stated:
        (tmp_path / "property").write_text("5,24,20")
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_classes, dataset.num_images) == (5, len(labels))
        assert dataset.labels.tolist() == labels


def test_a_class_without_images_has_its_identity_record(tmp_path: Path) -> None:
    records = with_identity_records(SORTED, images(20))
    header, rest = records[0], records[1:]
    assert header[1] == [21.0, 26.0]
    write_records(tmp_path, [(0, [21.0, 27.0], b""), *rest, (26, [21.0, 21.0], b"")])
    with FaceDataset.open(tmp_path) as dataset:
        assert dataset.class_counts().tolist() == [4, 4, 4, 4, 4, 0]


# ---- keys that are promised and missing ----


REASON = "the header record promises this image, but the index has no such key"


def place(folder: Path, key: int, label: int) -> str:
    return f"{folder / 'train.rec'}: record {key} of class {label}"


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("missing", [[1], [6], [8], [20], [5, 6, 7], [9, 10, 11, 12]])
def test_a_missing_key_is_a_damaged_image_of_its_identity(
    tmp_path: Path, missing: list[int], indexed: bool
) -> None:
    records = with_identity_records(SORTED, images(20))
    write_records(tmp_path, [record for record in records if record[0] not in missing])
    if not indexed:
        (tmp_path / "train.idx").unlink()
    with FaceDataset.open(tmp_path) as dataset:
        assert dataset.labels.tolist() == SORTED
        assert dataset.keys.tolist() == list(range(1, 21))
        for index in range(20):
            if index + 1 not in missing:
                assert bytes(dataset.payload(index)) == jpeg(index)
                continue
            assert dataset.offset(index) == -1
            assert str(dataset.origin(index)) == place(tmp_path, index + 1, SORTED[index])
            with pytest.raises(RecordError, match=r"train\.rec: the header record promises"):
                dataset.payload(index)
        with pytest.raises(RecordError, match=r"train\.rec: the header record promises"):
            dataset.payloads(np.arange(20))


def test_a_missing_identity_record_takes_nobody_with_it(tmp_path: Path) -> None:
    records = with_identity_records(SORTED, images(20))
    write_records(tmp_path, [record for record in records if record[0] != 23])
    with FaceDataset.open(tmp_path) as dataset:
        assert dataset.labels.tolist() == SORTED
        assert dataset.num_classes == 5


def test_a_missing_key_of_a_shuffled_set(tmp_path: Path) -> None:
    """Its header names no identity records: the class of the image before is the likeliest."""
    labels = [0, 0, 1, 1, 2, 2]
    records = [(place + 1, float(label), jpeg(place)) for place, label in enumerate(labels)]
    write_records(tmp_path, [(0, [7.0, 7.0], b""), *records[:3], *records[4:]])
    with FaceDataset.open(tmp_path) as dataset:
        assert dataset.keys.tolist() == [1, 2, 3, 5, 6, 4]
        assert dataset.labels.tolist() == [0, 0, 1, 2, 2, 1]
        assert dataset.offset(5) == -1


def test_missing_images_are_replaced_named_counted_and_inspected(tmp_path: Path) -> None:
    write_records(tmp_path, with_identity_records(SORTED, images(20)))
    without_lines(tmp_path / "train.idx", [7])
    (tmp_path / "property").write_text("5,24,20")
    with (
        FaceDataset.open(tmp_path) as dataset,
        TrainLoader(
            dataset, GlobalOrder(20, seed=1), batch_size=20, max_damaged=0.05, decoder="opencv"
        ) as loader,
    ):
        batch = next(iter(loader))
        assert 6 not in batch.indices
        assert len(set(batch.indices.tolist())) == 19
        assert [loader.damaged.describe(index) for index in loader.damaged.reasons] == [
            f"{place(tmp_path, 7, 1)}: {REASON}"
        ]
    report = inspect_dataset(tmp_path, num_threads=1)
    assert [str(found) for found in report.damaged] == [f"{place(tmp_path, 7, 1)}: {REASON}"]
    assert report.refusal is None
    assert report.to_json()["damaged"][0]["offset"] is None


def test_most_keys_missing_is_another_index(tmp_path: Path) -> None:
    write_records(tmp_path, with_identity_records(SORTED, images(20)))
    without_lines(tmp_path / "train.idx", range(5, 16))
    with pytest.raises(DatasetError, match=r"promises images 1 to 20 .*key 5 is not in .*nor are 10 others"):
        FaceDataset.open(tmp_path)


# ---- a header record that is not the first ----


def test_the_header_last_and_all_ids_0_without_an_index(tmp_path: Path) -> None:
    header, *rest = with_identity_records(SORTED, images(20))
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as out:
        for key, label, payload in [*rest, header]:
            out.write(key, label=label, id=0, payload=payload)
    (tmp_path / "train.idx").unlink()
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.num_classes) == (20, 5)
        assert [bytes(dataset.payload(index)) for index in range(20)] == images(20)

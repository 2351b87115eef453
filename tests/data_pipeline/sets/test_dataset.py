from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import (
    DataInputError,
    DatasetError,
    FaceDataset,
    FaceDatasetWriter,
    RecordReader,
    RecordWriter,
    write_dataset,
)

SIZE = (20, 16)


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def faces(labels: list[int]) -> list[tuple[int, bytes]]:
    return [(label, jpeg(place)) for place, label in enumerate(labels)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes 0 to 4 with 2, 0, 1, 3, 0 images."""
    write_dataset(tmp_path / "set", faces([3, 0, 2, 3, 0, 3]), 5, SIZE)
    return tmp_path / "set"


def rewrite(folder: Path, change: Callable[[int, list[float] | float], list[float] | float | None]) -> None:
    """Write the folder's records again with other labels; None leaves a record out."""
    with RecordReader(folder / "train.rec", folder / "train.idx") as records:
        entries = [(key, records[key]) for key in list(records.keys())]
    with RecordWriter(folder / "train.rec", folder / "train.idx") as out:
        for key, record in entries:
            label = record.label if isinstance(record.label, float) else record.label.tolist()
            changed = change(key, label)
            if changed is not None:
                out.write(key, label=changed, id=record.id, payload=record.payload)


def test_written_folder_is_read_back(folder: Path) -> None:
    with FaceDataset.open(folder) as dataset:
        assert (dataset.num_images, dataset.num_classes, dataset.image_size) == (6, 5, SIZE)
        assert (dataset.labels.dtype, dataset.keys.dtype) == (np.int32, np.int64)
        assert dataset.labels.tolist() == [0, 0, 2, 3, 3, 3]
        assert dataset.keys.tolist() == [1, 2, 3, 4, 5, 6]
        assert dataset.class_counts().tolist() == [2, 0, 1, 3, 0]
        expected = [jpeg(place) for place in (1, 4, 2, 0, 3, 5)]
        assert [bytes(dataset.payload(index)) for index in range(6)] == expected
        assert [bytes(view) for view in dataset.payloads(np.array([5, 0]))] == [expected[5], expected[0]]
    with RecordReader(folder / "train.rec", folder / "train.idx") as records:
        header, identity = records[0], records[10]
        assert (header.label.tolist(), header.payload) == ([7.0, 12.0], b"")  # type: ignore[union-attr]
        assert identity.label.tolist() == [4.0, 7.0]  # type: ignore[union-attr]
    assert (folder / "property").read_text() == "5,20,16\n"
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_index_may_be_missing(folder: Path) -> None:
    (folder / "train.idx").unlink()
    with FaceDataset.open(folder) as dataset:
        assert dataset.labels.tolist() == [0, 0, 2, 3, 3, 3]


def test_property_may_be_missing(folder: Path) -> None:
    (folder / "property").unlink()
    with FaceDataset.open(folder) as dataset:
        assert (dataset.num_classes, dataset.image_size) == (5, SIZE)


def test_plain_records_in_any_order(tmp_path: Path) -> None:
    labels = [2.0, 0.0, [1.0, 7.5], 0.0]
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as out:
        for place, label in enumerate(labels):
            out.write(10 - place, label=label, id=place, payload=jpeg(place))  # type: ignore[arg-type]
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.num_classes, dataset.image_size) == (4, 3, SIZE)
        assert dataset.labels.tolist() == [2, 0, 1, 0]
        assert dataset.keys.tolist() == [10, 9, 8, 7]
        assert bytes(dataset.payload(2)) == jpeg(2)


def test_shuffled_folder_without_identity_records(folder: Path) -> None:
    rewrite(folder, lambda key, label: [7.0, 7.0] if key == 0 else label if key < 7 else None)
    with FaceDataset.open(folder) as dataset:
        assert dataset.labels.tolist() == [0, 0, 2, 3, 3, 3]
        assert dataset.keys.tolist() == [1, 2, 3, 4, 5, 6]


def test_labels_are_read_one_by_one_where_the_ranges_leave_gaps(folder: Path) -> None:
    shuffled = {1: 3.0, 2: 0.0, 3: 2.0, 4: 3.0, 5: 0.0, 6: 3.0}
    rewrite(folder, lambda key, label: shuffled.get(key, [1.0, 1.0] if key > 6 else label))
    with FaceDataset.open(folder) as dataset:
        assert dataset.labels.tolist() == [3, 0, 2, 3, 0, 3]


def test_split_payload(tmp_path: Path) -> None:
    magic = (0xCED7230A).to_bytes(4, "little")
    payload = magic + b"face" + magic
    write_dataset(tmp_path / "set", [(0, payload), (0, b"plain")], 1, SIZE)
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert [bytes(view) for view in dataset.payloads(np.array([0, 1]))] == [payload, b"plain"]


def test_writer_refuses_what_is_wrong(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DatasetError, match="already exists"):
        FaceDatasetWriter(folder, 5, SIZE)
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        write_dataset(tmp_path / "new", faces([0, 2]), 2, SIZE)
    with pytest.raises(DatasetError, match="classes must be between"):
        FaceDatasetWriter(tmp_path / "new", 0, SIZE)
    writer = FaceDatasetWriter(tmp_path / "new", 2, SIZE)
    writer.add(1, b"x")
    with pytest.raises(ValueError, match="ascending order, got 0 after 1"):
        writer.add(0, b"x")
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def break_property(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "property").write_text(text) and None


def relabel(key: int, label: float | list[float]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda at, old: label if at == key else old)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (shutil.rmtree, r"set: no such folder"),
    "no record file": (lambda folder: (folder / "train.rec").unlink(), r"holds no train\.rec"),
    "property is no list": (break_property("a,b"), r"property: three whole numbers"),
    "absurdly many classes": (break_property(f"{10**18},20,16"), r"property: at most \d+ classes"),
    "absurdly many pixels": (break_property(f"5,20,{1 << 16}"), r"property: at most .* pixels a side"),
    "property of two": (break_property("5,20"), r"property: three whole numbers"),
    "property below 1": (break_property("5,0,16"), r"property: three whole numbers"),
    "too few classes": (break_property("4,20,16"), r"property: says 4 classes.*5 identity records"),
    "too many classes": (break_property("6,20,16"), r"property: says 6 classes.*5 identity records"),
    "label beyond": (relabel(3, 5.0), r"train\.rec: record 3 at byte \d+: label 5, but .* 5 classes"),
    "label not whole": (relabel(3, 1.5), r"record 3 at byte \d+: label 1\.5; a whole number"),
    "label negative": (relabel(3, -1.0), r"record 3 at byte \d+: label -1; a whole number"),
    "label no number": (relabel(3, float("nan")), r"record 3 at byte \d+: label nan; a whole number"),
    "two labels in a range": (relabel(6, 1.0), r"record 10 .*images 4 and 6 .* labels 3 and 1"),
    "range beyond": (relabel(8, [3.0, 90.0]), r"record 8 .*\[3, 90\] does not lie"),
    "no identity record": (relabel(8, 1.0), r"record 8 .*identity record with two labels is expected"),
    "promised images": (relabel(0, [7.0, 20.0]), r"promises images 1 to 6 .* key 12 is not"),
    "promised billions of images": (
        relabel(0, [1e7, 1.5e7]),
        r"promises images 1 to 9999999 .* key 12 is not",
    ),
    "promised below 0": (relabel(0, [-1e30, 5.0]), r"record 0 at byte 0: labels \[-1\S*e\+30, 5.0\]; "),
    "promised no number": (relabel(0, [float("nan"), 5.0]), r"record 0 at byte 0: labels \[nan, 5.0\]; "),
    "promised infinity": (relabel(0, [1.0, float("inf")]), r"record 0 at byte 0: labels \[1.0, inf\]; "),
    "range of no numbers": (relabel(8, [float("nan")] * 2), r"record 8 .*image range .* does not lie"),
    "no image": (lambda folder: rewrite(folder, lambda key, old: None), r"holds no image record"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_folders_are_refused_in_one_line(folder: Path, case: str) -> None:
    spoil, message = WRONG[case]
    spoil(folder)
    with pytest.raises(DatasetError, match=message) as caught:
        FaceDataset.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_truncated_records_are_refused(folder: Path) -> None:
    content = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataInputError, match=r"train\.rec: byte \d+: .*train\.idx"):
        FaceDataset.open(folder)


@pytest.mark.real_faces
@pytest.mark.parametrize(("name", "images", "classes"), [("fiw", 12305, 2523), ("glint16", 3678, 16)])
def test_real_folders(shared_data: Path, name: str, images: int, classes: int) -> None:
    with FaceDataset.open(shared_data / name) as dataset:
        assert (dataset.num_images, dataset.num_classes, dataset.image_size) == (images, classes, (112, 112))
        assert int(dataset.class_counts().min()) >= 1
        with RecordReader(dataset.file, dataset.file.with_suffix(".idx")) as reader:
            assert dataset.labels.tolist() == [reader[key].label for key in dataset.keys.tolist()]
        assert bytes(dataset.payload(images - 1)[:2]) == b"\xff\xd8"

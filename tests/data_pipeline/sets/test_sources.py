"""Sets that `--data.train` may name, alone and merged, and the tables that large ones leave behind."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, RecordError, RecordWriter, write_dataset
from data_pipeline.sets.image_folder import ImageFiles
from data_pipeline.sets.merged import MergedSource
from data_pipeline.sets.open import open_source
from data_pipeline.sets.source import ImageSource, Origin
from data_pipeline.sets.table import make_table
from data_pipeline.sets.table_store import read_table, stored_table, table_directory, write_table

SIZE = (20, 16)
LABELS = [3, 0, 2, 3, 0, 3]


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def contents(source: ImageSource) -> list[tuple[int, bytes]]:
    """Every image one by one: the oracle of what is read in batches."""
    found = []
    for index in range(source.num_images):
        one = np.array([index])
        found.append((int(source.labels_of(one)[0]), bytes(source.payloads(one)[0])))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes 0 to 4 with 2, 0, 1, 3, 0 images."""
    write_dataset(tmp_path / "set", [(label, jpeg(place)) for place, label in enumerate(LABELS)], 5, SIZE)
    return tmp_path / "set"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for place, name in enumerate(["b/2", "b/1", "a/x", "c/1", "c/2", "c/3"]):
        file = tmp_path / "images" / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(50 + place))
    return tmp_path / "images"


def test_several_record_files_are_one_set(tmp_path: Path) -> None:
    expected = []
    for shard in range(3):
        with RecordWriter(tmp_path / f"part{shard}.rec", tmp_path / f"part{shard}.idx") as out:
            for place in range(4):
                label = (shard + place) % 5
                expected.append((label, jpeg(10 * shard + place)))
                out.write(place, label=float(label), id=place, payload=expected[-1][1])
    (tmp_path / "part1.idx").unlink()
    (tmp_path / "property").write_text("6,20,16")
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.num_classes, dataset.image_size) == (12, 6, SIZE)
        assert contents(dataset) == expected
        order = np.array([11, 0, 5, 4, 8, 0])
        assert [bytes(view) for view in dataset.payloads(order)] == [expected[at][1] for at in order]
        assert dataset.origin(5) == Origin(tmp_path / "part1.rec", dataset.offset(5), 1, expected[5][0])
        _spoil(tmp_path / "part2.rec")
        with pytest.raises(RecordError, match=r"part2\.rec: byte 0: no record starts here"):
            dataset.payloads(order)
    with FaceDataset.open(tmp_path / "part0.rec") as dataset:
        assert contents(dataset) == expected[:4]


def _spoil(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"spoilt!!")


def test_small_classes_are_left_out(folder: Path, images: Path) -> None:
    with FaceDataset.open(folder) as dataset:
        everything = contents(dataset)
    for least, kept in ((1, [0, 2, 3]), (2, [0, 3]), (3, [3])):
        with FaceDataset.open(folder, min_images=least) as dataset:
            renamed = {label: place for place, label in enumerate(kept)}
            assert contents(dataset) == [(renamed[k], data) for k, data in everything if k in kept]
            assert dataset.num_classes == len(kept)
            assert int(dataset.class_counts().min()) >= least
    with pytest.raises(DatasetError, match=r"no identity has 4 images or more, the most are 3"):
        FaceDataset.open(folder, min_images=4)
    assert contents(ImageFiles(images, min_images=2)) == [
        (0, jpeg(51)), (0, jpeg(50)), (1, jpeg(53)), (1, jpeg(54)), (1, jpeg(55)),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="no identity has 4 images"):
        ImageFiles(images, min_images=4)


def test_a_folder_of_images_is_a_set(images: Path) -> None:
    source = open_source([images])
    assert isinstance(source, ImageFiles)
    assert (source.num_images, source.num_classes, source.image_size, source.uniform) == (6, 3, SIZE, True)
    assert contents(source) == [
        (0, jpeg(52)),
        *((1, jpeg(51 - k)) for k in (0, 1)),
        *((2, jpeg(53 + k)) for k in range(3)),
    ]
    assert source.origin(2) == Origin(images / "b" / "2.jpg", 0, 2, 1)
    (images / "c" / "4.jpg").write_bytes(jpeg(1, (30, 30)))
    mixed = ImageFiles(images)
    assert (mixed.uniform, mixed.image_size) == (False, (112, 112))
    (images / "a" / "x.jpg").unlink()
    with pytest.raises(RecordError, match=r"x\.jpg: byte 0: cannot be opened as an image: No such file"):
        source.payloads(np.array([1, 0]))
    os.mkfifo(images / "a" / "x.jpg")  # must not be waited for
    with pytest.raises(RecordError, match="no ordinary file"):
        ImageFiles(images).payloads(np.array([0]))


def test_merged_sets_have_their_classes_one_after_the_other(folder: Path, images: Path) -> None:
    source = open_source([folder, images, folder])
    assert isinstance(source, MergedSource)
    with FaceDataset.open(folder) as dataset:
        first = contents(dataset)
    second = contents(ImageFiles(images))
    expected = [*first, *((5 + label, data) for label, data in second), *((8 + k, data) for k, data in first)]
    assert (source.num_images, source.num_classes, source.uniform) == (18, 13, True)
    assert contents(source) == expected
    order = np.array([17, 6, 0, 11, 12, 5, 6])
    assert source.labels_of(order).tolist() == [expected[at][0] for at in order]
    assert [bytes(view) for view in source.payloads(order)] == [expected[at][1] for at in order]
    assert source.class_counts().tolist() == [2, 0, 1, 3, 0, 1, 2, 3, 2, 0, 1, 3, 0]
    assert source.origin(6) == Origin(images / "a" / "x.jpg", 0, 0, 5)
    source.close()


def test_wrong_names_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        open_source([folder, tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"holds no train\.rec"):
        open_source([tmp_path / "empty"])
    with pytest.raises(DatasetError, match="no training set"):
        open_source([])


def test_rendered_identities_are_a_set(folder: Path) -> None:
    source = open_source([folder, "rendered:7x3,quick,size=20"], min_images=3)
    assert (source.num_images, source.num_classes) == (3 + 21, 1 + 7)
    assert source.labels_of(np.array([0, 3, 23])).tolist() == [0, 1, 7]
    assert bytes(source.payloads(np.array([23]))[0][:2]) == b"\xff\xd8"
    with pytest.raises(DatasetError, match=r"3 images each, fewer than data\.min-images 4"):
        open_source(["rendered:7x3"], min_images=4)


def test_a_pickled_set_opens_itself_again(folder: Path, images: Path) -> None:
    source = open_source([folder, images], min_images=2)
    assert contents(pickle.loads(pickle.dumps(source))) == contents(source)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSFACE_CACHE", str(tmp_path / "cache"))
    return table_directory()


def table(images: int, largest_key: int = 9):  # type: ignore[no-untyped-def]
    place = np.arange(images) << 3
    return make_table([(place, place % 7, np.full(images, largest_key))], 7, SIZE)


def test_a_table_comes_back_as_it_was_and_small(cache: Path) -> None:
    cache.mkdir(parents=True)
    for key, each in ((9, 16), ((1 << 32) - 1, 16), (1 << 32, 20)):
        written = table(1000, key)
        write_table(cache / "t.table", {"set": "x"}, written)
        found = read_table(cache / "t.table", {"set": "x"})
        assert found is not None
        for name in ("place", "label", "key"):
            assert np.array_equal(getattr(found, name), getattr(written, name))
        assert (found.num_classes, found.image_size) == (7, SIZE)
        assert (cache / "t.table").stat().st_size <= each * 1000 + 512
    assert read_table(cache / "t.table", {"set": "y"}) is None
    assert read_table(cache / "none.table", {"set": "x"}) is None
    content = (cache / "t.table").read_bytes()
    for damaged in (
        content[:-1],
        content + b"x",
        content[:10],
        b"",
        b"\xff" * 100,
        content[:30] + content[31:],
    ):
        (cache / "t.table").write_bytes(damaged)
        assert read_table(cache / "t.table", {"set": "x"}) is None
    assert [path.name for path in cache.iterdir()] == ["t.table"]


def state(size: int = 1 << 30) -> dict[str, object]:
    return {"set": ["/data", 0], "files": [["/data/train.rec", size, 1]]}


def test_a_table_is_built_once_and_again_when_the_set_changes(cache: Path) -> None:
    built = []

    def build():  # type: ignore[no-untyped-def]
        built.append(1)
        return table(500)

    for _ in range(3):
        assert len(stored_table(state(), build, persisted_from=500)) == 500
    assert len(built) == 1
    stored_table(state(2 << 30), build, persisted_from=500)
    assert len(built) == 2
    assert len(list(cache.glob("*.table"))) == 1
    stored_table(state(), build, persisted_from=501)
    stored_table(state(), build, persisted_from=501)
    assert len(built) == 4


def test_where_nothing_can_be_written_tables_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COSFACE_CACHE", str(tmp_path / "file"))
    assert len(stored_table(state(), lambda: table(500), persisted_from=500)) == 500


def _open_slowly(folder: Path, log: Path) -> None:
    def build():  # type: ignore[no-untyped-def]
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return table(500)

    assert len(stored_table(state(), build, persisted_from=500)) == 500


def test_one_process_builds_and_the_others_wait(cache: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_open_slowly, args=(tmp_path, tmp_path / "log")) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    assert len((tmp_path / "log").read_text().split()) == 1


def test_a_large_set_is_opened_from_its_table(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_pipeline.sets.record_folder.stored_table", _always_persisting)
    with FaceDataset.open(folder) as dataset:
        expected = contents(dataset)
        assert isinstance(dataset.labels.base, np.ndarray) or not dataset.labels.flags.owndata
    assert len(list(cache.glob("*.table"))) == 1
    monkeypatch.setattr("data_pipeline.sets.record_folder.read_record_table", None)
    with FaceDataset.open(folder) as dataset:
        assert contents(dataset) == expected


def _always_persisting(state, build):  # type: ignore[no-untyped-def]
    return stored_table(state, build, persisted_from=0)


def test_identities_have_the_names_that_the_set_knows(folder: Path, images: Path, tmp_path: Path) -> None:
    assert ImageFiles(images).identity_names() == ["a", "b", "c"]
    assert ImageFiles(images, min_images=2).identity_names() == ["b", "c"]
    with FaceDataset.open(folder) as dataset:
        assert dataset.identity_names() is None  # no list
    assert open_source(["rendered:7x3"]).identity_names() is None
    (folder / "identities.csv").write_text("class,folder\n0,ann\n1,bo\n2,cy\n3,di\n4,ed\n")
    assert open_source([folder]).identity_names() == ["ann", "bo", "cy", "di", "ed"]
    assert open_source([folder], min_images=2).identity_names() == ["ann", "di"]
    merged = open_source([images, folder])
    assert merged.identity_names() == ["a", "b", "c", "ann", "bo", "cy", "di", "ed"]
    assert open_source([images, "rendered:7x3,size=20"]).identity_names() is None
    assert pickle.loads(pickle.dumps(merged)).identity_names() == merged.identity_names()


def test_a_damaged_record_does_not_hide_its_identity_name(folder: Path) -> None:
    (folder / "identities.csv").write_text("class,folder\n0,ann\n1,bo\n2,cy\n3,di\n4,ed\n")
    with FaceDataset.open(folder, min_images=2) as dataset:
        with (folder / "train.rec").open("r+b") as stream:
            stream.seek(dataset.offset(0))
            stream.write(b"spoilt!!")
        assert dataset.identity_names() == ["ann", "di"]


@pytest.mark.parametrize(
    "text",
    ["", "class,folder\n", "class,folder\n0,ann\n", "class,folder\nx,ann\n", "class\n0\n1\n2\n3\n4\n"]
    + ["class,folder\n" + "".join(f"{label},x\n" for label in labels) for labels in ("01233", "012345")],
)
def test_a_list_that_does_not_name_every_class_names_nobody(folder: Path, text: str) -> None:
    (folder / "identities.csv").write_text(text)
    with FaceDataset.open(folder) as dataset:
        assert dataset.identity_names() is None

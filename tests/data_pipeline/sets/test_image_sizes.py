"""Records of many sizes where no `property` states one: all are trained on, none is called damaged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, GlobalOrder, RecordWriter, TrainLoader
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.loader.loader import DecoderName
from data_pipeline.sets.image_sizes import size_to_train_at
from data_pipeline.sets.notes import notes_on
from data_pipeline.sets.open import open_source
from data_pipeline.sets.table_store import stored_table
from tests.data_pipeline.people import FACES, ten_people, write_records

DECODERS = ["opencv", pytest.param("dali", marks=pytest.mark.dali)]


def picture(seed: int, height: int, width: int, kind: str = ".png") -> bytes:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


def write(folder: Path, payloads: list[bytes]) -> Path:
    return write_records(folder, [(key, float(key % 2), payload) for key, payload in enumerate(payloads)])


def pixels(dataset: FaceDataset, decoder: DecoderName) -> dict[int, np.ndarray]:
    order, count = GlobalOrder(dataset.num_images, seed=0), dataset.num_images
    with TrainLoader(dataset, order, batch_size=count, max_damaged=0, decoder=decoder) as loader:
        batch = next(iter(loader))
        assert not len(loader.damaged)
        return dict(zip(batch.indices.tolist(), batch.images.numpy(), strict=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_other_size_among_many(tmp_path: Path, decoder: DecoderName) -> None:
    same = [picture(seed, 30, 28) for seed in range(400)]
    plain = write(tmp_path / "plain", same)
    mixed = write(tmp_path / "mixed", [*same[:333], picture(1000, 60, 56), *same[334:]])
    with FaceDataset.open(plain) as dataset:
        assert (dataset.uniform, dataset.image_size) == (True, (30, 28))
        expected = pixels(dataset, decoder)
    with FaceDataset.open(mixed) as dataset:
        assert (dataset.uniform, dataset.image_size) == (False, (30, 28))
        found = pixels(dataset, decoder)
    assert len(found) == 400
    for index in set(range(400)) - {333}:
        assert np.array_equal(found[index], expected[index]), "no pixel changes at its own size"
    assert inspect_dataset(mixed, num_threads=1).damaged == ()


def test_no_size_that_most_have(tmp_path: Path) -> None:
    sizes = [(40, 40), (50, 44), (112, 96)]
    write(tmp_path, [picture(seed, *sizes[seed % 3]) for seed in range(9)])
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.uniform, dataset.image_size) == (False, (112, 112))
        assert len(pixels(dataset, "opencv")) == 9


def test_a_stated_size_is_a_promise(tmp_path: Path) -> None:
    write(tmp_path, [picture(0, 30, 28), picture(1, 60, 56)])
    (tmp_path / "property").write_text("2,30,28")
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.uniform, dataset.image_size) == (True, (30, 28))


def test_damaged_images_have_no_say(tmp_path: Path) -> None:
    write(
        tmp_path, [b"", b"no image", *(picture(seed, 30, 28, ".jpg") for seed in range(4)), b"\xff\xd8\xff"]
    )
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.uniform, dataset.image_size) == (7, True, (30, 28))
    write(tmp_path, [b"", b"no image"])
    with pytest.raises(DatasetError, match=r"train\.rec: none of its images can be decoded"):
        FaceDataset.open(tmp_path)


def test_a_picture_that_is_shown_turned_has_the_size_it_is_shown_at(tmp_path: Path) -> None:
    plain = picture(0, 30, 20, ".jpg")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    write(tmp_path, [turned] * 3)
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.uniform, dataset.image_size) == (True, (20, 30))
        assert pixels(dataset, "opencv")[0].shape == (3, 20, 30)


def test_a_header_behind_the_first_page_is_found(tmp_path: Path) -> None:
    plain = picture(0, 30, 20, ".jpg")
    comment = b"\xff\xfe" + (60000).to_bytes(2, "big") + bytes(59998)
    write(tmp_path, [plain[:2] + comment + plain[2:]])
    with FaceDataset.open(tmp_path) as dataset:
        assert dataset.image_size == (30, 20)


def test_sizes_of_several_files_count_together_and_are_kept_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", 40), ("b", 50)):
        with RecordWriter(tmp_path / f"{name}.rec", tmp_path / f"{name}.idx") as out:
            for key in range(3 if name == "a" else 1):
                out.write(key, label=float(key), id=key, payload=picture(key, size, size))
    monkeypatch.setenv("COSFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "data_pipeline.sets.record_folder.stored_table",
        lambda state, build: stored_table(state, build, persisted_from=0),
    )
    for _ in range(2):
        with FaceDataset.open(tmp_path) as dataset:
            assert (dataset.uniform, dataset.image_size) == (False, (40, 40))
        monkeypatch.setattr("data_pipeline.sets.record_folder.read_record_table", None)
    assert len(list((tmp_path / "cache").rglob("*.table"))) == 1


def test_the_size_of_more_than_half() -> None:
    assert size_to_train_at(Counter({(30, 30): 2, (40, 40): 1}), Path("a")) == ((30, 30), False)
    assert size_to_train_at(Counter({(30, 30): 2, (40, 40): 2}), Path("a")) == ((112, 112), False)
    assert size_to_train_at(Counter({(30, 30): 2}), Path("a")) == ((30, 30), True)


@pytest.mark.real_faces
@pytest.mark.parametrize("decoder", DECODERS)
def test_real_faces_of_many_sizes(shared_data: Path, tmp_path: Path, decoder: DecoderName) -> None:
    faces = []
    for place, face in enumerate(ten_people(shared_data)):
        image = cv2.imdecode(np.frombuffer(face, np.uint8), cv2.IMREAD_COLOR)
        side = 64 + 7 * (place % 13)
        faces.append(cv2.imencode(".jpg", cv2.resize(image, (side, side + place % 5)))[1].tobytes())
    write_records(tmp_path, [(key, float(key // FACES), face) for key, face in enumerate(faces)])
    with FaceDataset.open(tmp_path) as dataset:
        assert (dataset.num_images, dataset.num_classes) == (80, 10)
        assert (dataset.uniform, dataset.image_size) == (False, (112, 112))
        assert {image.shape for image in pixels(dataset, decoder).values()} == {(3, 112, 112)}
    assert inspect_dataset(tmp_path, num_threads=1).damaged == ()


def test_a_note_says_what_is_done_with_them(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [picture(0, 30, 28)] * 2)
    many = write(tmp_path / "many", [picture(0, 30, 28)] * 3 + [picture(1, 60, 56)])
    assert notes_on(open_source([one])) == []
    told = "its images have more than one size, each is brought to 30 x 28; --data.image-size chooses another"
    assert notes_on(open_source([many])) == [f"{many}: {told}"]
    assert notes_on(open_source([one, many])) == [f"{one} + {many}: {told}"]

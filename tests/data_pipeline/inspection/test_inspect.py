from __future__ import annotations

import itertools
import json
import re
import struct
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, RecordWriter, write_dataset
from data_pipeline.commands import InspectOptions, inspect
from data_pipeline.errors import DataInputError, PairSetError
from data_pipeline.images.decode import decode_image
from data_pipeline.inspection.inspect import DatasetReport, inspect_dataset
from data_pipeline.inspection.text import render
from data_pipeline.loader.damaged import DamagedRecord
from data_pipeline.pairs import PairSet, write_bin
from data_pipeline.rendered import render_face, render_jpeg
from trainer.command_line import parse
from trainer.errors import TrainerInputError

UNREADABLE = "its image cannot be decoded: its JPEG header cannot be read: it ends early"


def picture(number: int, size: tuple[int, int] = (20, 16)) -> np.ndarray:
    coarse = np.random.default_rng(number).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def jpeg(number: int = 0, size: tuple[int, int] = (20, 16), quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", picture(number, size), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def png(image: np.ndarray, compression: int = 3) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes()


def make(folder: Path, images: list[tuple[int, bytes]], classes: int = 5) -> Path:
    write_dataset(folder / "set", images, classes, (20, 16))
    return folder / "set"


def unsorted(folder: Path, images: list[tuple[int, bytes]], classes: int) -> Path:
    """A folder of image records alone, in any order, as mxnet's im2rec writes it."""
    folder.mkdir()
    with RecordWriter(folder / "train.rec", folder / "train.idx") as out:
        for key, (label, payload) in enumerate(images):
            out.write(key, label=float(label), id=key, payload=payload)
    (folder / "property").write_text(f"{classes},20,16")
    return folder


def place(damaged: DamagedRecord) -> tuple[int, int, int]:
    return damaged.origin.key, damaged.origin.offset, damaged.origin.label


def test_a_sound_folder(tmp_path: Path) -> None:
    counts = [1, 9, 2, 3, 0]
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    images = [jpeg(number, quality=60 + number) for number in range(15)]
    report = inspect_dataset(make(tmp_path, list(zip(labels, images, strict=True))))
    assert (report.num_images, report.num_classes, report.image_size) == (15, 5, (20, 16))
    assert report.sizes == {(20, 16): 15}
    assert report.images_per_identity == {0: 1, 1: 1, 2: 1, 3: 1, 9: 1}
    assert report.damaged == report.other_labels == ()
    assert report.empty_classes.tolist() == [4]
    lengths = sorted(map(len, images))
    assert report.bytes_per_image == (lengths[0], lengths[7], lengths[-1])
    assert report.file_bytes == (tmp_path / "set" / "train.rec").stat().st_size
    text = render(report)
    assert "damaged records: none" in text
    assert "label gaps: 1 classes without an image: 4" in text
    assert "class order: rising" in text
    assert text.count("duplicates") == text.count(": none") - 1 == 2
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
    images = [
        (0, whole),
        (0, whole[:40]),
        (1, b""),
        (1, whole),
        (2, jpeg(0, (30, 16))),
        (3, whole),
        (4, whole),
    ]
    folder = make(tmp_path, images)
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(index) for index in range(7)]
    report = inspect_dataset(folder, num_threads=1)
    assert [(*place(record), record.reason) for record in report.damaged] == [
        (2, offsets[1], 0, UNREADABLE),
        (3, offsets[2], 1, "the record holds no image"),
        (5, offsets[4], 2, "30 x 16 pixels, but 20 x 16 are stated"),
    ]
    assert report.sizes == {(20, 16): 4, (30, 16): 1}
    assert f"train.rec: record 2 at byte {offsets[1]}, class 0: {UNREADABLE}" in render(report)
    assert report.to_json()["damaged"][1] == {
        "file": str(folder / "train.rec"), "key": 3, "offset": offsets[2], "class": 1,
        "reason": "the record holds no image",
    }  # fmt: skip


def test_a_folder_that_cannot_be_trained_on_is_read_record_by_record(tmp_path: Path) -> None:
    folder = make(tmp_path, [(number // 2, jpeg(number)) for number in range(10)])
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(index) for index in range(10)]
    with (folder / "train.rec").open("r+b") as file:
        # The first image of class 2 promises more labels than its record has bytes; class 4's second is junk.
        file.seek(offsets[4] + 8)
        file.write(struct.pack("<I", 1 << 30))
        file.seek(offsets[9])
        file.write(b"junk")
    report = inspect_dataset(folder)
    assert [place(record) for record in report.damaged] == [(5, offsets[4], -1), (10, offsets[9], -1)]
    assert "too short for its labels" in report.damaged[0].reason
    assert "no record starts here" in report.damaged[1].reason
    assert (report.num_images, report.class_counts.tolist()) == (10, [2, 2, 1, 2, 1])
    assert "cannot be opened for training" in render(report)
    assert "class unknown" in render(report)
    assert inspect(InspectOptions(folder)) == 1


@pytest.mark.parametrize("key", [0, 11, 15])
def test_a_damaged_header_or_identity_record_is_listed(key: int, tmp_path: Path) -> None:
    folder = make(tmp_path, [(number // 2, jpeg(number)) for number in range(10)])
    index = dict(tuple(map(int, line.split())) for line in (folder / "train.idx").read_text().splitlines())
    with (folder / "train.rec").open("r+b") as file:
        file.seek(index[key])
        file.write(b"junk")
    report = inspect_dataset(folder)
    assert [place(record) for record in report.damaged] == [(key, index[key], -1)]
    assert report.class_counts.tolist() == [2] * 5


def test_a_label_from_damage_makes_no_large_array(tmp_path: Path) -> None:
    folder = make(tmp_path, [(number // 2, jpeg(number)) for number in range(10)])
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(index) for index in range(10)]
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offsets[3] + 12)
        file.write(struct.pack("<f", 1e12))
        file.seek(offsets[5])
        file.write(b"junk")
    for stated in (True, False):
        if not stated:
            (folder / "property").unlink()
        report = inspect_dataset(folder)
        assert report.num_classes == 5
        assert report.class_counts.tolist() == [2, 1, 1, 2, 2]


def test_a_damaged_record_inside_a_range_is_listed(tmp_path: Path) -> None:
    folder = make(tmp_path, [(0, jpeg())] * 3, classes=1)
    with FaceDataset.open(folder) as dataset:
        offset = dataset.offset(1)
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offset)
        file.write(b"junk")
    (damaged,) = inspect_dataset(folder).damaged
    assert place(damaged) == (2, offset, 0)
    assert "no record starts here" in damaged.reason


@pytest.mark.parametrize("depth", ["pixels", "headers"])
def test_images_cut_off_anywhere_are_damaged(
    depth: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, other = jpeg(1, (20, 16)), png(picture(2))
    cuts = [(0, whole[:length]) for length in range(0, len(whole), 7)]
    cuts += [(0, other[:length]) for length in range(0, len(other), 29)]
    trailing = [(0, whole + b"\0\0\0"), (0, other + b"more")]
    report = inspect_dataset(make(tmp_path, [*cuts, *trailing], classes=1), depth=depth)
    assert [record.origin.key for record in report.damaged] == list(range(1, len(cuts) + 1))
    assert report.sizes == {(20, 16): 2}
    assert capfd.readouterr().err == ""


def test_a_jpeg_that_decodes_with_grey_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = [bytearray(render_jpeg(number, 0)) for number in range(40)]
    cut = bytes(images[7][: len(images[7]) // 2]) + b"\xff\xd9"
    images[20][len(images[20]) // 2 : len(images[20]) // 2 + 300] = bytes(300)
    stored = [(0, cut if number == 7 else bytes(image)) for number, image in enumerate(images)]
    for damaged in (7, 20):
        assert decode_image(stored[damaged][1]) is not None
    capfd.readouterr()
    write_dataset(tmp_path / "set", stored, 1, (112, 112))
    report = inspect_dataset(tmp_path / "set")
    assert [record.origin.key for record in report.damaged] == [8, 21]
    assert all("Corrupt JPEG data" in record.reason for record in report.damaged)
    assert capfd.readouterr().err == ""


def naive(images: list[tuple[int, bytes]], content: Any) -> dict[str, Any]:
    """Duplicates by dictionaries of whole contents."""
    places = defaultdict(list)
    for index, (_, payload) in enumerate(images):
        places[content(payload)].append(index)
    groups = sorted(members for members in places.values() if len(members) > 1)
    classes = [sorted({images[index][0] for index in members}) for members in groups]
    pairs = Counter(pair for found in classes for pair in itertools.combinations(found, 2))
    return {
        "groups": groups,
        "surplus": sum(len(members) - 1 for members in groups),
        "within": sum(len(found) == 1 for found in classes),
        "across": sum(len(found) > 1 for found in classes),
        "pairs": dict(pairs),
    }


@pytest.mark.parametrize("seed", range(4))
def test_every_count_is_that_of_a_naive_reading(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    # Twenty pictures as JPEG, and each as PNG of what the JPEG decodes to, packed in two ways.
    stock: list[bytes] = []
    for number in range(20):
        encoded = jpeg(number)
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        stock += [encoded, png(pixels, 1), png(pixels, 9)]
    images = [
        (int(random.choice([0, 1, 3, 4, 8])), stock[int(random.integers(len(stock)))])
        for _ in range(int(random.integers(1, 120)))
    ]
    folder = unsorted(tmp_path / "set", images, classes=10)
    report = inspect_dataset(folder, num_threads=2)
    assert report.damaged == ()
    counts = Counter(label for label, _ in images)
    assert report.class_counts.tolist() == [counts[label] for label in range(10)]
    assert report.empty_classes.tolist() == [label for label in range(10) if not counts[label]]
    assert report.images_per_identity == Counter(counts[label] for label in range(10))
    falls = [at for at in range(1, len(images)) if images[at][0] < images[at - 1][0]]
    assert report.out_of_order == len(falls)
    first = report.first_out_of_order
    assert (None if first is None else first.key) == (falls[0] if falls else None)
    lengths = sorted(len(payload) for _, payload in images)
    assert report.bytes_per_image == (lengths[0], lengths[(len(lengths) - 1) // 2], lengths[-1])
    by_content = {"file": bytes, "pixels": lambda payload: decode_image(payload).tobytes()}  # type: ignore[union-attr]
    assert set(report.duplicates) == set(by_content)
    for kind, content in by_content.items():
        found, expected = report.duplicates[kind], naive(images, content)
        assert [group.tolist() for group in found.groups] == expected["groups"]
        assert (found.num_surplus, found.num_within) == (expected["surplus"], expected["within"])
        assert (len(found.across), found.class_pairs) == (expected["across"], expected["pairs"])
        written = report.to_json()["duplicates"][kind]
        assert [[one["key"] for one in group] for group in written["groups"]] == expected["groups"]
        assert {tuple(one["classes"]): one["shared"] for one in written["class_pairs"]} == expected["pairs"]


def test_near_finds_a_photograph_encoded_again_and_not_another(tmp_path: Path) -> None:
    faces = [render_face(identity, 0)[..., ::-1] for identity in range(40)]
    images = [(0, png(face)) for face in faces]
    for face in faces[:20]:
        images.append((1, cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()))
    flat = [(2, png(np.full((112, 112, 3), grey, np.uint8))) for grey in (10, 200)]
    write_dataset(tmp_path / "set", [*images, *flat], 3, (112, 112))
    report = inspect_dataset(tmp_path / "set", depth="near")
    assert report.duplicates["pixels"].groups == []
    near = report.duplicates["near"]
    # A bit on the border of the hash hides some.
    groups = [tuple(group.tolist()) for group in near.groups]
    assert groups[-1] == (60, 61)
    assert set(groups[:-1]) <= {(number, number + 40) for number in range(20)}
    assert len(groups) > 10
    assert near.class_pairs == {(0, 1): len(groups) - 1}
    assert f"classes 0 and 1: {len(groups) - 1} shared, {groups[0][0] + 1} and" in render(report)


def test_equal_hashes_of_different_images_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_pipeline.inspection import look

    monkeypatch.setattr(look, "_first_bits", lambda digest: 7)
    images = [(0, jpeg(number % 3)) for number in range(7)]
    found = inspect_dataset(make(tmp_path, images, classes=1)).duplicates
    for kind in ("file", "pixels"):
        assert [group.tolist() for group in found[kind].groups] == [[0, 3, 6], [1, 4], [2, 5]]


def test_a_placeholder_in_many_classes_makes_no_million_pairs(tmp_path: Path) -> None:
    images = [(label, jpeg(0)) for label in range(150)] + [(150, jpeg(1)), (151, jpeg(1))]
    report = inspect_dataset(make(tmp_path, images, classes=152))
    found = report.duplicates["file"]
    assert (len(found.groups), found.widest, found.class_pairs) == (2, 150, {(150, 151): 1})
    assert "one image stands in 150 classes: a placeholder?" in render(report)


def test_records_that_state_another_class_than_their_identitys_range(tmp_path: Path) -> None:
    folder = make(tmp_path, [(number // 4, jpeg(number)) for number in range(12)], classes=3)
    with FaceDataset.open(folder) as dataset:
        offset = dataset.offset(5)
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offset + 12)
        file.write(struct.pack("<f", 2.0))
    report = inspect_dataset(folder)
    ((origin, stated),) = [(one.origin, one.stated) for one in report.other_labels]
    assert (origin.key, origin.offset, origin.label, stated) == (6, offset, 1, 2.0)
    assert report.damaged == ()
    assert "record 6 at byte" in render(report)
    assert report.to_json()["other_labels"][0]["stated"] == 2.0


@pytest.mark.parametrize(
    ("same", "different", "folds"), [(20, 20, 10), (10, 9, 9), (3, 30, 3), (2, 2, 2), (1, 30, 0), (12, 0, 0)]
)
def test_a_pair_set_has_the_folds_that_an_evaluation_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], same: int, different: int, folds: int
) -> None:
    pairs = [True] * same + [False] * different
    write_bin(tmp_path / "pairs.bin", PairSet([jpeg(0)] * (2 * len(pairs)), pairs))
    assert inspect(InspectOptions(tmp_path / "pairs.bin", fast=True)) == 0
    assert re.search(rf"^  folds +{folds}$", capsys.readouterr().out, re.MULTILINE)


def test_a_pair_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [jpeg(0), jpeg(1), jpeg(2), jpeg(2), jpeg(0), jpeg(4), jpeg(5), jpeg(5), jpeg(6), jpeg(7)]
    write_bin(tmp_path / "pairs.bin", PairSet(images, [True, True, False, False, True]))
    assert inspect(InspectOptions(tmp_path / "pairs.bin", json=tmp_path / "report.json")) == 0
    printed = capsys.readouterr().out
    assert "pairs of one image with itself, marked same: 1: pair 1\n" in printed
    assert "pairs of one image with itself, marked DIFFERENT: 1: pair 3\n" in printed
    assert "different images, the same file counted once: 7\n" in printed
    assert "identit" not in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pairs"] == {
        "pairs": 5, "same": 3, "folds": 2, "identical_same": [1], "identical_different": [3],
    }  # fmt: skip
    assert report["duplicates"]["file"]["surplus"] == 3
    images[9] = images[9][:-50]
    write_bin(tmp_path / "pairs.bin", PairSet(images, [True] * 5))
    assert inspect(InspectOptions(tmp_path / "pairs.bin", fast=True)) == 1
    assert (
        "pairs.bin: image 9 of pair 4: its image cannot be decoded: libjpeg says: Premature end"
        in capsys.readouterr().out
    )
    (tmp_path / "pairs.bin").write_bytes(b"no pickle")
    with pytest.raises(PairSetError):
        inspect_dataset(tmp_path / "pairs.bin")


def test_a_folder_of_images(tmp_path: Path) -> None:
    for label, name in enumerate(("Ann", "Bob")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "images" / name / f"{number}.jpg").write_bytes(jpeg(number + label))
    report = inspect_dataset(tmp_path / "images")
    assert (report.num_images, report.num_classes, report.damaged) == (4, 2, ())
    assert report.duplicates["file"].class_pairs == {(0, 1): 1}
    assert f"1 shared, {tmp_path}/images/Ann/1.jpg and {tmp_path}/images/Bob/0.jpg" in render(report)


def test_fast_reads_headers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_pipeline.inspection import look

    monkeypatch.setattr(look, "decode_image", None)
    sizes = [(20, 16), (20, 16), (33, 300)]
    images = [(0, jpeg(0, sizes[0])), (1, png(picture(1, sizes[1]))), (2, jpeg(2, sizes[2]))]
    report = inspect_dataset(make(tmp_path, images), depth="headers")
    assert report.sizes == {(20, 16): 2, (33, 300): 1}
    assert [record.reason for record in report.damaged] == ["33 x 300 pixels, but 20 x 16 are stated"]
    assert report.duplicates == {}
    assert "duplicates: not looked for" in render(report)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    folder = make(tmp_path, [(0, b"no image")] * 25, classes=1)
    report = inspect_dataset(folder)
    assert len(report.to_json()["damaged"]) == 25
    assert render(report).endswith("and 5 more")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        inspect_dataset(tmp_path / "none")


def test_an_index_that_does_not_fit_is_one_error(tmp_path: Path) -> None:
    folder = make(tmp_path, [(0, jpeg(number)) for number in range(4)], classes=1)
    rec, idx = folder / "train.rec", folder / "train.idx"
    for text in (
        "0\t0\n1\t36\n" * 20 + "9\t99999999\n",
        "0\t9999999\n1\t999999\n",
        "no index",
        "0\t99999999",
    ):
        idx.write_text(text)
        with pytest.raises(DataInputError) as caught:
            inspect_dataset(folder)
        assert "\n" not in str(caught.value)
    idx.unlink()
    rec.write_bytes(rec.read_bytes()[:-8])
    with pytest.raises(DataInputError, match="cut off"):
        inspect_dataset(folder)


def test_what_an_incomplete_copy_still_holds_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path, [(number // 2, jpeg(number)) for number in range(10)])
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(index) for index in range(10)]
    rec = folder / "train.rec"
    rec.write_bytes(rec.read_bytes()[: offsets[8] + 100])
    index = [tuple(map(int, line.split())) for line in (folder / "train.idx").read_text().splitlines()]
    report = inspect_dataset(folder)
    assert [place(record) for record in report.damaged] == [(key, at, -1) for key, at in index[9:]]
    assert report.class_counts.tolist() == [2, 2, 2, 2, 0]
    assert report.out_of_order == 0
    assert "file ends" in report.damaged[-1].reason


@pytest.mark.parametrize("most", [3, 300])
def test_the_picture(most: int, tmp_path: Path) -> None:
    images = [(0, jpeg(number % 50)) for number in range(most)] + [(1, jpeg(99)), (3, jpeg(98)[:30])]
    folder = make(tmp_path, images)
    assert inspect(InspectOptions(folder, plot=tmp_path / "new" / "set.png", fast=True)) == 1
    drawn = cv2.imread(str(tmp_path / "new" / "set.png"))
    assert drawn.shape[1] > 600
    blue = (np.abs(drawn.astype(int) - (0xA8, 0x78, 0x48)).sum(axis=2) < 20).sum()
    assert blue > 1000
    with pytest.raises(DataInputError, match="cannot be written") as caught:
        inspect(InspectOptions(folder, plot=tmp_path / "set.jpegg", fast=True))
    assert "\n" not in str(caught.value)


def test_options() -> None:
    options = parse(InspectOptions, ["set", "--fast", "True", "--threads", "3"], prog="cosface inspect")
    assert (options.fast, options.near, options.threads) == (True, False, 3)
    for argv, message in (
        (["set", "--threads", "-1"], "--threads must be 0 or more"),
        (["set", "--fast", "True", "--near", "True"], "choose one"),
    ):
        with pytest.raises(TrainerInputError, match=message):
            parse(InspectOptions, argv, prog="cosface inspect")


@pytest.mark.real_faces
@pytest.mark.parametrize(
    ("name", "images", "classes", "surplus", "near"),
    [("glint16", 3678, 16, 2, 13), ("fiw", 12305, 2523, 0, 2)],
)
def test_real_faces(name: str, images: int, classes: int, surplus: int, near: int, shared_data: Path) -> None:
    report: DatasetReport = inspect_dataset(shared_data / name, depth="near")
    assert (report.num_images, report.num_classes, report.damaged) == (images, classes, ())
    assert report.sizes == {(112, 112): images}
    assert report.other_labels == ()
    assert [report.duplicates[kind].num_surplus for kind in ("file", "pixels", "near")] == [
        surplus,
        surplus,
        near,
    ]
    assert report.duplicates["near"].across == []
    assert report.images_per_identity == Counter(report.class_counts.tolist())


@pytest.mark.real_faces
def test_real_pairs(shared_data: Path) -> None:
    report = inspect_dataset(shared_data / "glint4.bin")
    assert report.pairs is not None
    assert (report.pairs.num_pairs, report.pairs.num_same, report.damaged) == (600, 300, ())
    assert report.pairs.identical_same == report.pairs.identical_different == ()

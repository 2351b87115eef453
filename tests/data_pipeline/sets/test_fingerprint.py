"""What makes a set another set, and what does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import FaceDataset, write_dataset
from data_pipeline.sets.fingerprint import Fingerprint, SetFingerprint, fingerprint, read_fingerprint
from data_pipeline.sets.open import open_source

LABELS = [0, 0, 1, 1, 1, 2]
IMAGES = [cv2.imencode(".png", np.full((16, 16, 3), 20 * k + 9, np.uint8))[1].tobytes() for k in range(12)]
NAMES = "class,folder\n0,ann\n1,bo\n2,cy\n"


def packed(folder: Path, images: Sequence[bytes] = IMAGES[:6], labels: Sequence[int] = LABELS) -> Path:
    write_dataset(folder, list(zip(labels, images, strict=True)), 3, (16, 16))
    (folder / "identities.csv").write_text(NAMES)
    return folder


def loose(folder: Path, names: Sequence[str] = ("a/1.png", "a/2.png", "b/1.png", "c/1.png")) -> Path:
    for name, image in zip(names, IMAGES, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    return folder


def of(*names: str | Path, min_images: int = 0) -> Fingerprint:
    with open_source(names, min_images=min_images) as source:  # type: ignore[attr-defined]
        return fingerprint(source)


def test_a_set_that_moved_is_the_same(tmp_path: Path) -> None:
    for first in (packed(tmp_path / "packed"), loose(tmp_path / "loose")):
        before = of(first)
        moved = tmp_path / "elsewhere" / f"renamed-{first.name}"
        shutil.copytree(first, moved)
        for file in moved.rglob("*"):
            os.utime(file, (1, 1))
        assert before.differences(of(moved)) == ""
        assert before.sets[0].name == str(first)


def test_sets_in_another_order_are_named(tmp_path: Path) -> None:
    a, b = packed(tmp_path / "a"), packed(tmp_path / "b", IMAGES[6:])
    assert of(a, b).differences(of(b, a)) == f"the order of the sets is {a} {b} there and {b} {a} here"
    assert of(a, b).differences(of(a, b)) == ""
    assert of(a, b).differences(of(a)) == "the number of sets is 2 there and 1 here"
    three = of(a, b, "rendered:4x3,size=20")
    assert three.differences(of("rendered:4x3,size=20", a, b)).startswith("the order of the sets is ")


def test_sets_that_images_alone_tell_apart(tmp_path: Path) -> None:
    # Of one length each, with the same classes and names.
    one, other = [b"\xff\xd8\xff" + bytes([k]) * 61 for k in range(6)], [b"\xff\xd8\xff" + b"x" * 61] * 6
    a, b = packed(tmp_path / "a", one), packed(tmp_path / "b", other)
    assert of(a).differences(of(b)) == f"{b} differs in the images or the order of them"
    c, d = loose(tmp_path / "c"), loose(tmp_path / "d")
    (d / "b" / "1.png").write_bytes(IMAGES[9])
    assert of(c).differences(of(d)) == f"{d} differs in the images or the order of them"


@pytest.mark.parametrize(
    ("images", "labels", "what"),
    [
        ([0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], "number of images of each identity, identity of each image"),
        ([2, 1, 0, 3, 4, 5], [1, 0, 0, 1, 1, 2], "images or the order of them"),
        ([1, 0, 2, 3, 4, 5], LABELS, "images or the order of them"),
        ([0, 1, 2, 3, 4, 6], LABELS, "images or the order of them"),
    ],
)
def test_what_differs_in_a_repacked_folder_is_named(
    tmp_path: Path, images: list[int], labels: list[int], what: str
) -> None:
    before = of(packed(tmp_path / "a"))
    again = packed(tmp_path / "b", [IMAGES[index] for index in images], labels)
    assert before.differences(of(again)) == f"{again} differs in the {what}"


def test_a_renamed_identity_is_found(tmp_path: Path) -> None:
    records, images = packed(tmp_path / "records"), loose(tmp_path / "images")
    before, before_images = of(records), of(images)
    (records / "identities.csv").write_text(NAMES.replace("bo", "bob"))
    assert before.differences(of(records)) == f"{records} differs in the names of the identities"
    (images / "b").rename(images / "bb")
    assert before_images.differences(of(images)) == f"{images} differs in the names of the identities"
    (images / "bb").rename(images / "d")  # now the last of its name
    assert "names of the identities" in before_images.differences(of(images))
    # Where names are not known nobody can say that they changed.
    (records / "identities.csv").unlink()
    assert before.differences(of(records)) == of(records).differences(before) == ""


def test_a_renamed_file_within_an_identity_is_found(tmp_path: Path) -> None:
    images = loose(tmp_path / "images")
    before = of(images)
    (images / "a" / "1.png").rename(images / "a" / "3.png")
    assert before.differences(of(images)) == f"{images} differs in the images or the order of them"


def test_left_out_identities_make_another_set(tmp_path: Path) -> None:
    for folder in (packed(tmp_path / "records"), loose(tmp_path / "images")):
        assert "number of identities" in of(folder).differences(of(folder, min_images=2))
        assert of(folder).differences(of(folder, min_images=1)) == ""


def test_rendered_sets_are_what_they_are_called() -> None:
    # A billion identities: nothing is counted.
    large = of("rendered:1000000000x2,quick")
    assert large.differences(of("rendered:1000000000x2,quick")) == ""
    for other in ("rendered:1000000000x3,quick", "rendered:1000000000x2", "rendered:1000000000x2@1,quick"):
        assert f"{other} differs in the " in large.differences(of(other))


def test_the_quick_way_and_the_slow_one_agree_on_classes(tmp_path: Path) -> None:
    for folder in (packed(tmp_path / "records"), loose(tmp_path / "images")):
        with open_source([folder]) as source:  # type: ignore[attr-defined]
            quick, slow = fingerprint(source).sets[0], read_fingerprint(source)
        assert (quick.counts, quick.labels, quick.identities) == (slow.counts, slow.labels, slow.identities)


def test_a_damaged_image_does_not_stop_it(tmp_path: Path) -> None:
    folder = packed(tmp_path / "set")
    with FaceDataset.open(folder) as dataset:
        offset = dataset.offset(3)  # within its identity: opening does not look at it
    before = of(folder)
    with (folder / "train.rec").open("r+b") as file:
        file.seek(offset)
        file.write(b"spoilt!!")
    assert before.differences(of(folder)) == f"{folder} differs in the images or the order of them"


def test_a_kept_table_gives_the_same_without_reading_the_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data_pipeline.sets.record_folder as dataset
    from data_pipeline.sets.table_store import stored_table

    folder = packed(tmp_path / "set")
    before = of(folder)
    monkeypatch.setenv("COSFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset, "stored_table", lambda s, b: stored_table(s, b, persisted_from=0))
    assert of(folder) == before  # built and kept
    monkeypatch.setattr(dataset, "read_record_table", None)
    monkeypatch.setattr("data_pipeline.sets.table.digest_of_numbers", None)
    assert of(folder) == before


def test_identical_sets_are_not_another_order() -> None:
    one = SetFingerprint("a", 1, 1, "c", "l", "i")
    other = SetFingerprint("b", 1, 1, "c", "l", "i")
    assert Fingerprint((one, other)).differences(Fingerprint((other, one))) == ""

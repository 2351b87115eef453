"""The files that a list names: other suffixes, other encodings, and nothing outside the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.pairs.reading import read_pairs
from tests.data_pipeline.pairs.handed_out import (
    FORMS,
    PEOPLE,
    Expected,
    labelled,
    lfw,
    make_images,
    path,
    table,
)


def _read(tmp_path: Path, images: Path, text: str) -> Expected:
    (tmp_path / "pairs.txt").write_text(text)
    return [
        (str(pair.first.relative_to(images)), str(pair.second.relative_to(images)), pair.same, pair.fold)
        for pair in read_pairs(tmp_path / "pairs.txt", images)
    ]


@pytest.mark.parametrize("suffix", [".JPG", ".JPEG", ".PNG", ".jpeg", ".png", ".Jpg"])
def test_another_suffix_on_disk_is_found_in_every_form(tmp_path: Path, suffix: str) -> None:
    images = make_images(tmp_path / "images", suffix)
    for text, _ in FORMS.values():
        assert {Path(pair[0]).suffix for pair in _read(tmp_path, images, text)} == {suffix}


def test_small_letters_come_first(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ".PNG")
    for name in PEOPLE:
        (images / path(name, 1, ".png")).write_bytes((images / path(name, 1, ".PNG")).read_bytes())
        (images / path(name, 1, ".JPG")).write_bytes((images / path(name, 1, ".PNG")).read_bytes())
    assert {Path(pair[0]).suffix for pair in _read(tmp_path, images, lfw())} == {".JPG"}
    assert {
        Path(pair[0]).suffix for pair in _read(tmp_path, images, table(labelled()).replace(".jpg", ""))
    } == {".JPG"}
    assert {
        Path(pair[0]).suffix for pair in _read(tmp_path, images, table(labelled()).replace(".jpg", ".png"))
    } == {".png"}


@pytest.mark.parametrize("on_disk", ["utf-8", "latin-1"])
@pytest.mark.parametrize("listed", ["utf-8", "latin-1"])
def test_names_beyond_ascii(tmp_path: Path, on_disk: str, listed: str) -> None:
    name = "Jos\u00e9_Mu\u00f1oz"
    images = tmp_path / "images"
    folder = bytes(images) + b"/" + name.encode(on_disk)
    Path(folder.decode("utf-8", "surrogateescape")).mkdir(parents=True)
    for number in (1, 2):
        file = folder + b"/" + f"{name}_{number:04d}.jpg".encode(on_disk)
        Path(file.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    for text in (f"{name}\t1\t2\n", f"{path(name, 1)},{path(name, 2)},1\n"):
        (tmp_path / "pairs.txt").write_bytes(text.encode(listed))
        (pair,) = read_pairs(tmp_path / "pairs.txt", images)
        assert pair.first.is_file()
        assert (pair.first.name[-8:], pair.second.name[-8:], pair.same) == ("0001.jpg", "0002.jpg", True)

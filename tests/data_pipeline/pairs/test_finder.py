"""The files that a list names: other suffixes, other encodings, and nothing outside the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.errors import PairSetError
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


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """Images, a folder beside them, and links between."""
    images = make_images(tmp_path / "images")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.jpg").write_bytes(b"x")
    (images / "link.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    (images / "Zoe").symlink_to(tmp_path / "secret")
    (images / "Flo" / "inside.jpg").symlink_to(images / path("Flo", 1))
    (tmp_path / "secret" / "out.jpg").symlink_to(tmp_path / "far" / "a.jpg")
    (images / "Flo" / "deeper").symlink_to(tmp_path / "secret")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.jpg").write_bytes(b"x")
    (tmp_path / "secret" / "Zoe_0001.jpg").write_bytes(b"x")
    return images


@pytest.mark.parametrize(
    "name",
    [
        "../secret/a.jpg",
        "Flo/../../secret/a",
        "{root}/secret/a.jpg",
        "link.jpg",
        "link",
        "Zoe/out.jpg",
        "Zoe/../secret/a.jpg",
        "Flo/deeper/a.jpg",
        "..\\secret\\a.jpg",
        "images/../secret/a.jpg",
        "../secret/none.jpg",
    ],
)
def test_files_outside_the_images_folder_are_refused(tmp_path: Path, beside: Path, name: str) -> None:
    name = name.format(root=tmp_path)
    (tmp_path / "pairs.csv").write_text(f"{path('Flo', 1)},{name},1\n")
    with pytest.raises(PairSetError, match=r"line 1: .* lies outside .*images, .* --outside takes it"):
        read_pairs(tmp_path / "pairs.csv", beside)
    if name not in ("../secret/none.jpg", "Zoe/../a.jpg"):
        (pair,) = read_pairs(tmp_path / "pairs.csv", beside, outside=True)
        assert pair.second.resolve() in (tmp_path / "secret" / "a.jpg", tmp_path / "far" / "a.jpg")


def test_a_persons_folder_may_be_a_link_as_for_packing(tmp_path: Path, beside: Path) -> None:
    (tmp_path / "pairs.txt").write_text("Flo\t1\tZoe\t1\n")
    assert read_pairs(tmp_path / "pairs.txt", beside)[0].second == beside / "Zoe" / "Zoe_0001.jpg"
    (tmp_path / "pairs.csv").write_text(f"{path('Flo', 1)},images/Zoe/a,1\n")
    assert read_pairs(tmp_path / "pairs.csv", beside)[0].second == beside / "Zoe" / "a.jpg"


def test_files_inside_are_found_by_any_way_in(tmp_path: Path, beside: Path) -> None:
    (tmp_path / "way in").symlink_to(beside)
    for name in (
        "Flo/inside.jpg",
        f"{beside}/Flo/Flo_0001.jpg",
        "Bo/../Flo/Flo_0001.jpg",
        "images/Flo/Flo_0001.jpg",
    ):
        (tmp_path / "pairs.csv").write_text(f"{path('Flo', 2)},{name},1\n")
        for images in (beside, tmp_path / "way in"):
            if images == beside or not name.startswith("images/"):
                (pair,) = read_pairs(tmp_path / "pairs.csv", images)
                assert pair.second.resolve() == beside / path("Flo", 1)

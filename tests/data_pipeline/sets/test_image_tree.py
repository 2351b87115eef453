"""Folders of images as people have them: one level too deep, in shards, with side files and links in them."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError
from data_pipeline.commands import InspectOptions, PackOptions, inspect, pack
from data_pipeline.images.decode import decode_image, fit
from data_pipeline.images.names import is_image_file
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.sets.image_folder import ImageFiles
from data_pipeline.sets.notes import notes_on
from data_pipeline.sets.open import open_source
from data_pipeline.sets.tree import find_images, read_tree

PEOPLE, VIEWS = 10, 8
NAMES = [f"Person_{letter}" for letter in "ABCDEFGHIJ"]
_seeds = itertools.count()


def _picture(size: int = 32) -> np.ndarray:
    small = np.random.default_rng(next(_seeds)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (size, size)), dtype=np.uint8)


def _write(path: Path, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), _picture(size))


def _people(folder: Path, people: range | None = None, views: int = VIEWS) -> Path:
    for person in people or range(PEOPLE):
        for view in range(views):
            _write(folder / NAMES[person] / f"{view}.jpg")
    return folder


def _refused_by_all(images: Path, out: Path) -> str:
    """The one line with which training, inspecting and packing refuse a folder."""
    said = []
    for ask in (
        lambda: open_source([images]),
        lambda: inspect(InspectOptions(images)),
        lambda: pack(PackOptions(images=images, out=out, workers=1)),
    ):
        with pytest.raises(DatasetError) as caught:
            ask()
        said.append(str(caught.value))
    assert said[0] == said[1] == said[2]
    assert "\n" not in said[0]
    assert not out.exists()
    return said[0]


@pytest.mark.parametrize("parts", [("African", "Asian"), ("train", "val")])
def test_races_and_splits_are_no_people(tmp_path: Path, parts: tuple[str, str]) -> None:
    images = tmp_path / "set"
    _people(images / parts[0], range(4))
    _people(images / parts[1], range(4, 10))
    said = _refused_by_all(images, tmp_path / "out")
    assert said.startswith(f"{images}: one folder level too many")
    assert f"({parts[0]}/Person_A, {parts[0]}/Person_B, {parts[0]}/Person_C, ...)" in said
    assert f"--data.train {images / parts[0]} {images / parts[1]}" in said
    assert "one name in several" not in said
    # As it says, several sets have all ten people.
    assert open_source([images / part for part in parts]).num_classes == PEOPLE
    # Who means it can have it so.
    options = PackOptions(images=images, out=tmp_path / "out", workers=1, identity_per_folder=True)
    assert pack(options) == 0
    assert open_source([tmp_path / "out"]).identity_names() == list(parts)


def test_people_who_are_in_both_splits_are_not_two_unsaid(tmp_path: Path) -> None:
    images = tmp_path / "set"
    for part in ("train", "val"):
        _people(images / part, range(4))
    said = _refused_by_all(images, tmp_path / "out")
    assert f"--data.train {images / 'train'} {images / 'val'}" in said
    assert "4 of their people have one name in several (Person_A, Person_B, Person_C, ...)" in said
    # As it says, they are others in each.
    assert open_source([images / "train", images / "val"]).num_classes == 8


def test_views_of_each_person_are_not_said_to_be_people_in_several_sets(tmp_path: Path) -> None:
    images = tmp_path / "set"
    for person in range(4):
        for view in ("frontal", "profile"):
            _write(images / f"{person:03d}" / view / "01.jpg")
    said = _refused_by_all(images, tmp_path / "out")
    assert "one name in several" not in said
    assert "--identity-per-folder" in said


def test_of_many_parts_all_are_named_by_a_star(tmp_path: Path) -> None:
    for person in range(PEOPLE):
        _write(tmp_path / "set" / f"part{person}" / NAMES[person] / "0.jpg")
    assert f"--data.train {tmp_path / 'set'}/* " in _refused_by_all(tmp_path / "set", tmp_path / "out")


def test_a_folder_around_all_people_is_named(tmp_path: Path) -> None:
    images = _people(tmp_path / "set" / "a" / "imgs").parent.parent
    _write(images / "a" / "imgs" / "Person_A" / "2019" / "0.jpg")
    assert f"give {images / 'a' / 'imgs'} instead" in _refused_by_all(images, tmp_path / "out")
    assert open_source([images / "a" / "imgs"]).num_classes == PEOPLE


@pytest.mark.parametrize("folders", [1, 3])
def test_shards_are_no_people(tmp_path: Path, folders: int) -> None:
    images = tmp_path / "set"
    for number, (person, view) in enumerate(itertools.product(range(PEOPLE), range(VIEWS))):
        shard = f"{number * folders // (PEOPLE * VIEWS):03}"
        _write(images / shard / f"{NAMES[person]}_{view + 1:04}.jpg")
    said = _refused_by_all(images, tmp_path / "out")
    assert f"{images}: the files in 000 are named after" in said
    assert "(Person_A, Person_B, Person_C, ...)" in said
    assert f"cosface pack {images} OUT --list FILE" in said


def test_a_persons_folders_by_year_beside_images_of_its_own_are_the_persons(tmp_path: Path) -> None:
    images = _people(tmp_path / "set")
    for year in ("2019", "2020"):
        _write(images / "Person_B" / year / "0.jpg")
    tree = read_tree(images)
    assert not tree.notes
    assert sum(name == "Person_B" for name, _ in tree.files) == VIEWS + 2
    assert open_source([images]).num_classes == PEOPLE
    # With images in the years alone it is still one person's of ten, but said by all.
    for view in range(VIEWS):
        (images / "Person_B" / f"{view}.jpg").unlink()
    source = open_source([images])
    assert source.num_classes == PEOPLE
    (note,) = notes_on(source)
    assert "1 of its 10 folders hold images in deeper folders alone (Person_B/2019, Person_B/2020)" in note


def test_most_images_being_too_deep_is_enough(tmp_path: Path) -> None:
    images = _people(tmp_path / "set", range(3))
    _people(images / "more", range(3, 10))
    said = _refused_by_all(images, tmp_path / "out")
    assert "most of its images lie in folders of folders (more/Person_D, more/Person_E, " in said
    assert f"give {images / 'more'} instead" in said


def test_said_by_pack_and_inspect_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = _people(tmp_path / "set")
    _write(images / "more" / "Person_X" / "0.jpg")
    assert inspect(InspectOptions(images)) == 0
    assert capsys.readouterr().out.count("(more/Person_X)") == 1
    assert pack(PackOptions(images=images, out=tmp_path / "out", workers=1)) == 0
    assert capsys.readouterr().out.count("(more/Person_X)") == 1


@pytest.mark.parametrize(
    "pattern",
    [
        "{person:07}/{view:03}.jpg",  # CASIA-WebFace
        "{name}/{name}_{view:04}.jpg",  # LFW
        "n{person:06}/{group:04}_{view:02}.jpg",  # VGGFace2
        "s{person}/{view}.png",  # AT&T
        "{person:03}/IMG_{view:04}.jpg",  # a telephone's
        "{person:03}/{side}_{view:02}.jpg",  # two cameras
        "{name}/{view}-FaceId-0.jpg",  # MS-Celeb-1M
        "{person}/{random:x}.jpg",  # hashes
    ],
)
def test_people_whose_files_have_numbers_are_no_shards(tmp_path: Path, pattern: str) -> None:
    for person, view in itertools.product(range(PEOPLE), range(VIEWS)):
        fields = {
            "group": view // 4 + 2,
            "side": ("left", "right")[view % 2],
            "random": (person * 8 + view + 1) * 0x9E3779B97F4A7C15 % 2**64,
        }
        _write(tmp_path / "set" / pattern.format(person=person, name=NAMES[person], view=view, **fields))
    tree = read_tree(tmp_path / "set")
    assert (len(tree.files), tree.left_out, tree.notes) == (PEOPLE * VIEWS, [], [])


SIDE_FILES = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
    "desktop.ini": b"[.ShellClassInfo]\r\n",
    ".DS_Store": b"\0\0\0\1Bud1",
    "notes.txt": b"P5 is the fifth person, BM her initials",
    "BMW.txt": b"BMW drivers, of all ages and countries, photographed in 2019",
    "landmarks.csv": b"0.jpg,1,2,3,4,5,6,7,8,9,10\n",
}


def test_side_files_are_left_out_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = _people(tmp_path / "set")
    for name in NAMES:
        for side, content in SIDE_FILES.items():
            (images / name / side).write_bytes(content)
    (images / "only a note").mkdir()
    (images / "only a note" / "a.txt").write_text("nobody")
    source = open_source([images])
    assert (source.num_images, source.num_classes) == (PEOPLE * VIEWS, PEOPLE)
    (note,) = notes_on(source)
    assert note == (f"{images}: left out: 51 × no image that can be decoded (such as Person_A/BMW.txt)")
    assert inspect(InspectOptions(images)) == 0
    printed = capsys.readouterr().out
    assert printed.count("left out") == 1
    assert "damaged records: none" in printed
    report = inspect_dataset(images)
    assert (report.num_images, report.num_classes, report.notes) == (PEOPLE * VIEWS, PEOPLE, (note,))
    assert pack(PackOptions(images=images, out=tmp_path / "out", workers=1)) == 0
    printed = capsys.readouterr().out
    assert f"{PEOPLE * VIEWS} images of {PEOPLE} identities" in printed
    assert printed.count("left out") == 1
    left_out = (tmp_path / "out" / "skipped.csv").read_text().splitlines()[1:]
    assert len(left_out) == 51


def test_the_least_number_of_images_counts_images_alone(tmp_path: Path) -> None:
    images = _people(tmp_path / "set")
    for view in range(2, VIEWS):
        (images / "Person_C" / f"{view}.jpg").unlink()
    for number in range(6):
        (images / "Person_C" / f"{number}.txt").write_text("no image")
    assert open_source([images], min_images=3).identity_names() == [n for n in NAMES if n != "Person_C"]
    assert open_source([images], min_images=2).num_classes == PEOPLE


def test_an_image_by_another_name_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    for number, form in enumerate((".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm")):
        encoded = cv2.imencode(form, _picture())[1].tobytes()
        (tmp_path / f"{number}").write_bytes(encoded)
        assert is_image_file(tmp_path / f"{number}"), form
        (tmp_path / f"{number}.JPG").write_bytes(b"no image, but named as one: damaged")
        assert is_image_file(tmp_path / f"{number}.JPG")
    for name, content in SIDE_FILES.items():
        (tmp_path / name).write_bytes(content)
        assert not is_image_file(tmp_path / name), name
    assert not is_image_file(tmp_path / "missing")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = _people(tmp_path / "set")
    _write(tmp_path / "elsewhere" / "secret.jpg")
    (images / "Person_A" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (images / "Person_B" / "relative.jpg").symlink_to("../../elsewhere/secret.jpg")
    (images / "Person_C" / "again.jpg").symlink_to("../../elsewhere/through.jpg")
    (tmp_path / "elsewhere" / "through.jpg").symlink_to("secret.jpg")
    (images / "Person_D" / "inside.jpg").symlink_to("../Person_E/0.jpg")
    source = open_source([images])
    assert source.num_images == PEOPLE * VIEWS + 1
    (note,) = notes_on(source)
    assert note.startswith(f"{images}: left out: 3 × a link to a file outside the folder")
    assert open_source([images], follow_links=True).num_images == PEOPLE * VIEWS + 4
    files, passed_over = find_images(images)
    assert len(files) == PEOPLE * VIEWS + 1
    assert [path.name for path, _ in passed_over] == ["link.jpg", "relative.jpg", "again.jpg"]
    assert pack(PackOptions(images=images, out=tmp_path / "out", workers=1)) == 0
    assert f"{PEOPLE * VIEWS + 1} images" in capsys.readouterr().out
    secret = (tmp_path / "elsewhere" / "secret.jpg").read_bytes()
    assert secret not in (tmp_path / "out" / "train.rec").read_bytes()
    assert inspect_dataset(images).num_images == PEOPLE * VIEWS + 1
    assert inspect_dataset(images, follow_links=True).num_images == PEOPLE * VIEWS + 4
    options = PackOptions(images=images, out=tmp_path / "all", workers=1, follow_links=True)
    assert pack(options) == 0
    assert f"{PEOPLE * VIEWS + 4} images" in capsys.readouterr().out


def test_linked_folders_of_people_are_followed_and_said(tmp_path: Path) -> None:
    """Parts of a large set are made so; but one that was fetched from somewhere may hold such links, too."""
    whole = _people(tmp_path / "whole")
    _write(tmp_path / "elsewhere" / "secret.jpg")
    (whole / "Person_A" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    part = _people(tmp_path / "part", range(8, 10))
    (part / "Person_A").symlink_to(whole / "Person_A", target_is_directory=True)
    tree = read_tree(part)
    assert sum(name == "Person_A" for name, _ in tree.files) == VIEWS
    assert [path.name for path, _ in tree.passed_over] == ["link.jpg"]
    assert f"{part}: 1 of its folders lead elsewhere: Person_A is {whole / 'Person_A'}" in tree.notes


def test_all_being_links_out_is_said(tmp_path: Path) -> None:
    _write(tmp_path / "elsewhere" / "0.jpg")
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "0.jpg").symlink_to(tmp_path / "elsewhere" / "0.jpg")
    with pytest.raises(DatasetError, match=r"holds no images.*1 × a link to a file outside.*--follow-links"):
        open_source([tmp_path / "set"])


@pytest.mark.parametrize("odd", [(40, 40), (24, 32), (32, 24), (32, 48)])
def test_the_few_of_another_size_are_resized(tmp_path: Path, odd: tuple[int, int]) -> None:
    """A sample of 256 files need not meet one of a hundred."""
    images = _people(tmp_path / "set", views=60)
    image = np.asarray(cv2.resize(_picture(), odd[::-1]))
    path = images / "Person_A" / "1.jpg"
    cv2.imwrite(str(path), image)
    source = ImageFiles(images)
    assert (source.uniform, source.image_size) == (True, (32, 32))
    place = next(place for place in range(source.num_images) if source.path(place) == path)
    assert place % 2 == 1  # not in the sample
    resized = decode_image(source.payloads(np.array([place]))[0].data)
    stored = decode_image(path.read_bytes())
    assert resized is not None
    assert stored is not None
    assert resized.shape == (32, 32, 3)
    assert np.array_equal(resized, fit(stored, (32, 32)))
    # The others are what the files hold, to the byte.
    assert bytes(source.payloads(np.array([0]))[0]) == source.path(0).read_bytes()
    report = inspect_dataset(images)
    assert report.sizes == {(32, 32): 599, odd: 1}
    assert not report.damaged

"""A folder of files, and a list of who is in them."""

from __future__ import annotations

import csv
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset
from data_pipeline.commands import PackOptions
from data_pipeline.commands import pack as pack_command
from data_pipeline.pack.pack import pack

ROOT = Path(__file__).parents[3]
# Identity of each file, as numbers of people in CelebA's manner.
PEOPLE = [2880, 99, 2880, 7, 99, 99, 2880, 7, 100000, 100000]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "faces").mkdir()
    for number in range(len(PEOPLE)):
        picture = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "faces" / f"{number + 1:06}.jpg"), cv2.resize(picture, (112, 112)))
    return tmp_path / "faces"


def _name(number: int) -> str:
    return f"{number + 1:06}.jpg"


FORMS: dict[str, Callable[[int, int], str]] = {
    "CelebA's": lambda number, person: f"{_name(number)} {person}",
    "the other way round": lambda number, person: f"{person} {_name(number)}",
    "im2rec's .lst": lambda number, person: f"{number}\t{person}.000000\t{_name(number)}",
    "insightface's .lst": lambda number, person: f"1\t{_name(number)}\t{person}",
    "insightface's .lst with points": lambda number, person: "\t".join(
        ["0", f"faces/{_name(number)}", str(person), "1", "2", "90", "92", *map(str, range(10))]
    ),
    "CSV": lambda number, person: f'"{_name(number)}",{person}',
    "semicolons, another suffix": lambda number, person: f"{_name(number)[:-4]}.png; {person}",
    "no suffix": lambda number, person: f"{_name(number)[:-4]} {person}",
    "absolute": lambda number, person: f"ROOT/faces/{_name(number)}\t{person}",
    "from the folder above": lambda number, person: f"faces\\{_name(number)} {person}",
}


def _list(tmp_path: Path, lines: list[str]) -> Path:
    (tmp_path / "list.txt").write_text("\n".join(lines).replace("ROOT", str(tmp_path)) + "\n")
    return tmp_path / "list.txt"


@pytest.mark.parametrize("header", [None, "image_id{}identity", "10"])
@pytest.mark.parametrize("form", FORMS)
def test_a_flat_folder_is_packed_by_a_list(
    tmp_path: Path, images: Path, form: str, header: str | None
) -> None:
    lines = [FORMS[form](number, person) for number, person in enumerate(PEOPLE)]
    if header:
        separator = next((mark for mark in "\t,; " if mark in lines[0]), " ")
        lines.insert(0, header.format(separator))
    report = pack(images, tmp_path / "out", workers=1, list_file=_list(tmp_path, lines))
    # In the order of the numbers, not of their digits.
    assert report.identities == ["7", "99", "2880", "100000"]
    assert (report.num_images, report.skipped) == (10, [])
    with FaceDataset.open(tmp_path / "out") as dataset:
        assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
        assert dataset.identity_names() == report.identities
        for index, number in ((0, 3), (1, 7), (2, 1), (5, 0), (9, 9)):
            assert bytes(dataset.payload(index)) == (images / _name(number)).read_bytes()


def test_names_of_people_and_folders_within(tmp_path: Path, images: Path) -> None:
    (images / "a b").mkdir()
    (images / "000001.jpg").rename(images / "a b" / "c d.jpg")
    lines = ["a b/c d.jpg Zoë", *(f"{_name(number)} Ann" for number in range(1, 10))]
    report = pack(images, tmp_path / "out", workers=1, list_file=_list(tmp_path, lines))
    assert (report.identities, report.num_images) == (["Ann", "Zoë"], 10)
    with (tmp_path / "out" / "identities.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["class", "folder"], ["0", "Ann"], ["1", "Zoë"]]


def test_what_only_one_side_knows_is_listed(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{_name(number)} {person}" for number, person in enumerate(PEOPLE[:8])]
    lines += ["missing.jpg 7", "000001.jpg 2880"]
    (images / "notes.txt").write_text("about")
    options = PackOptions(images=images, out=tmp_path / "out", list=_list(tmp_path, lines), workers=1)
    assert pack_command(options) == 0
    printed = capsys.readouterr().out
    assert "8 images of 3 identities" in printed
    assert "4 files left out" in printed
    with (tmp_path / "out" / "skipped.csv").open() as file:
        assert [(Path(path).name, reason) for path, reason in list(csv.reader(file))[1:]] == [
            ("000009.jpg", "not in the list"),
            ("000010.jpg", "not in the list"),
            ("missing.jpg", "named in line 9 of the list, but not there"),
            ("notes.txt", "no image that can be decoded"),
        ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("../secret.jpg 3", r"list\.txt: line 4: \.\./secret\.jpg lies outside .*faces"),
        ("x/../../secret.jpg 3", r"line 4: x/\.\./\.\./secret\.jpg lies outside"),
        ("/etc/passwd 3", r"line 4: /etc/passwd lies outside"),
        ("ROOT/secret.jpg 3", r"line 4: .*secret\.jpg lies outside"),
        ("000004.jpg", r"line 4: expected a line an image"),
        ("000004.jpg -1", r"line 4: expected an identity, a name or a whole number from 0, got '-1'"),
        ("000004.jpg 1.5", r"line 4: expected an identity.*got '1.5'"),
        ("000004.jpg nan", r"line 4: expected an identity.*got 'nan'"),
        ("000001.jpg 99", r"line 4: 000001\.jpg is of 99 here and of 2880 in line 1"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path: Path, images: Path, line: str, reason: str) -> None:
    (tmp_path / "secret.jpg").write_bytes((images / _name(0)).read_bytes())
    lines = [f"{_name(number)} {person}" for number, person in enumerate(PEOPLE)]
    lines.insert(3, line)
    with pytest.raises(DatasetError, match=reason) as caught:
        pack(images, tmp_path / "out", workers=1, list_file=_list(tmp_path, lines))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_list_of_other_files_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of its first 2 lines names a file.*insightface's.*im2rec"):
        pack(images, tmp_path / "out", list_file=_list(tmp_path, ["a.jpg 1", "b.jpg 2"]))
    with pytest.raises(DatasetError, match=r"none\.txt: cannot be read: No such file"):
        pack(images, tmp_path / "out", list_file=tmp_path / "none.txt")
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        pack(tmp_path / "nowhere", tmp_path / "out", list_file=_list(tmp_path, ["a.jpg 1"]))
    # Without a list, a flat folder says how to give one.
    with pytest.raises(DatasetError, match=r"holds no images in sub-folders.*--list FILE"):
        pack(images, tmp_path / "out")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, images: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes((images / _name(9)).read_bytes())
    (images / _name(9)).unlink()
    (images / _name(9)).symlink_to(tmp_path / "secret.jpg")
    file = _list(tmp_path, [f"{_name(number)} {person}" for number, person in enumerate(PEOPLE)])
    report = pack(images, tmp_path / "out", workers=1, list_file=file)
    assert report.num_images == 9
    ((path, reason),) = report.skipped
    assert path.name == _name(9)
    assert reason.startswith("a link to a file outside")
    assert pack(images, tmp_path / "all", workers=1, list_file=file, follow_links=True).num_images == 10


SCRIPT = """
import os, signal, sys
from pathlib import Path
import data_pipeline.pack.work as pack_work
from data_pipeline.pack.pack import pack
pack_work.COMMIT_INTERVAL_S = 0.0
commit = pack_work.PackWork.commit
def killed(work, *, now=False):
    commit(work, now=now)
    if work.position >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
pack_work.PackWork.commit = killed
if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]), workers=1, list_file=Path(sys.argv[3]))
"""


def test_a_killed_pack_goes_on_with_the_same_list_alone(tmp_path: Path, images: Path) -> None:
    lines = [f"{_name(number)} {person}" for number, person in enumerate(PEOPLE)]
    file = _list(tmp_path, lines)
    pack(images, tmp_path / "whole", workers=1, list_file=file)
    arguments = [sys.executable, "-c", SCRIPT, str(images), str(tmp_path / "out"), str(file)]
    done = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / ".out.packing" / "committed.json").exists()
    _list(tmp_path, [*lines[:-1], "000010.jpg 7"])
    with pytest.raises(DatasetError, match=r"an unfinished pack is there, made with --list"):
        pack(images, tmp_path / "out", workers=1, list_file=file)
    _list(tmp_path, lines)
    pack(images, tmp_path / "out", workers=1, list_file=file)
    for name in ("train.rec", "train.idx", "property", "identities.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.real_faces
def test_faces_of_lfw_in_one_folder_are_the_records_of_those_in_folders(
    shared_data: Path, tmp_path: Path
) -> None:
    lfw = shared_data / "lfw" / "images"
    people = [folder for folder in sorted(lfw.iterdir()) if len(list(folder.iterdir())) >= 5][:12]
    lines = []
    for place, (person, view) in enumerate(itertools.product(people, range(1, 6))):
        name = f"{person.name}_{view:04}.jpg"
        for path in (tmp_path / "flat" / name, tmp_path / "folders" / person.name / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((person / name).read_bytes())
        lines.append(f"{place}\t{people.index(person)}\t{name}")
    pack(tmp_path / "folders", tmp_path / "out0", workers=1)
    pack(tmp_path / "flat", tmp_path / "out1", workers=1, list_file=_list(tmp_path, lines))
    assert (tmp_path / "out0" / "train.rec").read_bytes() == (tmp_path / "out1" / "train.rec").read_bytes()

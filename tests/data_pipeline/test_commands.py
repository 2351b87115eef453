from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import FaceDataset
from data_pipeline.commands import (
    InspectOptions,
    PackOptions,
    PairsOptions,
    UnpackOptions,
    inspect,
    pack,
    pairs,
    unpack,
)
from data_pipeline.errors import DataInputError
from data_pipeline.images.decode import decode_image
from data_pipeline.pairs import read_bin
from data_pipeline.rendered import render_face
from trainer.command_line import parse
from trainer.errors import TrainerInputError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for identity, name in enumerate(("Ann", "Bob")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in (1, 2):
            face = render_face(identity, number, size=64)
            cv2.imwrite(str(tmp_path / "images" / name / f"{name}_{number:04d}.png"), face[..., ::-1])
    return tmp_path / "images"


def test_options_are_parsed_with_two_numbers_for_a_size() -> None:
    options = parse(
        PackOptions, ["in", "out", "--size", "112", "96", "--align", "mtcnn"], prog="cosface pack"
    )
    assert options == PackOptions(images=Path("in"), out=Path("out"), align="mtcnn", size=(112, 96))
    options = parse(PairsOptions, ["pairs.txt", "in", "out.bin", "--fold", "3"], prog="cosface pairs")
    assert (options.fold, options.align) == (3, "mtcnn")
    assert parse(InspectOptions, ["set"], prog="cosface inspect") == InspectOptions(Path("set"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["in"], "OUT|out"),
        (["in", "out", "--size", "112"], "size"),
        (["in", "out", "--size", "0", "112"], "--size must be between 8 and 4096 pixels"),
        (["in", "out", "--quality", "101"], "--quality must be between 1 and 100, got 101"),
        (["in", "out", "--workers", "-1"], "--workers must be 0 or more"),
        (["in", "out", "--align", "dlib"], "align"),
        (["in", "out", "--align", "landmarks"], "--landmarks must name a file"),
        (["in", "out", "--landmarks", "points.txt"], "--landmarks must go with --align landmarks"),
        (["in", "out", "--min-images", "0"], "--min-images must be 1 or more, got 0"),
        (["in", "out", "--qualty", "90"], "quality"),
    ],
)
def test_wrong_options_are_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(TrainerInputError, match=message) as caught:
        parse(PackOptions, argv, prog="cosface pack")
    assert "\n" not in str(caught.value)


def test_pack_then_inspect(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "Ann" / "notes.txt").write_text("no image")
    assert pack(PackOptions(images=images, out=tmp_path / "set", workers=1)) == 0
    printed = capsys.readouterr().out
    assert "4 images of 2 identities" in printed
    assert "1 files left out" in printed
    assert "notes.txt: no image that can be decoded" in printed
    assert inspect(InspectOptions(tmp_path / "set", json=tmp_path / "new" / "report.json")) == 0
    assert "damaged records: none" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "report.json").read_text())["images"] == 4


def test_inspect_exits_with_1_for_a_damaged_record(images: Path, tmp_path: Path) -> None:
    pack(PackOptions(images=images, out=tmp_path / "set", workers=1))
    with FaceDataset.open(tmp_path / "set") as dataset:
        payload = bytes(dataset.payload(2))
        rec = (tmp_path / "set" / "train.rec").read_bytes()
    (tmp_path / "set" / "train.rec").write_bytes(rec.replace(payload, bytes(len(payload))))
    assert inspect(InspectOptions(tmp_path / "set")) == 1


def test_a_report_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    pack(PackOptions(images=images, out=tmp_path / "set", workers=1))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataInputError, match=r"report\.json: cannot be written"):
        inspect(InspectOptions(tmp_path / "set", json=tmp_path / "file" / "report.json"))


def test_pairs_of_a_list(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.txt").write_text("1\nAnn\t1\t2\nAnn\t1\tBob\t2\n")
    options = PairsOptions(
        pairs=tmp_path / "pairs.txt", images=images, out=tmp_path / "out.bin", align="none", workers=1
    )
    assert pairs(options) == 0
    assert "2 pairs of 3 different images" in capsys.readouterr().out
    made = read_bin(tmp_path / "out.bin")
    assert made.same == [True, False]
    image = decode_image(made.images[0])
    assert image is not None
    assert image.shape == (112, 112, 3)
    assert np.array_equal(image, decode_image(made.images[2]))


def test_pairs_take_files_from_outside_only_when_told(images: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("../Ann/Ann_0001.png Bob_0001.png 0\nBob_0001 Bob_0002 1\n")
    argv = [str(tmp_path / "pairs.txt"), str(images / "Bob"), str(tmp_path / "out.bin"), "--align", "none"]
    with pytest.raises(DataInputError, match=r"line 1: '\.\./Ann/Ann_0001\.png' lies outside"):
        pairs(parse(PairsOptions, argv, prog="cosface pairs"))
    assert pairs(parse(PairsOptions, [*argv, "--outside", "--workers", "1"], prog="cosface pairs")) == 0


def test_unpack_tells_sets_apart(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        (images / "Ann" / f"{number}.png").write_bytes((images / "Bob" / f"Bob_000{number}.png").read_bytes())
    pack(PackOptions(images=images, out=tmp_path / "set", workers=1))
    capsys.readouterr()
    assert unpack(UnpackOptions(tmp_path / "set", tmp_path / "files")) == 0
    assert "files: 6 images of 2 identities" in capsys.readouterr().out
    (tmp_path / "pairs.csv").write_text("Ann/1.jpg,Bob/5.jpg,0")
    pairs(
        PairsOptions(
            pairs=tmp_path / "pairs.csv", images=tmp_path / "files", out=tmp_path / "p.bin", align="none"
        )
    )
    capsys.readouterr()
    assert unpack(UnpackOptions(tmp_path / "p.bin", tmp_path / "back")) == 0
    assert "back/pairs.txt: 1 pairs, 2 images" in capsys.readouterr().out
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert (tmp_path / "back" / "images" / "0_b.jpg").read_bytes() == bytes(dataset.payload(4))
        damaged = bytes(dataset.payload(1))
    rec = tmp_path / "set" / "train.rec"
    # The record's magic word, 32 bytes before its image.
    at = rec.read_bytes().index(damaged) - 32
    rec.write_bytes(rec.read_bytes()[:at] + b"xxxx" + rec.read_bytes()[at + 4 :])
    assert unpack(UnpackOptions(tmp_path / "set", tmp_path / "rest")) == 1
    assert f"train.rec: byte {at}: " in capsys.readouterr().out

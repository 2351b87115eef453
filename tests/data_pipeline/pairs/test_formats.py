"""Lists of pairs as the field hands them out, made into files laid out as theirs are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.errors import PairSetError
from data_pipeline.images.decode import decode_image
from data_pipeline.pairs import build_pairs, read_bin
from data_pipeline.pairs.reading import detect_format, read_pairs

Expected = list[tuple[str, str, bool, int]]


def _image(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((16, 16, 3), grey, dtype=np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.jpg", "b.jpg", "c.png", "d e.jpg", "sub/f.jpg")):
        _image(tmp_path / "images" / name, 20 * number)
    return tmp_path / "images"


def _read(tmp_path: Path, images: Path, text: str) -> Expected:
    (tmp_path / "pairs.txt").write_text(text)
    return [
        (str(pair.first.relative_to(images)), str(pair.second.relative_to(images)), pair.same, pair.fold)
        for pair in read_pairs(tmp_path / "pairs.txt", images)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg b.jpg 1\nc.png sub/f.jpg 0\n",
        "a.jpg\tb.jpg\t1\r\nc.png\tsub/f.jpg\t-1\r\n",
        "a.jpg,b.jpg,1\n\nc.png, sub/f.jpg, 0",
        "first,second,same\na.jpg,b.jpg,True\nc.png,sub/f.jpg,False\n",
        "1 a.jpg b.jpg\n0 c.png sub/f.jpg\n",
        "\ufeffimages/a.jpg images/b.jpg 1\nimages/c.png images/sub/f.jpg 0\n",
        # AgeDB's names have no suffix in some lists, and another one in aligned copies.
        "a b 1\nc.jpg sub/f.png 0\n",
    ],
)
def test_plain_lists_in_every_form(tmp_path: Path, images: Path, text: str) -> None:
    assert _read(tmp_path, images, text) == [
        ("a.jpg", "b.jpg", True, 0),
        ("c.png", "sub/f.jpg", False, 0),
    ]
    assert detect_format(tmp_path / "pairs.txt") == "list"


def test_names_with_spaces_need_commas_or_tabs(tmp_path: Path, images: Path) -> None:
    for separator in (",", "\t"):
        row = separator.join(["d e.jpg", "a.jpg", "1"])
        assert _read(tmp_path, images, row) == [("d e.jpg", "a.jpg", True, 0)]


def test_a_fourth_column_is_the_fold(tmp_path: Path, images: Path) -> None:
    text = "a.jpg,b.jpg,1,1\na.jpg,c.png,0,0\na.jpg,d e.jpg,0,1\n"
    assert _read(tmp_path, images, text) == [
        ("a.jpg", "c.png", False, 1),
        ("a.jpg", "b.jpg", True, 2),
        ("a.jpg", "d e.jpg", False, 2),
    ]


def test_calfw_lists_are_dealt_out_to_ten_folds(tmp_path: Path) -> None:
    images = tmp_path / "aligned images"
    same = [(f"P_{n:04}.jpg", f"P_{n + 100:04}.jpg") for n in range(20)]
    different = [(f"Q_{n:04}.jpg", f"Q_{n + 100:04}.jpg") for n in range(20)]
    for name in (name for pair in same + different for name in pair):
        _image(images / name)
    # CALFW writes the fold behind same ones, CPLFW a 1, and both 0 behind different ones.
    lines = [f"{name} {1 + n // 2}" for n, pair in enumerate(same) for name in pair]
    lines += [f"{name} 0" for pair in different for name in pair]
    read = _read(tmp_path, images, "\n".join(lines))
    assert detect_format(tmp_path / "pairs.txt") == "calfw"
    expected = []
    for fold in range(10):
        expected += [(*pair, True, fold + 1) for pair in same[2 * fold : 2 * fold + 2]]
        expected += [(*pair, False, fold + 1) for pair in different[2 * fold : 2 * fold + 2]]
    assert read == expected


def _cfp(root: Path, people: int = 20, folds: int = 10) -> None:
    """A small set in CFP's layout; image numbers run over people, then over views."""
    lists: dict[str, list[str]] = {"F": [], "P": []}
    for kind, folder, views in (("F", "frontal", 3), ("P", "profile", 2)):
        for person in range(1, people + 1):
            for view in range(1, views + 1):
                path = f"Data/Images/{person:03}/{folder}/{view:02}.jpg"
                _image(root / path, 10 * person if kind == "F" else 10 * person + 5)
                lists[kind].append(f"{len(lists[kind]) + 1}  ../{path}")
    for kind, lines in lists.items():
        (root / "Protocol").mkdir(exist_ok=True)
        (root / "Protocol" / f"Pair_list_{kind}.txt").write_text("\r\n".join(lines) + "\r\n")
    for kind, views in (("FF", 3), ("FP", 2)):
        for fold in range(folds):
            folder = root / "Protocol" / "Split" / kind / f"{fold + 1:02}"
            folder.mkdir(parents=True)
            people_here = (2 * fold, 2 * fold + 1)
            second = {person: person * views + 2 for person in people_here}
            same = [f"{3 * person + 1},{second[person]}" for person in people_here]
            diff = [
                f"{3 * person + 1},{second[people_here[1 - place]]}"
                for place, person in enumerate(people_here)
            ]
            (folder / "same.txt").write_text("\n".join(same) + "\n")
            (folder / "diff.txt").write_text("\n".join(diff))


@pytest.mark.parametrize("kind", ["FF", "FP"])
def test_cfps_protocol_becomes_a_set(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "cfp-dataset"
    _cfp(root)
    split = root / "Protocol" / "Split" / kind
    report = build_pairs(split, root, tmp_path / "cfp.bin", size=(16, 16), workers=1)
    assert (report.num_pairs, report.notes) == (40, [])
    pairs = read_bin(tmp_path / "cfp.bin")
    assert pairs.same == [True, True, False, False] * 10
    greys = [int(image.mean().round()) for image in map(decode_image, pairs.images) if image is not None]
    profile = 5 if kind == "FP" else 0
    # Frontal pictures of person n have the grey 10 n, profiles 10 n + 5.
    a, b = 10 * (2 * 3 + 1), 10 * (2 * 3 + 2)
    fold_4 = [a, a + profile, b, b + profile, a, b + profile, b, a + profile]
    np.testing.assert_allclose(greys[3 * 8 : 4 * 8], fold_4, atol=1)
    build_pairs(split, root, tmp_path / "four.bin", fold=4, size=(16, 16), workers=1)
    assert read_bin(tmp_path / "four.bin").same == [True, False, True, False]


def test_an_aligned_copy_of_cfp_may_start_below(tmp_path: Path) -> None:
    root = tmp_path / "cfp-dataset"
    _cfp(root)
    (root / "Data" / "Images").rename(tmp_path / "aligned")
    pairs = read_pairs(root / "Protocol" / "Split" / "FP", tmp_path / "aligned")
    assert pairs[0].first == tmp_path / "aligned" / "001" / "frontal" / "01.jpg"
    assert pairs[0].second == tmp_path / "aligned" / "001" / "profile" / "02.jpg"


@pytest.mark.parametrize("suffix", [".JPG", ".PNG", ".jpeg"])
def test_cfps_images_may_have_another_suffix(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "cfp-dataset"
    _cfp(root)
    for file in list(root.glob("Data/Images/*/*/*.jpg")):
        file.rename(file.with_suffix(suffix))
    pairs = read_pairs(root / "Protocol" / "Split" / "FP", root)
    assert len(pairs) == 40
    assert pairs[0].first == root / "Data" / "Images" / "001" / "frontal" / f"01{suffix}"


def test_cfps_images_lie_in_the_folder_too(tmp_path: Path) -> None:
    root, split = tmp_path / "cfp-dataset", tmp_path / "cfp-dataset" / "Protocol" / "Split" / "FP"
    _cfp(root)
    (root / "Data" / "Images").rename(tmp_path / "elsewhere")
    (root / "Data" / "Images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PairSetError, match=r"Pair_list_F\.txt: line 1: .* lies outside"):
        read_pairs(split, root)
    assert len(read_pairs(split, root, outside=True)) == 40


def test_what_is_wrong_with_cfp_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / "cfp-dataset"
    _cfp(root)
    split = root / "Protocol" / "Split" / "FP"
    for wrong in (root, root / "Protocol" / "Split"):
        with pytest.raises(PairSetError, match=r"expected CFP's folder of splits"):
            read_pairs(wrong, root)
    with pytest.raises(PairSetError, match=r"Data/Images/001/frontal/01\.jpg: no such file"):
        read_pairs(split, tmp_path)
    (split / "02" / "diff.txt").write_text("1,4\n1,999\n")
    with pytest.raises(PairSetError, match=r"02/diff\.txt: line 2: there is no image 999"):
        read_pairs(split, root)
    (split / "02" / "diff.txt").write_text("1 frontal\n")
    with pytest.raises(PairSetError, match=r"02/diff\.txt: line 1: expected two numbers"):
        read_pairs(split, root)
    (split / "02" / "diff.txt").unlink()
    with pytest.raises(PairSetError, match=r"02/diff\.txt: cannot be read"):
        read_pairs(split, root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg b.jpg 1\na.jpg b.jpg\n", r"line 2: expected two paths and 1 \(same\) or 0"),
        ("a.jpg b.jpg 1\na.jpg b.jpg 2\n", "line 2: expected two paths"),
        ("a.jpg b.jpg 1\nx.jpg b.jpg 1\n", r"line 2: .*x\.jpg: no such file"),
        ("a.jpg 1\nb.jpg 0\n", "line 2: the pair's lines have the numbers 1 and 0"),
        ("a.jpg 1\nb.jpg 1\na.jpg 0\n", "line 3: the last pair has one line"),
        ("first,second,same\n", "expected LFW's header"),
        ("", "expected LFW's header"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(tmp_path: Path, images: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(PairSetError, match=message) as caught:
        read_pairs(tmp_path / "pairs.txt", images)
    assert str(caught.value).startswith(f"{tmp_path / 'pairs.txt'}: ")
    assert "\n" not in str(caught.value)


def test_no_text_is_no_list(tmp_path: Path, images: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\x89PNG\0\0\0")
    with pytest.raises(PairSetError, match=r"pairs\.txt: no text"):
        read_pairs(tmp_path / "pairs.txt", images)


def test_folds_that_a_bin_cannot_hold_are_said(tmp_path: Path, images: Path) -> None:
    def notes(lines: list[str], fold: int | None = None) -> list[str]:
        (tmp_path / "pairs.txt").write_text("\n".join(lines))
        out = tmp_path / "out.bin"
        return build_pairs(tmp_path / "pairs.txt", images, out, size=(16, 16), fold=fold, workers=1).notes

    mixed = ["a.jpg,b.jpg,1", "a.jpg,c.png,0"]
    assert notes(mixed * 20) == []
    assert notes([f"{line},{fold}" for fold in range(1, 11) for line in mixed]) == []
    uneven = [f"{line},{fold}" for fold in (1, 2, 3) for line in mixed * fold]
    assert notes(uneven) == [
        "the list has 3 folds of 2 to 6 pairs; a .bin has none of its own, whoever reads it takes 10 equal "
        "runs of pairs for folds"
    ]  # fmt: skip
    assert notes(uneven, fold=2) == []
    assert notes(["a.jpg,b.jpg,1"] * 20 + ["a.jpg,c.png,0"] * 20) == [
        "10 of the 10 equal runs of pairs have same or different ones alone: accuracy over such folds says "
        "little; mix the list"
    ]
    with pytest.raises(PairSetError, match="has no folds of its own"):
        notes(mixed, fold=1)

"""Lists of 20 pairs in the forms of `handed_out.py`: 20 pairs, 10 same, the folds kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.finder import ImageFinder
from data_pipeline.pairs.reading import detect_format, read_list, read_pairs
from tests.data_pipeline.pairs.handed_out import (
    FORMS,
    PEOPLE,
    Expected,
    card,
    expected,
    indexed,
    labelled,
    lfw,
    make_images,
    pairs,
    path,
    table,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("set") / "images")


def _written(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "pairs.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def _read(tmp_path: Path, images: Path, content: str | bytes) -> Expected:
    file = _written(tmp_path, content)
    return [
        (str(pair.first.relative_to(images)), str(pair.second.relative_to(images)), pair.same, pair.fold)
        for pair in read_pairs(file, images)
    ]


def _dealt(form: str, folds: bool) -> Expected:
    """CALFW's pairs are dealt out to ten folds."""
    if form != "CALFW":
        return expected(folds)
    kinds = [[pair for pair in expected() if pair[2] is kind] for kind in (True, False)]
    return [(*kind[fold][:3], fold + 1) for fold in range(10) for kind in kinds]


@pytest.mark.parametrize("form", FORMS)
def test_lists_as_they_are_handed_out(tmp_path: Path, images: Path, form: str) -> None:
    text, folds = FORMS[form]
    read = _read(tmp_path, images, text)
    wanted = _dealt(form, folds)
    assert sorted(read) == sorted(wanted) if "joined" in form else read == wanted
    assert (len(read), sum(pair[2] for pair in read)) == (20, 10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(
    tmp_path: Path, images: Path, form: str, encoding: str
) -> None:
    assert len(_read(tmp_path, images, FORMS[form][0].encode(encoding))) == 20


def test_names_with_spaces_in_lfws_form(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    for name in PEOPLE:
        for file in (images / name).iterdir():
            file.rename(file.with_name(file.name.replace("_", " ", file.stem.count("_") - 1)))
        (images / name).rename(images / name.replace("_", " "))
    text = lfw()
    for name in PEOPLE:
        text = text.replace(name, name.replace("_", " "))
    for spaced in (text, text.removeprefix("2\t5\n")):
        read = _read(tmp_path, images, spaced)
        assert [(pair[0].split("/")[0].replace(" ", "_"), pair[2], pair[3]) for pair in read] == [
            (name, same, fold) for name, _, _, _, same, fold in pairs()
        ]


def test_bare_numbers_are_names(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):
        (images / f"{number}.jpg").write_bytes(b"x")
    wanted = [(f"{2 * n}.jpg", f"{2 * n + 1}.jpg", n % 2 == 0, 0) for n in range(20)]
    rows = [[2 * n, 2 * n + 1, int(n % 2 == 0)] for n in range(20)]
    for text in (
        table(rows, " "),
        table([["a", "b", "label"], *rows]),
        table(indexed([["0", "1", "2"], *rows])),
        table(indexed(rows, header=False)),
        table([[label, a, b] for a, b, label in rows], "\t"),
    ):
        assert _read(tmp_path, images, text) == wanted
    lines = "".join(f"{2 * n} {int(n % 2 == 0)}\n{2 * n + 1} {int(n % 2 == 0)}\n" for n in range(20))
    assert sorted(pair[:3] for pair in _read(tmp_path, images, lines)) == sorted(pair[:3] for pair in wanted)


def test_people_called_by_numbers_in_lfws_form(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    text = lfw()
    for number, name in enumerate(PEOPLE):
        for file in (images / name).iterdir():
            file.rename(file.with_name(f"{number:07}{file.name[-9:]}"))
        (images / name).rename(images / f"{number:07}")
        text = text.replace(f"{name}\t", f"{number:07}\t")
    for form in (text, text.removeprefix("2\t5\n")):
        read = _read(tmp_path, images, form)
        assert [(pair[0][:7], pair[2:]) for pair in read] == [
            (f"{PEOPLE.index(name):07}", (same, fold)) for name, _, _, _, same, fold in pairs()
        ]


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("1.0 and 0.0", lambda line: line.replace(" 1.0", " 2").replace(" 0.0", " 2")),
        ("1.0 and 0.0", lambda line: line.rsplit(" ", 1)[0]),
        ("1.0 and 0.0", lambda line: line.split(" ", 1)[1]),
        ("fold before, as YTF's", lambda line: line.split(", ", 1)[1].rjust(80, ",")),
        ("fold before, as YTF's", lambda line: "," + line.split(",", 1)[1]),
        ("true and false", lambda line: line.replace("2.jpg", "2\t.jpg").replace("3.jpg", "3\t.jpg")),
        ("yes and no", lambda line: line.replace(".jpg ", ".jpg ,").rsplit(".jpg", 1)[0]),
        ("yes and no", lambda line: line.replace("yes", "yse").replace(" no", " on")),
        ("same and different, no header", lambda line: line + ",more,fields"),
        ("RFW, no header", lambda line: line.rsplit("\t", 1)[0] + "\tx"),
        ("RFW, no header", lambda line: line.split("\t")[0]),
        ("LFW", lambda line: line.split("\t")[0] if line.count("\t") > 1 else "2\t0"),
        ("CALFW", lambda line: line.split(" ")[0]),
        ("CALFW", lambda line: line.replace(" ", ",x ")),
        ("FGLFW", lambda line: line + " more"),
    ],
)
def test_no_pair_is_lost_with_a_line_that_is_not_understood(
    tmp_path: Path, images: Path, form: str, change: object, number: int
) -> None:
    assert callable(change)
    lines = FORMS[form][0].splitlines()
    lines[number - 1] = change(lines[number - 1])
    with pytest.raises(PairSetError, match=rf"pairs\.txt: line {number}: ") as caught:
        _read(tmp_path, images, "\n".join(lines))
    assert "\n" not in str(caught.value)


def test_a_first_pair_whose_images_are_missing_is_no_header(tmp_path: Path, images: Path) -> None:
    rest = table(labelled(), " ").split("\n", 1)[1]
    for first, reason in (
        ("no.jpg nor.jpg 1", r"line 1: .*no\.jpg: no such file"),
        ("no.jpg nor.jpg 2", "line 1: expected two paths"),
        ("no nor 1", "line 1: .*no: no such file"),
        ("no nor 2", "line 1: expected two paths"),
    ):
        with pytest.raises(PairSetError, match=reason):
            _read(tmp_path, images, f"{first}\n{rest}")
    with pytest.raises(PairSetError, match=r"line 1: .*Nobody/Nobody_0001\.jpg: no such file"):
        _read(tmp_path, images, "Nobody\t1\t2\n" + lfw(header=""))


def test_a_fold_that_the_header_names_and_that_is_none(tmp_path: Path, images: Path) -> None:
    text = card(["fold_id", "image_a_path", "image_b_path", "is_same"])
    assert (
        _read(tmp_path, images, text.replace("\n1,", "\nfold_0,").replace("\n2,", "\nfold_1,")) == expected()
    )
    with pytest.raises(PairSetError, match="line 2: expected two paths"):
        _read(tmp_path, images, text.replace("\n1,", "\nfirst,"))


def test_a_header_that_does_not_name_the_label(tmp_path: Path, images: Path) -> None:
    header, rows = ["one", "two", "verdict"], [[a, b, int(same)] for a, b, same, _ in expected()]
    assert _read(tmp_path, images, table([header, *rows])) == expected(False)
    assert _read(tmp_path, images, "Pairs of the set, in its order\n" + table(rows)) == expected(False)
    folded = [[*row, fold - 1] for row, (*_, fold) in zip(rows, expected(), strict=True)]
    assert _read(tmp_path, images, table([[*header, "fold"], *folded])) == expected()
    numbers = [[*row, n % 2] for n, row in enumerate(rows)]
    with pytest.raises(PairSetError, match=r"expected two paths and 1 .* in columns of their own"):
        read_list(_written(tmp_path, table([[*header, "x"], *numbers])), ImageFinder(images), "list")


def test_two_columns_that_may_be_the_label(tmp_path: Path, images: Path) -> None:
    rows = [[n % 2, a, b, int(same)] for n, (a, b, same, _) in enumerate(expected())]
    with pytest.raises(PairSetError, match="columns 1 and 4 both hold 1 and 0"):
        _read(tmp_path, images, table(rows))
    assert _read(tmp_path, images, table([["x", "path1", "path2", "same"], *rows])) == expected(False)


def test_zero_and_minus_one_are_not_both_different(tmp_path: Path, images: Path) -> None:
    text = table(labelled(1, 0), " ").replace(" 0\n", " -1\n", 1)
    with pytest.raises(PairSetError, match="line 7: different pairs are 0 on line 7 and -1 on line 6"):
        _read(tmp_path, images, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "first,second,same\n",
        "some text\nof two lines\n",
        "".join(f"{path(name, 1)} {path(name, 2)}\n" for name in PEOPLE),
        "".join(f"{path(name, 1)} {path(name, 2)} 0.53\n" for name in PEOPLE),
        "".join(f"{path(name, 1)} {n}\n" for n, name in enumerate(PEOPLE))[::-1],
    ],
)
def test_what_is_not_recognised_says_what_was_looked_for(tmp_path: Path, images: Path, text: str) -> None:
    with pytest.raises(PairSetError) as caught:
        _read(tmp_path, images, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'pairs.txt'}: ")
    assert all(f"({form})" in message for form in ("--format lfw", "list", "calfw", "fglfw", "cfp"))
    assert "\n" not in message


def test_a_list_of_a_path_a_line_must_fit_its_names(tmp_path: Path, images: Path) -> None:
    lines = FORMS["FGLFW"][0].splitlines()
    shuffled = lines[:2] + lines[20:22] + lines[2:20] + lines[22:]
    with pytest.raises(PairSetError, match="the files' names do not fit this"):
        _read(tmp_path, images, "\n".join(shuffled))
    with pytest.raises(PairSetError, match="line 39: the last pair has one line"):
        _read(tmp_path, images, "\n".join(lines[:-1]))


def test_uneven_folds_of_a_list_without_a_header(tmp_path: Path, images: Path) -> None:
    lines = lfw(header="").splitlines()
    assert [pair[3] for pair in _read(tmp_path, images, "\n".join(lines[1:]))] == [1] * 9 + [2] * 10
    mixed = [line for pair in zip(lines, lines[::-1], strict=True) for line in pair]
    assert {pair[3] for pair in _read(tmp_path, images, "\n".join(mixed[:3] + lines))} == {0}


@pytest.mark.real_faces
def test_lfw_in_rfws_and_kaggles_form(shared_data: Path, tmp_path: Path) -> None:
    """The real list, 6,000 pairs in ten folds."""
    images = shared_data / "lfw" / "images"
    original = read_pairs(shared_data / "lfw" / "pairs.txt", images)
    header, lines = (shared_data / "lfw" / "pairs.txt").read_text().split("\n", 1)
    (tmp_path / "rfw.txt").write_text(lines)
    rows = [line.split("\t") for line in lines.splitlines()]
    (tmp_path / "kaggle.csv").write_text(
        table([["name", "imagenum1", "imagenum2", ""], *([*row, ""][:4] for row in rows)])
    )
    (tmp_path / "fglfw.txt").write_text(
        "".join(f"{end.relative_to(images)}\n" for pair in original for end in (pair.first, pair.second))
    )
    for name in ("rfw.txt", "kaggle.csv", "fglfw.txt"):
        assert read_pairs(tmp_path / name, images) == original
    assert (header, detect_format(tmp_path / "fglfw.txt")) == ("10\t300", "fglfw")

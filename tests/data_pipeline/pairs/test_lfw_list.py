"""LFW's own list, as `read_lfw_pairs` gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.errors import PairSetError
from data_pipeline.pairs import read_lfw_pairs

LIST = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\nBob\t1\t2\nBob\t2\tAnn\t10\n"


def test_lfw_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(LIST)
    pairs = read_lfw_pairs(tmp_path / "pairs.txt")
    assert [
        (p.first_name, p.first_number, p.second_name, p.second_number, p.same, p.fold) for p in pairs
    ] == [
        ("Ann", 1, "Ann", 2, True, 1),
        ("Ann", 1, "Bob", 3, False, 1),
        ("Bob", 1, "Bob", 2, True, 2),
        ("Bob", 2, "Ann", 10, False, 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected LFW's header"),
        ("Ann 1 2 3 4\n", "line 1: expected 'name n1 n2'"),
        ("Ann 1 2\nAnn x 2\n", "line 2: expected 'name n1 n2'"),
        ("Ann 1 2\nAnn 1 Ann 2\n", "line 2: a different pair of one person"),
        ("0\t5\n", "line 1: expected LFW's header"),
        (LIST.replace("2\t1\n", "2\t2\n"), "line 1: the header promises 8 pairs"),
        (
            LIST.replace("Ann\t1\t2", "Ann\t1"),
            r"line 2: expected 'name n1 n2' \(a same pair\), got 'Ann\\t1'",
        ),
        (LIST.replace("Ann\t1\tBob\t3", "Ann\t1\tBob"), "line 3: expected 'name1 n1 name2 n2'"),
        (LIST.replace("Bob\t3", "Bob\tx"), "line 3: expected 'name1 n1 name2 n2'"),
        (LIST.replace("Bob\t1\t2", "../Bob\t1\t2"), "line 4: '../Bob' is no name"),
    ],
)
def test_a_wrong_list_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(PairSetError, match=rf"pairs\.txt: {message}"):
        read_lfw_pairs(tmp_path / "pairs.txt")


@pytest.mark.real_faces
def test_lfws_own_lists_are_read(shared_data: Path) -> None:
    pairs = read_lfw_pairs(shared_data / "lfw" / "pairs.txt")
    assert len(pairs) == 6000
    assert [sum(p.same for p in pairs if p.fold == fold) for fold in range(1, 11)] == [300] * 10
    assert len(read_lfw_pairs(shared_data / "lfw" / "pairsDevTrain.txt")) == 2200

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import DataInputError, RecordError, RecordReader, RecordWriter
from data_pipeline.records.index import KeyTable, read_index

REC = Path("a.rec")


def write(folder: Path, count: int, payload: bytes = b"abc", name: str = "a") -> tuple[Path, Path]:
    rec, idx = folder / f"{name}.rec", folder / f"{name}.idx"
    with RecordWriter(rec, idx) as out:
        for key in range(count):
            out.write(key, label=float(key), id=key, payload=payload * (1 + key % 3))
    return rec, idx


def naive(text: str) -> tuple[list[int], list[int]]:
    pairs = [line.split() for line in text.splitlines() if line.strip()]
    return [int(key) for key, _ in pairs], [int(offset) for _, offset in pairs]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "0\t0\n",
        "0\t0",
        "\n\n0\t0\n\n1\t36\n",
        "0\t0\r\n1\t36\r\n",
        "0\t0\r\n\r\n1\t36",
        "0 0\n1  36\n",
        " 0\t0 \n",
        "-4\t0\n3\t36\n",
        "007\t0000000000000036\n",
        "12345678\t123456789\n",
        "1234567812345678\t9999999999999999\n",
        "12345678123456789\t1\n",
        "9223372036854775807\t-9223372036854775808\n",
        "".join(f"{key}\t{key * key * 4}\n" for key in range(3000)),
        "".join(f"{10**size - 1}\t{10**size}\n" for size in range(1, 18)),
    ],
)
def test_numbers_are_those_of_a_naive_reading(tmp_path: Path, text: str) -> None:
    idx = tmp_path / "a.idx"
    idx.write_bytes(text.encode())
    keys, offsets = read_index(idx, REC)
    assert (keys.tolist(), offsets.tolist()) == naive(text)


def test_lines_across_the_borders_of_what_is_read_at_once(tmp_path: Path) -> None:
    idx = tmp_path / "a.idx"
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 10 ** rng.integers(1, 17, size=(300_000, 2)))
    regular = "".join(f"{key}\t{offset}\n" for key, offset in expected.tolist())
    for text in (regular, regular.replace("\n", "\r\n"), regular.replace("\n", "\n\n", 1), regular[:-1]):
        idx.write_bytes(text.encode())
        keys, offsets = read_index(idx, REC)
        assert np.array_equal(np.stack([keys, offsets], 1), expected)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0\t0\n1\n", 2),
        ("0\n1\n", 1),
        ("0\t0\t8\n", 1),
        ("0\t0\n1\t36\t2\t72\n", 2),
        ("0\t0\n1\t36\t2\n72\n", 2),
        ("0\t0\n\t36\n", 2),
        ("0\t0\t8\n1\t36\t8\n", 1),
        ("zero\t0\n", 1),
        ("0\t0.5\n", 1),
        ("0\t1e3\n", 1),
        ("0\t+4\n", 1),
        ("0\t--4\n", 1),
        ("1_0\t4\n", 1),
        ("0\t9223372036854775808\n", 1),
        ("0\t99999999999999999999999999\n", 1),
        ("-9223372036854775809\t0\n", 1),
        ("0\t0\n\n1\t36\nnonsense", 4),
        ("0\t0\n1\t36\n\0\0\0\0\0\0", 3),
        ("0\t0\n" + "7" * 10_000, 2),
        ("\ufeff0\t0\n", 1),
        ("0\t0\n" * 300_000 + "0\tx\n", 300_001),
        ("\0" * 3_000_000, 1),
    ],
)
def test_what_is_no_index_is_refused_by_its_line(tmp_path: Path, text: str, line: int) -> None:
    rec, idx = write(tmp_path, 2)
    idx.write_bytes(text.encode())
    with pytest.raises(DataInputError, match=rf"line {line} is .*no index of") as caught:
        RecordReader(rec, idx)
    message = str(caught.value)
    assert str(idx) in message
    assert str(rec) in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0\t0\n1\t99999\n", "past the end"),
        ("0\t9223372036854775804\n", "past the end"),
        ("0\t-4\n", "below 0"),
        ("0\t2\n", "4-byte"),
        ("0\t0\n1\t4\n", "no record starts here"),
        ("0\t0\n0\t0\n", "stands twice"),
        ("0\t0\n9999999999\t0\n0\t0\n", "stands twice"),
    ],
)
def test_an_index_that_does_not_fit_names_both_files(tmp_path: Path, index: str, message: str) -> None:
    rec, idx = write(tmp_path, 1)
    idx.write_text(index)
    with pytest.raises(DataInputError, match=message) as caught:
        RecordReader(rec, idx)
    assert str(idx) in str(caught.value)
    assert str(rec) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_in_any_order(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, 50)
    lines = idx.read_text().splitlines(keepends=True)
    order = np.random.default_rng(1).permutation(50)
    idx.write_text("".join(lines[place] for place in order))
    with RecordReader(rec, idx) as records:
        assert list(records.keys()) == order.tolist()
        assert [records[key].label for key in range(50)] == list(map(float, range(50)))
        assert records.unindexed_bytes == 0


def test_an_index_of_another_file(tmp_path: Path) -> None:
    rec, _ = write(tmp_path, 300, b"abcd")
    _, other = write(tmp_path, 100, b"x" * 13, "b")
    # Its last entry happens to fit, so only a look at others tells.
    with RecordReader(rec) as records:
        last = int(records.offsets[-1])
    other.write_text(other.read_text() + f"100\t{last}\n")
    with pytest.raises(RecordError, match="index is of another file") as caught:
        RecordReader(rec, other)
    assert (caught.value.file, str(other) in str(caught.value)) == (rec, True)


def test_one_damaged_record_does_not_make_an_index_foreign(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, 20)
    with RecordReader(rec, idx) as records:
        offset = int(records.offsets[0])
    content = bytearray(rec.read_bytes())
    content[offset] ^= 1
    rec.write_bytes(content)
    with RecordReader(rec, idx) as records:
        assert records[1].payload == b"abc" * 2
        with pytest.raises(RecordError, match="no record starts here"):
            records[0]


def test_a_file_that_grew_after_its_index_was_written(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, 10)
    index = idx.read_text()
    with RecordReader(rec, idx) as records:
        fifth = int(records.offsets[5])
    idx.write_text("".join(index.splitlines(keepends=True)[:5]))
    with RecordReader(rec, idx) as records:
        assert list(records.keys()) == list(range(5))
        assert records.unindexed_bytes == rec.stat().st_size - fifth
    idx.write_text("")
    with RecordReader(rec, idx) as records:
        assert (len(records), records.unindexed_bytes) == (0, rec.stat().st_size)


def test_a_file_cut_after_its_index_was_written(tmp_path: Path) -> None:
    rec, idx = write(tmp_path, 10)
    with RecordReader(rec, idx) as records:
        fifth = int(records.offsets[5])
    os.truncate(rec, fifth)
    with pytest.raises(RecordError, match="past the end") as caught:
        RecordReader(rec, idx)
    assert str(idx) in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "pipe", "file as folder"])
def test_an_index_that_is_no_file(tmp_path: Path, kind: str) -> None:
    rec, idx = write(tmp_path, 1)
    idx.unlink()
    if kind == "file as folder":
        with RecordReader(rec, rec / "a.idx") as records:
            assert list(records.keys()) == [0]
        return
    if kind == "folder":
        idx.mkdir()
    else:
        os.mkfifo(idx)
    with pytest.raises(DataInputError, match="cannot be opened as an index") as caught:
        RecordReader(rec, idx)
    assert str(idx) in str(caught.value)


def test_a_huge_index_takes_little_beyond_its_numbers(tmp_path: Path) -> None:
    idx = tmp_path / "a.idx"
    count = 400_000
    idx.write_text("".join(f"{key}\t{5000 * key}\n" for key in range(count)))
    tracemalloc.start()
    try:
        keys, offsets = read_index(idx, REC)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(offsets, 5000 * keys)
    assert peak < 16 * count + 16 * 2**20


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [5],
        [3, 4, 5, 6],
        [-2, -1, 0],
        [6, 3, 5, 4],
        [9, 3, 7],
        [1, 10**12, -(10**12)],
        [2**63 - 1, -(2**63)],
        [2**63 - 1],
        [4, 2, 4, 3],
        [10**15, 3, 3],
    ],
)
def test_keys_are_found_where_a_dict_finds_them(keys: list[int]) -> None:
    table = KeyTable(np.array(keys, dtype=np.int64))
    places = {key: place for place, key in enumerate(keys)}
    asked = sorted({*keys, *(key + step for key in keys for step in (-1, 1)), 0, 2**63 - 1, -(2**63)})
    asked = [key for key in asked if -(2**63) <= key < 2**63]
    expected = [places.get(key, -1) for key in asked]
    assert table.positions(np.array(asked, dtype=np.int64)).tolist() == expected
    assert [table.position(key) for key in asked] == expected
    assert table.position(2**64) == table.position(-(2**70)) == -1
    assert table.twice == next((key for key in keys if keys.count(key) > 1), None)

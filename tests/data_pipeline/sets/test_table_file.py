"""An image table's file: what comes back, what is noticed, and what is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.sets.table import ImageTable, make_table
from data_pipeline.sets.table_file import MAGIC, read_table, write_table

STATE = {"set": "x", "files": []}


def table(images: int) -> ImageTable:
    place = np.arange(images) << 3
    return make_table([(place, place % 7, np.full(images, 9))], 7, (4, 5))


def test_extremes_and_digests_come_back_with_the_columns(tmp_path: Path) -> None:
    written = table(1000)
    write_table(tmp_path / "t", STATE, written)
    found = read_table(tmp_path / "t", STATE)
    assert found is not None
    assert np.array_equal(found.label, written.label)
    assert written.kept is None
    assert found.kept == written.digests()
    assert found.digests() is found.kept
    assert [entry.name for entry in tmp_path.iterdir()] == ["t"]


def test_every_flipped_bit_of_the_header_is_noticed(tmp_path: Path) -> None:
    write_table(tmp_path / "t", STATE, table(1000))
    content = (tmp_path / "t").read_bytes()
    length = int.from_bytes(content[len(MAGIC) : len(MAGIC) + 8], "little")
    for at in range(len(MAGIC) + 16 + length):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        (tmp_path / "t").write_bytes(changed)
        assert read_table(tmp_path / "t", STATE) is None, at
    (tmp_path / "t").write_bytes(content)
    assert read_table(tmp_path / "t", STATE) is not None


@pytest.mark.parametrize("part", [0.0, 0.3, 0.55, 0.8, 0.97])
def test_a_stretch_that_was_never_written_is_noticed(tmp_path: Path, part: float) -> None:
    write_table(tmp_path / "t", STATE, table(200_000))
    content = bytearray((tmp_path / "t").read_bytes())
    begin = 1024 + int(part * (len(content) - 1024))
    end = min(begin + len(content) // 25, len(content))
    content[begin:end] = bytes(end - begin)
    (tmp_path / "t").write_bytes(content)
    assert read_table(tmp_path / "t", STATE) is None


def test_a_table_of_the_form_before_is_none(tmp_path: Path) -> None:
    write_table(tmp_path / "t", STATE, table(1000))
    content = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(content.replace(b"table 2\n", b"table 1\n"))
    assert read_table(tmp_path / "t", STATE) is None


def test_opening_does_not_read_the_columns(tmp_path: Path) -> None:
    written = table(4_000_000)
    write_table(tmp_path / "t", STATE, written)
    # A class that is none, between the blocks that are looked at: whoever read the column would find it.
    label_column = 64 * -(-(tmp_path / "t").stat().st_size // 64) - 8 * 4_000_000
    with (tmp_path / "t").open("r+b") as file:
        file.seek(label_column + 4 * 1_900_000)
        file.write(b"\xff\xff\xff\x7f")
    found = read_table(tmp_path / "t", STATE)
    assert found is not None
    assert found.kept == written.digests()
    assert int(found.label.max()) == (1 << 31) - 1

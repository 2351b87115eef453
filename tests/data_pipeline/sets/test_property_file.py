"""`property` as the tools of the field write it."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from data_pipeline import DatasetError
from data_pipeline.sets.property_file import read_property

TEN = (10, 112, 96)

UNDERSTOOD = {
    "plain": b"10,112,96",
    "a newline": b"10,112,96\n",
    "spaces": b" 10, 112 ,96 \r\n",
    "a second line": b"10,112,96\n80\n",
    "a second line and CRLF": b"10,112,96\r\n80\r\n",
    "four lines": b"10,112,96\n80\nidentities\n2026-11-27\n",
    "a number a line": b"10\n112\n96\n80\n",
    "a number a line, with commas": b"10,\n112,\n96,\n80\n",
    "a fourth number": b"10,112,96,80",
    "a comma behind": b"10,112,96,",
    "a comma and spaces behind": b"10,112,96, ,\n",
    "an empty line before": b"\n10,112,96",
    "UTF-8 with its mark": codecs.BOM_UTF8 + b"10,112,96\n",
    "UTF-16 with its mark": "10,112,96\r\n".encode("utf-16"),
    "spaces alone": b"10 112 96",
}


@pytest.mark.parametrize("case", list(UNDERSTOOD))
def test_what_tools_write_is_understood(tmp_path: Path, case: str) -> None:
    (tmp_path / "property").write_bytes(UNDERSTOOD[case])
    assert read_property(tmp_path / "property") == TEN


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"10",
        b"10,112",
        b"10\n112",
        b"10,112\n96",
        b",10,112,96",
        b"10,,112,96",
        b"10,112,-96",
        b"10,112,0",
        b"10,112,9.6",
        b"10,112,96,x",
        b"ten,112,96",
        b"1_0,112,96",
        b"10;112;96",
        b"\xff\xfe1",
        "١٠,112,96".encode(),
        b"9" * 5000,
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "property").write_bytes(content)
    with pytest.raises(DatasetError, match=r"property: three whole numbers above 0.* are expected$"):
        read_property(tmp_path / "property")


def test_none_is_none(tmp_path: Path) -> None:
    assert read_property(tmp_path / "property") is None
    (tmp_path / "property").mkdir()
    with pytest.raises(DatasetError, match="property: cannot be read: Is a directory"):
        read_property(tmp_path / "property")

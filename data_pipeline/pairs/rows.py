"""Lists as rows of fields: decoded, split at tabs, commas or spaces, the words and numbers in them."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path
from typing import NamedTuple

from data_pipeline.errors import PairSetError

MAX_LIST_BYTES = 256 << 20
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".webp")

_LINE_END = re.compile(r"\r\n|\n|\r")
_WHOLE = re.compile(r"(\d{1,18})(\.0*)?", re.ASCII)
_LABEL_NUMBER = re.compile(r"(-?[01])(\.0*)?", re.ASCII)
# In kinds that belong together: a list that says "yes" does not say "different".
_LABEL_WORDS = (
    ({"true", "t"}, {"false", "f"}),
    ({"yes", "y"}, {"no", "n"}),
    ({"same", "match", "matched", "genuine", "positive", "pos", "intra"}, {
        "different", "diff", "mismatch", "mismatched", "impostor", "imposter", "negative", "neg", "extra",
        "not_same", "notsame", "not same"}),
)  # fmt: skip


class Row(NamedTuple):
    """A line of a list that holds something."""

    line: int
    """From 1."""
    fields: list[str]


class Label(NamedTuple):
    """What a field says about a pair. kind: 0 for 1 and 0, -1 for 1 and -1, else the sort of word."""

    same: bool
    kind: int


def read_lines(path: Path, what: str = "a list of pairs") -> list[str]:
    """The lines of a text file without their ends.

    UTF-8 or, behind its byte-order mark, UTF-16. Bytes that are no UTF-8, as Latin-1's, are kept as
    surrogates, as names of files are that hold them. Raises PairSetError.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise PairSetError(f"{path}: larger than {MAX_LIST_BYTES >> 20} MiB; {what} is expected")
        content = path.read_bytes()
    except OSError as error:
        raise PairSetError(f"{path}: cannot be read: {error.strerror}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise PairSetError(f"{path}: no text; expected {what}")
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def read_rows(path: Path) -> list[Row]:
    """The lines that hold something, as fields. Raises PairSetError."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip(" \t,;"):
            try:
                rows.append(Row(number, _fields(line)))
            except csv.Error as error:
                raise PairSetError(f"{path}: line {number}: cannot be split into columns: {error}") from None
    return rows


def _fields(line: str) -> list[str]:
    """A line's fields: between tabs if it has any, else commas, else semicolons, else spaces."""
    for separator in "\t,;":
        if separator in line:
            break
    else:
        if '"' not in line:
            return line.split()
        separator, line = " ", line.strip()
    return [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def whole_number(text: str) -> int | None:
    """0, 7 or, as pandas writes whole numbers beside empty cells, 7.0."""
    match = _WHOLE.fullmatch(text)
    return int(match[1]) if match else None


def read_label(text: str) -> Label | None:
    """1, 1.0, true, yes, same, ... or their opposites; None: it is no label."""
    if match := _LABEL_NUMBER.fullmatch(text):
        return Label(match[1] == "1", -1 if match[1] == "-1" else 0)
    word = text.lower()
    for kind, (same, different) in enumerate(_LABEL_WORDS, start=1):
        if word in same or word in different:
            return Label(word in same, kind)
    return None


def has_suffix(name: str) -> bool:
    """Whether it ends as an image's name does."""
    return name.lower().endswith(SUFFIXES)


def without_suffix(name: str) -> str:
    """The name without the ending that images have; other dots belong to names (m.0abc_0001)."""
    return name[: name.rindex(".")] if has_suffix(name) else name


def shown(fields: list[str]) -> str:
    """A row for a message, short and printable."""
    text = " ".join(fields)
    return ascii(text if len(text) <= 60 else text[:57] + "...")

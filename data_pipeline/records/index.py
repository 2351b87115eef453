"""The text index of a record file: read in little memory beyond its numbers, and looked up by key."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import DataInputError
from data_pipeline.files.regular import open_regular

Ints = npt.NDArray[np.int64]

REBUILD = "copy the file again, or delete the index to have it rebuilt"

_CHUNK = 1 << 18
_LONGEST_LINE = 128
_LINE = re.compile(rb"\s*(-?[0-9]{1,19})[ \t]+(-?[0-9]{1,19})\s*", re.ASCII)
_LARGEST = np.iinfo(np.int64)
_REGULAR = b"0123456789\t\n"


def read_index(idx: Path, rec: Path) -> tuple[Ints, Ints]:
    """Keys and offsets, [n] each, of a text index of `rec`, in its order.

    Empty lines, spaces and both kinds of line end are accepted. Raises DataInputError, naming both files,
    the line and what stands there, for anything that is not two whole numbers of 64 bits.
    """
    with open_regular(idx, "an index") as file:
        lines = 1
        while block := _read(file, idx):
            lines += _count_lines(block)
        keys, offsets = np.empty(lines, dtype=np.int64), np.empty(lines, dtype=np.int64)
        file.seek(0)
        filled = line = 0
        rest = b""
        while True:
            block = _read(file, idx)
            chunk = rest + block
            cut = chunk.rfind(b"\n") + 1 if block else len(chunk)
            whole, rest = chunk[:cut], chunk[cut:]
            if len(rest) > _LONGEST_LINE:
                raise _not_an_index(idx, rec, line + _count_lines(whole) + 1, rest)
            numbers = _parse(idx, rec, whole, line)
            end = filled + len(numbers) // 2
            if end > len(keys):
                raise DataInputError(f"{idx}: was written to while it was read as the index of {rec}")
            keys[filled:end], offsets[filled:end] = numbers[0::2], numbers[1::2]
            filled = end
            line += _count_lines(whole)
            if not block:
                break
    for numbers in (keys, offsets):
        numbers.resize(filled, refcheck=False)
    return keys, offsets


def _count_lines(text: bytes) -> int:
    return text.count(b"\n")


def _read(file: io.FileIO, idx: Path) -> bytes:
    try:
        return file.read(_CHUNK) or b""
    except OSError as error:
        raise DataInputError(f"{idx}: cannot be read: {error.strerror or error}") from None


def _parse(idx: Path, rec: Path, text: bytes, line: int) -> Ints:
    """The numbers of whole lines, keys and offsets in turn; `line` lines stand before them."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if text.strip() and not text.translate(None, _REGULAR):
        # Of digits, tabs and newlines numpy refuses whatever is not two numbers of 64 bits a line.
        with suppress(ValueError):
            pairs = np.loadtxt(io.BytesIO(text), dtype=np.int64, delimiter="\t", comments=None, ndmin=2)
            if pairs.shape[1] == 2:
                return pairs.reshape(-1)
    found: list[int] = []
    for at, content in enumerate(text.split(b"\n"), line + 1):
        if not content.strip():
            continue
        match = _LINE.fullmatch(content)
        pair = [int(number) for number in match.groups()] if match else []
        if not pair or min(pair) < _LARGEST.min or max(pair) > _LARGEST.max:
            raise _not_an_index(idx, rec, at, content)
        found += pair
    return np.array(found, dtype=np.int64)


def _not_an_index(idx: Path, rec: Path, line: int, content: bytes) -> DataInputError:
    shown = content[:40].decode("ascii", "backslashreplace").strip("\r")
    more = "…" if len(content) > 40 else ""
    return DataInputError(
        f"{idx}: line {line} is {shown!r}{more}, not 'key<TAB>offset' in numbers of 64 bits, so this is "
        f"no index of {rec}; {REBUILD}"
    )


class KeyTable:
    """Where each key stands in an index; keys are those of `read_index`, int64 [n].

    Keys that count up need no memory, others that lie close together four or eight bytes a key, and
    any at all a sorted order. twice: a key that stands there more than once, or None; the last one counts.
    """

    def __init__(self, keys: Ints) -> None:
        self.keys = keys
        self.twice: int | None = None
        self._places: npt.NDArray[np.signedinteger[Any]] | None = None
        self._order: Ints | None = None
        self._low, high = (int(keys.min()), int(keys.max())) if len(keys) else (0, -1)
        self._span = high - self._low + 1
        self._counting = self._span == len(keys) and _counts_up(keys)
        if self._counting:
            return
        if self._span <= 2 * len(keys):
            kind: type[np.signedinteger[Any]] = np.int32 if len(keys) < 1 << 31 else np.int64
            places = np.full(self._span, -1, dtype=kind)
            ordinals = np.arange(len(keys), dtype=kind)
            places[keys - self._low] = ordinals
            overwritten = np.flatnonzero(places[keys - self._low] != ordinals)
            if len(overwritten):
                self.twice = int(keys[overwritten[0]])
            self._places = places
            return
        self._order = np.argsort(keys, kind="stable")
        ordered = keys[self._order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(same):
            self.twice = int(ordered[same[0]])

    def positions(self, keys: Ints) -> Ints:
        """Each key's place in the index, [n], or -1 if it has none."""
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int64)
        if self._order is not None:
            found = np.searchsorted(self.keys, keys, side="right", sorter=self._order) - 1
            places = self._order[found.clip(min=0)]
            return np.where(self.keys[places] == keys, places, -1)
        # A difference that wraps around lands outside the span.
        places = keys - self._low
        inside = (places >= 0) & (places < self._span)
        if self._places is not None:
            places = self._places[np.where(inside, places, 0)].astype(np.int64)
        return np.where(inside, places, -1)

    def position(self, key: int) -> int:
        """The place of one key, or -1; any Python integer."""
        if self._order is None:
            place = key - self._low
            if not 0 <= place < self._span:
                return -1
            return place if self._places is None else int(self._places[place])
        if not _LARGEST.min <= key <= _LARGEST.max:
            return -1
        return int(self.positions(np.array([key], dtype=np.int64))[0])


def _counts_up(keys: Ints) -> bool:
    """Whether each key is one more than the key before it, found with little memory."""
    return all(
        bool((np.diff(keys[start : start + _CHUNK + 1]) == 1).all()) for start in range(0, len(keys), _CHUNK)
    )


def index_exists(idx: Path) -> bool:
    """Whether there is an index file. Raises DataInputError if the folder does not let one look."""
    try:
        os.stat(idx)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else None
        raise DataInputError(f"{idx}: cannot be looked at: {problem or error}") from None
    return True

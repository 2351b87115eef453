"""Five points a face from a text file: a path and ten numbers a line, with or without other columns.

The ten numbers are neighbours, in either order in use: x1 y1 … x5 y5 (CelebA, CASIA-WebFace, VGGFace2) or
x1 … x5 y1 … y5 (MTCNN, insightface). The points are the eyes (first the one on the picture's left), the nose
tip and the mouth's corners. Where they stand and in which order is seen from which of a line's numbers make
faces (`images/face_columns.py`).
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from array import array
from pathlib import Path, PurePosixPath

import numpy as np

from data_pipeline.errors import DataInputError
from data_pipeline.images.align import FloatArray
from data_pipeline.images.face_columns import NUMBERS, NoFaces, find_columns
from data_pipeline.images.names import without_suffix

_TOKEN = re.compile(r"[^\s,;]+")
_HEADER_LINES = 2
_LONGEST_LINE = 1 << 16
_WORDS_BEHIND = 3
_LARGEST = 1e30  # of float32


class LandmarksError(DataInputError):
    """A landmarks file that cannot be read or that knows none of the images."""


class Landmarks:
    """The points of a file by path. Raises LandmarksError naming file and line.

    by_coordinate: the file has x1 … x5 y1 … y5. digest: of the file's contents.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: dict[str, int] = {}
        self._stems: dict[str, str | None] = {}
        self._numbers = array("f")
        self._ends = array("q")
        digest = hashlib.sha256()
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), b""), start=1):
                    digest.update(line)
                    self._read_line(number, line)
        except OSError as error:
            raise LandmarksError(f"{file}: cannot be read: {error.strerror}") from None
        if not self._ends:
            raise LandmarksError(f"{file}: no line has a path and ten numbers")
        self.digest = digest.hexdigest()
        self._points, self.by_coordinate = self._find_points()

    def __len__(self) -> int:
        return len(self._ends)

    def _read_line(self, number: int, line: bytes) -> None:
        text = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()
        if not text or text.startswith("#"):
            return
        found = _split(text)
        if found is None:
            if not self._ends and number <= _HEADER_LINES and len(line) < _LONGEST_LINE:
                return
            shown = ascii(text[:60] + ("..." if len(text) > 60 else ""))
            raise LandmarksError(f"{self.file}: line {number}: expected a path and ten numbers, got {shown}")
        names, values = found
        # Of several faces in one image the first counts.
        if names[0] not in self._rows:
            for name in names:
                self._rows.setdefault(name, len(self._ends))
            self._numbers.extend(values)
            self._ends.append(len(self._numbers))

    def _find_points(self) -> tuple[np.ndarray, bool]:
        """[n, 5, 2] (x, y) float32, and whether they stood as x1 … x5 y1 … y5."""
        numbers = np.frombuffer(self._numbers, dtype=np.float32)
        ends = np.frombuffer(self._ends, dtype=np.int64)
        try:
            first, by_coordinate = find_columns(numbers, ends)
        except NoFaces as error:
            seen = f" (they look like {', '.join(error.order)})" if error.order else ""
            raise LandmarksError(
                f"{self.file}: the points are no faces{seen}; expected eyes, nose tip and mouth corners, the "
                "picture's left one first, as x1 y1 … x5 y5 or x1 … x5 y1 … y5"
            ) from None
        places = (np.append(0, ends[:-1]) if first >= 0 else ends) + first
        table = numbers[places[:, None] + np.arange(NUMBERS)]
        if by_coordinate:
            return table.reshape(-1, 2, 5).transpose(0, 2, 1), True
        return table.reshape(-1, 5, 2), False

    def find(self, images: Path, path: Path) -> FloatArray | None:
        """[5, 2] (x, y) for a file of the folder `images`, or None."""
        row = self.row(images, path)
        return None if row is None else np.asarray(self._points[row], dtype=np.float64)

    def row(self, images: Path, path: Path) -> int | None:
        """The place among the file's lines of the one for a file of the folder `images`, or None.

        The list may name it from `images` on, from the folder that `images` lies in, as `path` is given,
        absolutely, or by the file's name alone; with the file's suffix, with another image's, or without.
        """
        names = [str(path), str(path.absolute()), path.name]
        if path.is_relative_to(images):
            below = path.relative_to(images)
            names[:0] = [str(below), str(Path(images.name, below))]
        for name in names:
            if (row := self._rows.get(name)) is not None:
                return row
        if not self._stems:
            for name in self._rows:
                stem = without_suffix(name)
                self._stems[stem] = None if stem in self._stems else name
        for name in names:
            listed = self._stems.get(without_suffix(name))
            if listed is not None and not _is_another(listed, path):
                return self._rows[listed]
        return None


def _is_another(listed: str, path: Path) -> bool:
    """Whether the list means the file beside this one that has the suffix it gives."""
    suffix = PurePosixPath(listed).suffix
    return without_suffix(listed) != listed and path.with_suffix(suffix).exists()


def _split(text: str) -> tuple[list[str], list[float]] | None:
    """The names that a line's image may have, and the numbers behind it, ten or more."""
    for separator in "\t,;":
        if separator in text:
            fields = _fields(text, separator)
            # In front of the path there may be its number in the list or a flag.
            at = next((place for place, field in enumerate(fields) if _number(field) is None), 0)
            values = _numbers(" ".join(fields[at + 1 :]))
            if values is not None and fields[at]:
                return [_as_path(fields[at])], values
    tokens = list(_TOKEN.finditer(text))
    while tokens and _number(tokens[-1][0]) is None and len(tokens) > NUMBERS + 1:
        del tokens[-1]
    start = len(tokens)
    while start > 1 and _number(tokens[start - 1][0]) is not None:
        start -= 1
    values = _numbers(text[tokens[start - 1].end() :]) if tokens else None
    if values is None:
        return None
    names = [text[: tokens[start - 1].end()]]
    if start > 1 and _number(tokens[0][0]) is not None:
        names.append(text[tokens[1].start() : tokens[start - 1].end()])
    return [_as_path(name) for name in names], values


def _fields(text: str, separator: str) -> list[str]:
    if '"' in text:
        return [
            field.strip() for field in next(csv.reader([text], delimiter=separator, skipinitialspace=True))
        ]
    return [field.strip() for field in text.split(separator)]


def _numbers(text: str) -> list[float] | None:
    """Ten numbers or more, with at most three words behind them; None: something else."""
    tokens = _TOKEN.findall(text)
    values = [_number(token) for token in tokens]
    behind = 0
    while behind < _WORDS_BEHIND and values and values[-1] is None:
        del values[-1]
        behind += 1
    numbers = [value for value in values if value is not None]
    return numbers if len(numbers) == len(values) >= NUMBERS else None


def _as_path(name: str) -> str:
    return str(PurePosixPath(name.strip("\"' ").replace("\\", "/")))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < _LARGEST else None

"""Five points a face from a text file: a path and ten numbers a line.

The ten numbers are the last ones of a line, in either order in use: x1 y1 … x5 y5 (CelebA, CASIA-WebFace,
insightface) or x1 … x5 y1 … y5 (MTCNN's own). The points are the eyes (first the one on the picture's
left), the nose tip and the mouth's corners. Which order a file has is seen from whether its points make
faces.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path, PurePosixPath

import numpy as np

from data_pipeline.align import TEMPLATE_112, FloatArray, similarity
from data_pipeline.errors import DataInputError

_TOKEN = re.compile(r"[^\s,;]+")
_NUMBERS = 10
_HEADER_LINES = 2
_LONGEST_LINE = 1 << 16
_SAMPLED = 1000
# Half the distance of the eyes off the template, on average, is no face as a camera sees it.
_WORST_FIT = 0.5


class LandmarksError(DataInputError):
    """A landmarks file that cannot be read or that knows none of the images."""


class Landmarks:
    """The points of a file by path. Raises LandmarksError naming file and line.

    by_coordinate: the file has x1 … x5 y1 … y5. digest: of the file's contents.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: dict[str, int] = {}
        numbers: list[list[float]] = []
        digest = hashlib.sha256()
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), b""), start=1):
                    digest.update(line)
                    self._read_line(number, line, numbers)
        except OSError as error:
            raise LandmarksError(f"{file}: cannot be read: {error.strerror}") from None
        if not numbers:
            raise LandmarksError(f"{file}: no line has a path and ten numbers")
        self.digest = digest.hexdigest()
        table = np.array(numbers, dtype=np.float32)
        self.by_coordinate, fit = _guess_order(table)
        if fit > _WORST_FIT:
            raise LandmarksError(
                f"{file}: the points are no faces; expected eyes, nose tip and mouth corners, the picture's "
                "left one first, as x1 y1 … x5 y5 or x1 … x5 y1 … y5"
            )
        shape = (-1, 2, 5) if self.by_coordinate else (-1, 5, 2)
        self._points = table.reshape(shape)
        if self.by_coordinate:
            self._points = self._points.transpose(0, 2, 1)

    def __len__(self) -> int:
        return len(self._rows)

    def _read_line(self, number: int, line: bytes, numbers: list[list[float]]) -> None:
        text = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()
        if not text or text.startswith("#"):
            return
        found = _split(text)
        if found is None:
            if not numbers and number <= _HEADER_LINES and len(line) < _LONGEST_LINE:
                return
            shown = ascii(text[:60] + ("..." if len(text) > 60 else ""))
            raise LandmarksError(f"{self.file}: line {number}: expected a path and ten numbers, got {shown}")
        # Of several faces in one image the first counts.
        if found[0] not in self._rows:
            self._rows[found[0]] = len(numbers)
            numbers.append(found[1])

    def find(self, images: Path, path: Path) -> FloatArray | None:
        """[5, 2] (x, y) for a file of the folder `images`, or None.

        The list may name it from `images` on, from the folder that `images` lies in, as `path` is given,
        absolutely, or by the file's name alone.
        """
        names: list[object] = [path, path.absolute(), path.name]
        if path.is_relative_to(images):
            below = path.relative_to(images)
            names[:0] = [below, Path(images.name, below)]
        for name in names:
            row = self._rows.get(str(name))
            if row is not None:
                return np.asarray(self._points[row], dtype=np.float64)
        return None


def _split(text: str) -> tuple[str, list[float]] | None:
    """The path and the last ten numbers of a line."""
    tokens = list(_TOKEN.finditer(text))
    values = [_number(token[0]) for token in tokens[-_NUMBERS:]]
    if len(tokens) <= _NUMBERS or any(value is None for value in values):
        return None
    # Between the path and the ten there may be a label, a box or a score.
    last = len(tokens) - _NUMBERS - 1
    while last > 0 and _number(tokens[last][0]) is not None:
        last -= 1
    path = text[: tokens[last].end()].strip("\"' ").replace("\\", "/")
    return str(PurePosixPath(path)), [value for value in values if value is not None]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e6 else None


def _guess_order(table: np.ndarray) -> tuple[bool, float]:
    """Whether the rows are x1 … x5 y1 … y5, and how far from the template the points lie then.

    The distance is the median over a sample of the root mean square, in distances of the template's eyes.
    """
    rows = table[np.linspace(0, len(table) - 1, min(len(table), _SAMPLED)).astype(np.int64)].astype(
        np.float64
    )
    fits = []
    for points in (rows.reshape(-1, 5, 2), rows.reshape(-1, 2, 5).transpose(0, 2, 1)):
        fits.append(float(np.median([_distance(face) for face in points])))
    by_coordinate = fits[1] < fits[0]
    return by_coordinate, fits[by_coordinate]


def _distance(points: FloatArray) -> float:
    if np.ptp(points, axis=0).max() == 0:
        return math.inf
    matrix = similarity(points, TEMPLATE_112)
    placed = points @ matrix[:, :2].T + matrix[:, 2]
    eyes = float(np.linalg.norm(TEMPLATE_112[1] - TEMPLATE_112[0]))
    return float(np.sqrt(((placed - TEMPLATE_112) ** 2).sum(axis=1).mean())) / eyes

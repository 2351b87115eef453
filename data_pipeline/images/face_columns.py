"""Which ten neighbouring numbers of a table are the five points of faces, and in which order they stand.

Beside the points a line may have scores, a label, an age, angles or a box, in front or behind. The ten are
those that look most like faces over the whole table: a single line proves nothing, for a face in profile lies
as far off a frontal one as some other numbers do. So they are held against faces that are turned, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipeline.images.align import POINT_NAMES

Floats = NDArray[np.float64]

NUMBERS = 10
# Root mean square distance from the nearest turned face, in distances of the eyes, median over the table:
# MTCNN's points on LFW have 0.05, the worst face 0.18; what is none has more than 0.3, but by chance.
WORST_FIT = 0.35
# Points of which another order comes so much nearer to a face are in that order.
_MUCH_NEARER, _TOO_NEAR_TO_TELL = 0.6, 0.1
_MOST_IN_ORDER = 0.75
# The face as a body, x to the picture's right, y down, z to the viewer: its front is the template in a crop.
_FACE = np.array([(-17.6, -20, 0), (17.6, -20, 0), (0, 0, 18), (-14.5, 20.5, 2), (14.5, 20.5, 2)])
_FLAT = _FACE * (1, 1, 0)
_EYES = 35.2
_SAMPLED, _SAMPLED_FOR_ORDERS = 500, 100


class Columns(NamedTuple):
    """Where the ten stand in a line. first: the place of the first, below 0 from the line's end (-10: the
    last ten). by_coordinate: x1 … x5 y1 … y5.
    """

    first: int
    by_coordinate: bool


class NoFaces(Exception):
    """No ten columns are a face's points; `order`: what they seem to be instead, names of points, or None."""

    def __init__(self, order: Sequence[str] | None) -> None:
        super().__init__("the points are no faces")
        self.order = order


def find_columns(numbers: NDArray[np.float32], ends: NDArray[np.int64]) -> Columns:
    """The columns of a table whose rows, of ten numbers or more, lie one behind the other.

    ends: the place behind each row's last number. Raises NoFaces.
    """
    lengths = np.diff(ends, prepend=0)
    width, differ = int(lengths.min()), bool((lengths != lengths[0]).any())
    firsts = [*range(-NUMBERS, -width - 1, -1), *(range(width - NUMBERS + 1) if differ else ())]
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), _SAMPLED)).astype(int)).tolist()
    sample = [numbers[ends[row] - lengths[row] : ends[row]].astype(np.float64) for row in chosen]
    best, fit_of_best = None, WORST_FIT
    for columns, faces in _candidates(sample, firsts):
        fit = float(np.median(_fits(faces)))
        if fit < fit_of_best and _in_order(faces) >= _MOST_IN_ORDER:
            best, fit_of_best = columns, fit
    if best is None or fit_of_best > _TOO_NEAR_TO_TELL:
        fit, order = _best_order(sample[:: max(1, len(sample) // _SAMPLED_FOR_ORDERS)], firsts)
        if best is None or fit < _MUCH_NEARER * fit_of_best:
            raise NoFaces([POINT_NAMES[place] for place in order] if fit < WORST_FIT / 2 else None)
    return best


def _candidates(sample: Sequence[Floats], firsts: Sequence[int]) -> Iterator[tuple[Columns, Floats]]:
    """Each ten neighbouring columns as faces [n, 5, 2], in both orders."""
    for first in firsts:
        table = np.stack([row[first : (first + NUMBERS) or None] for row in sample])
        yield Columns(first, by_coordinate=False), table.reshape(-1, 5, 2)
        yield Columns(first, by_coordinate=True), table.reshape(-1, 2, 5).transpose(0, 2, 1)


def _best_order(sample: Sequence[Floats], firsts: Sequence[int]) -> tuple[float, list[int]]:
    """The smallest median fit of any columns in any order of the points, and that order: of the points as
    they are read, which is the first listed, the second, ….
    """
    orders = np.array(list(permutations(range(5))))
    fit, order = np.inf, orders[0]
    for _, faces in _candidates(sample, firsts):
        fits = np.median(_fits(faces[:, orders].reshape(-1, 5, 2)).reshape(len(faces), -1), axis=0)
        place = int(fits.argmin())
        if fits[place] < fit:
            fit, order = float(fits[place]), np.argsort(orders[place])
    return fit, order.tolist()


def _turned_faces() -> NDArray[np.complex128]:
    """[m, 5] the face seen from the front and from all sides, as complex numbers about their mean."""
    seen = []
    for body, pitches in ((_FACE, (-20, 0, 20)), (_FLAT, (0,))):
        for pitch in np.radians(pitches):
            for yaw in np.radians(np.arange(-80, 81, 20)):
                x = body[:, 0] * np.cos(yaw) + body[:, 2] * np.sin(yaw)
                z = body[:, 2] * np.cos(yaw) - body[:, 0] * np.sin(yaw)
                seen.append(x + 1j * (body[:, 1] * np.cos(pitch) - z * np.sin(pitch)))
    points = np.array(seen)
    return np.asarray(points - points.mean(axis=1, keepdims=True))


_TURNED = _turned_faces()


def _fits(faces: Floats) -> Floats:
    """[n] how far each [5, 2] lies from the nearest turned face, after the best similarity."""
    z = faces @ (1, 1j)
    z = z - z.mean(axis=1, keepdims=True)
    size = (np.abs(z) ** 2).sum(axis=1)
    spread = size > 0
    explained = np.abs(z.conj() @ _TURNED.T) ** 2 / np.where(spread, size, 1)[:, None]
    left = np.maximum((np.abs(_TURNED) ** 2).sum(axis=1) - explained, 0).min(axis=1)
    return np.where(spread, np.sqrt(left / 5) / _EYES, np.inf)


def _in_order(faces: Floats) -> float:
    """The part of faces whose nose lies between eyes and mouth and whose left points are not right."""
    eyes, mouth = faces[:, 1] - faces[:, 0], faces[:, 4] - faces[:, 3]
    centre = (faces[:, 0] + faces[:, 1]) / 2
    down = (faces[:, 3] + faces[:, 4]) / 2 - centre
    length = (down**2).sum(axis=1)
    nose = ((faces[:, 2] - centre) * down).sum(axis=1)
    # In profile the two eyes come to lie in one place, and which is which is noise.
    least = -0.1 * length
    right = (_cross(eyes, down) > least) & (_cross(mouth, down) > least)
    return float((right & (nose > 0) & (nose < length)).mean())


def _cross(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])

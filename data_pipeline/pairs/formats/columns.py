"""Which columns of a table are the images, the label and the fold: by their names or by what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from data_pipeline.pairs.formats.column_names import fold_column, label_column, path_columns
from data_pipeline.pairs.pair import Lookup, NamedImage
from data_pipeline.pairs.rows import Row, has_suffix, read_label, whole_number

MAX_COLUMNS = 32
MAX_FOLDS = 100
_SAMPLE = 25

Way = tuple[int, int, int]
"""Columns of the first image, the second and the label."""


@dataclass(frozen=True)
class Columns:
    """Places in a row of `width` fields. tells_same: the label is 1 for same pairs, not different ones."""

    width: int
    first: int
    second: int
    label: int
    fold: int | None = None
    tells_same: bool = True


def find_columns(header: list[str] | None, body: Sequence[Row], lookup: Lookup) -> Columns | None:
    """The columns of rows of one width; None if there are no two of images and one of labels.

    header: a first line of words, of whatever width; a title over the rows names no columns.
    """
    width = len(body[0].fields)
    if not 3 <= width <= MAX_COLUMNS:
        return None
    columns = [[row.fields[place] for row in body] for place in range(width)]
    names = header if header and len(header) == width else None
    named = label_column(names) if names else None
    fold = fold_column(names) if names else None
    labels = [named[0]] if named else _labels(columns, fold, alone=header is not None)
    looks = [_looks(column, lookup) for column in columns]
    ways = _ways(path_columns(names) if names else [], width, labels)
    if not ways:
        return None
    # Of equally good ones the first.
    way = max(ways, key=lambda way: min(looks[way[0]], looks[way[1]]))
    if names is None:
        fold = _fold(columns, way)
    return Columns(width, *way, fold, named is None or named[1])


def rival_label(columns: Columns, body: Sequence[Row]) -> int | None:
    """A column on the images' other side that holds both 1 and 0 as well: either may be the label."""
    other = columns.first - 1 if columns.label == columns.second + 1 else columns.second + 1
    if not 0 <= other < columns.width or len(body) < 3:
        return None
    column = [row.fields[other] for row in body]
    return other if _share_of_labels(column) == 1 and len(set(column)) > 1 else None


def _labels(columns: list[list[str]], fold: int | None, *, alone: bool) -> list[int]:
    """Columns that may be the label. alone: under a header that does not name it, it must be the only one
    that holds both kinds, or the only one at all."""
    labels = [
        place for place, column in enumerate(columns) if place != fold and _share_of_labels(column) >= 0.5
    ]
    if not alone:
        return labels
    kinds = [{label.same for field in column if (label := read_label(field))} for column in columns]
    both = [place for place in labels if len(kinds[place]) == 2]
    return next((places for places in (both, labels) if len(places) == 1), [])


def _ways(named: list[tuple[int, int]], width: int, labels: list[int]) -> list[Way]:
    """The likeliest first: images in columns that are called so; the label behind the images, or before."""

    def rank(way: Way) -> tuple[int, ...]:
        first, second, label = way
        by_name = named.index((first, second)) if (first, second) in named else len(named)
        beside = 0 if label == second + 1 else 1 if label == first - 1 else 2
        return (by_name, second - first, beside, *way)

    pairs = {*named, *combinations(range(width), 2)}
    return sorted(((*pair, label) for pair in pairs for label in labels if label not in pair), key=rank)


def _looks(column: list[str], lookup: Lookup) -> tuple[int, int, int]:
    """How many fields of a sample are images that are there; are written as paths; are words."""
    sample = column[:: max(1, len(column) // _SAMPLE)]
    images = (NamedImage(Path(), 0, field, (field,)) for field in sample if field)
    there = sum(lookup.lookup(image) is not None for image in images)
    paths = sum(has_suffix(field) or "/" in field for field in sample)
    words = sum(whole_number(field) is None and field != "" for field in sample)
    return there, paths, words


def _share_of_labels(column: list[str]) -> float:
    return sum(read_label(field) is not None for field in column) / len(column)


def _fold(columns: list[list[str]], way: Way) -> int | None:
    """A column of whole numbers: the last, behind the label, or that with the fewest where they repeat.

    Numbers that never repeat count the rows.
    """
    rows, last = len(columns[0]), len(columns) - 1
    kinds = [len(set(column)) for column in columns]
    if last == way[2] + 1 == way[1] + 2 and _share_of_whole(columns[last]) >= 0.5:
        return last if rows <= MAX_FOLDS // 10 or kinds[last] < rows else None
    repeated = [
        (kinds[place], place)
        for place in range(last + 1)
        if place not in way and _share_of_whole(columns[place]) >= 0.9
        and 1 < kinds[place] <= min(MAX_FOLDS, rows // 2)
    ]  # fmt: skip
    return min(repeated)[1] if repeated else None


def _share_of_whole(column: list[str]) -> float:
    return sum(whole_number(field) is not None for field in column) / len(column)

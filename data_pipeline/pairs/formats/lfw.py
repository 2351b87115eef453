"""LFW's lists: `pairs.txt` and its relatives, RFW's without a header, Kaggle's CSV files.

A same pair is "name n1 n2", a different one "name1 n1 name2 n2", separated by tabs, commas or spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.formats.folds import folds_by_runs
from data_pipeline.pairs.formats.header import may_be_header, without_row_numbers
from data_pipeline.pairs.pair import Lookup, NamedImage, NamedPair, Nothing
from data_pipeline.pairs.rows import Row, read_rows, shown, whole_number

_SAME, _DIFFERENT = "'name n1 n2' (a same pair)", "'name1 n1 name2 n2' (a different pair)"


@dataclass(frozen=True)
class ListedPair:
    """Image `first_number` of `first_name` against image `second_number` of `second_name`; fold from 1."""

    first_name: str
    first_number: int
    second_name: str
    second_number: int
    same: bool
    fold: int


def guess(path: Path, rows: list[Row], lookup: Lookup) -> tuple[float, list[NamedPair]]:
    """The share of rows that are pairs of this form, and these pairs."""
    body = without_row_numbers(rows[_is_counted(rows) :], lookup)
    found = [(row.line, pair) for row in body if (pair := _pair(row.fields)) is not None]
    return len(found) / max(1, len(body)), [_named(path, line, pair) for line, pair in found]


def parse(path: Path, rows: list[Row], lookup: Lookup) -> list[NamedPair]:
    """The pairs of a list. Raises PairSetError naming file and line."""
    return [_named(path, line, pair) for line, pair in _parse(path, rows, lookup)]


def read_lfw_pairs(path: Path) -> list[ListedPair]:
    """Reads LFW's list.

    The header is "folds<TAB>pairs" or "pairs" alone (one fold): each fold has that many same pairs (name, n1,
    n2) and then as many different ones (name1, n1, name2, n2). Without it, folds are the runs of such.
    Raises PairSetError naming file and line.
    """
    return [pair for _, pair in _parse(path, read_rows(path), Nothing())]


def _parse(path: Path, rows: list[Row], lookup: Lookup) -> list[tuple[int, ListedPair]]:
    if not rows or _is_counted(rows):
        return _parse_counted(path, rows)
    rows = without_row_numbers(rows, lookup)
    if _pair(rows[0].fields) is None and may_be_header(rows[0].fields, lookup):
        rows = rows[1:]
    pairs = []
    for row in rows:
        pair = _pair(row.fields)
        if pair is not None:
            pairs.append((row.line, _checked(path, row, pair)))
        elif not _is_kaggles_header(row.fields):
            raise PairSetError(
                f"{path}: line {row.line}: expected {_SAME} or {_DIFFERENT}, got {shown(row.fields)}"
            )
    folds = folds_by_runs([pair.same for _, pair in pairs])
    return [
        (line, ListedPair(*_ends(pair), pair.same, fold))
        for (line, pair), fold in zip(pairs, folds, strict=True)
    ]


def _parse_counted(path: Path, rows: list[Row]) -> list[tuple[int, ListedPair]]:
    """Under a header that says how many pairs each fold has, which alone tells their kinds."""
    numbers = [whole_number(field) for field in rows[0].fields] if rows else []
    if not numbers or not all(numbers):
        raise PairSetError(
            f"{path}: line 1: expected LFW's header, 'folds pairs' or 'pairs', "
            f"got {shown(rows[0].fields if rows else [])}"
        )
    per_fold = numbers[-1] or 0
    folds = (numbers[0] or 0) if len(numbers) == 2 else 1
    if len(rows) - 1 != 2 * folds * per_fold:
        raise PairSetError(
            f"{path}: line {rows[0].line}: the header promises {2 * folds * per_fold} pairs "
            f"({folds} folds of 2 x {per_fold}), but {len(rows) - 1} lines follow"
        )
    pairs = []
    for place, row in enumerate(rows[1:]):
        fold, place_in_fold = divmod(place, 2 * per_fold)
        same = place_in_fold < per_fold
        pair = _pair(row.fields)
        if pair is None or pair.same != same:
            raise PairSetError(
                f"{path}: line {row.line}: expected {_SAME if same else _DIFFERENT}, "
                f"got {_as_written(row.fields)}"
            )
        pairs.append((row.line, ListedPair(*_ends(_checked(path, row, pair)), same, fold + 1)))
    return pairs


def _is_counted(rows: list[Row]) -> bool:
    fields = rows[0].fields if rows else []
    return len(fields) in (1, 2) and all(whole_number(field) is not None for field in fields)


def _pair(fields: list[str]) -> ListedPair | None:
    fields = _without_empty_end(fields)
    if len(fields) not in (3, 4) or not fields[0] or not fields[-2]:
        return None
    same = len(fields) == 3
    numbers = [whole_number(fields[1]), whole_number(fields[-1])]
    if numbers[0] is None or numbers[1] is None:
        return None
    return ListedPair(fields[0], numbers[0], fields[0] if same else fields[2], numbers[1], same, 0)


def _checked(path: Path, row: Row, pair: ListedPair) -> ListedPair:
    for name in (pair.first_name, pair.second_name):
        if "/" in name or "\\" in name or name in (".", ".."):
            raise PairSetError(f"{path}: line {row.line}: {name!r} is no name of a folder")
    if not pair.same and pair.first_name == pair.second_name:
        raise PairSetError(
            f"{path}: line {row.line}: a different pair of one person, {shown(row.fields)}; a same pair is "
            "written 'name n1 n2'"
        )
    return pair


def _ends(pair: ListedPair) -> tuple[str, int, str, int]:
    return pair.first_name, pair.first_number, pair.second_name, pair.second_number


def _is_kaggles_header(fields: list[str]) -> bool:
    """Also between the lines, where match… and mismatch… were joined into one file."""
    return all(field.lower().startswith(("name", "imagenum", "unnamed")) for field in fields if field)


def _without_empty_end(fields: list[str]) -> list[str]:
    """The CSV files have a fourth column that is empty for same pairs."""
    end = len(fields)
    while end and fields[end - 1].lower() in ("", "nan"):
        end -= 1
    return fields[:end]


def _as_written(fields: list[str]) -> str:
    text = "\t".join(fields)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _named(path: Path, line: int, pair: ListedPair) -> NamedPair:
    first, second = (
        NamedImage(path, line, f"{name}_{number:04d}", _places(name, number))
        for name, number in ((pair.first_name, pair.first_number), (pair.second_name, pair.second_number))
    )
    return NamedPair(first, second, pair.same, pair.fold)


def _places(name: str, number: int) -> tuple[str, ...]:
    """NAME/NAME_0001.jpg as LFW has it, or all in one folder, or numbers alone."""
    padded = f"{name}_{number:04d}.jpg"
    return f"{name}/{padded}", padded, f"{name}/{number:04d}.jpg", f"{name}/{number}.jpg"

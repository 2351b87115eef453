"""CALFW's and CPLFW's own lists: an image and a number a line, two lines a pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.formats.header import may_be_header
from data_pipeline.pairs.pair import Lookup, NamedImage, NamedPair
from data_pipeline.pairs.rows import Row, shown, whole_number

DEALT_FOLDS = 10


def guess(path: Path, rows: list[Row], lookup: Lookup) -> tuple[float, list[NamedPair]]:
    """The share of rows that are an image and a number, and the pairs that they make."""
    right = [row for row in rows if _number(row.fields) is not None]
    return len(right) / max(1, len(rows)), [
        NamedPair(_named(path, first), _named(path, second), True)
        for first, second in zip(right[::2], right[1::2], strict=False)
    ]


def parse(path: Path, rows: list[Row], lookup: Lookup) -> list[NamedPair]:
    """Lines 2p and 2p + 1 are a pair; a number above 0 says that it is a same one.

    The lists have all same pairs first: they are dealt out to ten folds, a tenth of either to each.
    Raises PairSetError naming file and line.
    """
    if rows and _number(rows[0].fields) is None and may_be_header(rows[0].fields, lookup):
        rows = rows[1:]
    pairs = []
    for first, second in zip(rows[::2], rows[1::2], strict=False):
        numbers = [_number(row.fields) for row in (first, second)]
        for row, number in zip((first, second), numbers, strict=True):
            if number is None:
                raise PairSetError(
                    f"{path}: line {row.line}: expected an image and a number, got {shown(row.fields)}"
                )
        if numbers[0] != numbers[1]:
            raise PairSetError(
                f"{path}: line {second.line}: the pair's lines have the numbers {first.fields[1]} and "
                f"{second.fields[1]}"
            )
        pairs.append(NamedPair(_named(path, first), _named(path, second), (numbers[0] or 0) > 0))
    if len(rows) % 2:
        raise PairSetError(f"{path}: line {rows[-1].line}: the last pair has one line, two are expected")
    kinds = [[pair for pair in pairs if pair.same is same] for same in (True, False)]
    return [
        replace(pair, fold=fold + 1)
        for fold in range(DEALT_FOLDS)
        for kind in kinds
        for pair in kind[fold * len(kind) // DEALT_FOLDS : (fold + 1) * len(kind) // DEALT_FOLDS]
    ]


def _number(fields: list[str]) -> int | None:
    if len(fields) != 2 or not fields[0]:
        return None
    negative = fields[1].startswith("-")
    number = whole_number(fields[1].removeprefix("-"))
    return -number if negative and number is not None else number


def _named(path: Path, row: Row) -> NamedImage:
    return NamedImage(path, row.line, row.fields[0], (row.fields[0],))

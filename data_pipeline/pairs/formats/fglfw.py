"""FGLFW's and SLLFW's lists: a path a line, two lines a pair, and nothing else.

Same and different pairs are told by where they stand: folds of so many same ones, then as many different ones
(Deng et al. 2017). How many, the list does not say; the files' names do, and must agree with it throughout.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.formats.folds import folds_by_runs
from data_pipeline.pairs.formats.header import may_be_header
from data_pipeline.pairs.pair import Lookup, NamedImage, NamedPair
from data_pipeline.pairs.rows import Row, has_suffix, shown, without_suffix

_NUMBERED = re.compile(r"(.+)_\d+")


def guess(path: Path, rows: list[Row], lookup: Lookup) -> tuple[float, list[NamedPair]]:
    """The share of rows that are a path alone, and the pairs that they make."""
    right = [row for row in rows if len(row.fields) == 1 and _is_path(row.fields[0])]
    return len(right) / max(1, len(rows)), [
        NamedPair(_named(path, first), _named(path, second), True)
        for first, second in zip(right[::2], right[1::2], strict=False)
    ]


def parse(path: Path, rows: list[Row], lookup: Lookup) -> list[NamedPair]:
    """The pairs with their folds. Raises PairSetError naming file and line."""
    if rows and not _is_path(rows[0].fields[0]) and may_be_header(rows[0].fields, lookup):
        rows = rows[1:]
    for row in rows:
        if len(row.fields) != 1:
            raise PairSetError(f"{path}: line {row.line}: expected a path alone, got {shown(row.fields)}")
    if len(rows) % 2:
        raise PairSetError(f"{path}: line {rows[-1].line}: the last pair has one line, two are expected")
    ends = list(zip(rows[::2], rows[1::2], strict=True))
    same = [_person(first.fields[0]) == _person(second.fields[0]) for first, second in ends]
    folds = folds_by_runs(same)
    counts = Counter(zip(folds, same, strict=True))
    if len({counts[fold, kind] for fold in set(folds) for kind in (True, False)}) != 1 or not same[0]:
        raise PairSetError(
            f"{path}: where a line is a path alone, same pairs are told from different ones by their place, "
            "in folds of as many of either, the same ones first; the files' names do not fit this: give a "
            "list with a column of 1 (same) and 0 (different)"
        )
    return [
        NamedPair(_named(path, first), _named(path, second), kind, fold)
        for (first, second), kind, fold in zip(ends, same, folds, strict=True)
    ]


def _is_path(text: str) -> bool:
    return has_suffix(text) or "/" in text or "\\" in text or _NUMBERED.fullmatch(text) is not None


def _person(name: str) -> str:
    path = PurePosixPath(without_suffix(name.replace("\\", "/")))
    match = _NUMBERED.fullmatch(path.name)
    return match[1] if match else str(path.parent)


def _named(path: Path, row: Row) -> NamedImage:
    return NamedImage(path, row.line, row.fields[0], (row.fields[0],))

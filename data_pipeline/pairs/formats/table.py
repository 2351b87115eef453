"""Tables of pairs: two paths and a label a row, in any columns, with or without a line that names them.

AgeDB-30, CFP-FP and CALFW as retold by most projects, what `cosface unpack` writes, pandas' CSV files, the
`pairs.csv` of data sets' cards, YTF's list.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.formats.column_names import label_column, path_columns
from data_pipeline.pairs.formats.columns import Columns, find_columns, rival_label
from data_pipeline.pairs.formats.header import may_be_header, width_of, without_row_numbers
from data_pipeline.pairs.pair import Lookup, NamedImage, NamedPair
from data_pipeline.pairs.rows import Row, read_label, shown

_EXPECTED = "expected two paths and 1 (same) or 0 (different)"
_LAST_NUMBER = re.compile(r"(\d{1,18})(\.0*)?\s*$", re.ASCII)


def guess(path: Path, rows: list[Row], lookup: Lookup) -> tuple[float, list[NamedPair]]:
    """The share of rows that are pairs of this form, and these pairs."""
    columns, body = _columns(rows, lookup)
    if columns is None:
        return 0.0, []
    found = [pair for row in body if (pair := _pair(path, row, columns)) is not None]
    return len(found) / max(1, len(body)), found


def parse(path: Path, rows: list[Row], lookup: Lookup) -> list[NamedPair]:
    """The pairs, in the order of their folds. Raises PairSetError naming file and line."""
    columns, body = _columns(rows, lookup)
    if columns is None:
        line = rows[0].line
        raise PairSetError(
            f"{path}: line {line}: {_EXPECTED} in columns of their own, got {shown(rows[0].fields)}"
        )
    pairs = []
    for row in body:
        pair = _pair(path, row, columns)
        if pair is None:
            raise PairSetError(f"{path}: line {row.line}: {_EXPECTED}, got {shown(row.fields)}")
        pairs.append(pair)
    _check_labels(path, columns, body, named=len(body) < len(rows))
    if pairs and min(pair.fold for pair in pairs) == 0 < max(pair.fold for pair in pairs):
        pairs = [replace(pair, fold=pair.fold + 1) for pair in pairs]  # counted from 0
    return sorted(pairs, key=lambda pair: pair.fold)


def _columns(rows: list[Row], lookup: Lookup) -> tuple[Columns | None, list[Row]]:
    """The columns, None if there are no such, and the rows without a header."""
    starts_with_header = bool(rows) and may_be_header(rows[0].fields, lookup)
    rows = without_row_numbers(rows, lookup)
    header = rows[0].fields if starts_with_header else None
    body = rows[1:] if header else rows
    width = width_of(body)
    regular = [row for row in body if len(row.fields) == width]
    if not regular:
        return None, body
    has_names = header is not None and any(field and not field.isdigit() for field in header)
    columns = find_columns(header if has_names else None, regular, lookup)
    if header and columns and not _is_header(header, columns, regular):
        return find_columns(None, regular, lookup), rows
    return columns, body


def _is_header(header: list[str], columns: Columns, body: list[Row]) -> bool:
    """And no pair whose images are missing: it has known names, or its label is none of the rows' kind."""
    if label_column(header) and path_columns(header):
        return True
    label = read_label(header[columns.label]) if columns.label < len(header) else None
    first = read_label(body[0].fields[columns.label])
    return label is None or first is None or label.kind != first.kind


def _pair(path: Path, row: Row, columns: Columns) -> NamedPair | None:
    """None for a row that is not understood."""
    if len(row.fields) != columns.width:
        return None
    names = row.fields[columns.first], row.fields[columns.second]
    label, fold = read_label(row.fields[columns.label]), 0
    if columns.fold is not None:
        # Also of names such as fold_3.
        match = _LAST_NUMBER.search(row.fields[columns.fold])
        if match is None:
            return None
        fold = int(match[1])
    if label is None or not all(names):
        return None
    first, second = (NamedImage(path, row.line, name, (name,)) for name in names)
    return NamedPair(first, second, label.same is columns.tells_same, fold)


def _check_labels(path: Path, columns: Columns, body: list[Row], *, named: bool) -> None:
    """Refuses a column that holds 0 and -1, and a second one that may be the label as well."""
    first_line: dict[int, int] = {}
    for row in body:
        label = read_label(row.fields[columns.label])
        if label and not label.same:
            first_line.setdefault(label.kind, row.line)
    if {0, -1} <= first_line.keys():
        raise PairSetError(
            f"{path}: line {max(first_line[0], first_line[-1])}: different pairs are 0 on line "
            f"{first_line[0]} and -1 on line {first_line[-1]}; expected one of them"
        )
    rival = None if named else rival_label(columns, body)
    if rival is not None:
        raise PairSetError(
            f"{path}: columns {rival + 1} and {columns.label + 1} both hold 1 and 0: expected one label; "
            "name the columns in a first line, for example 'fold,path1,path2,same'"
        )

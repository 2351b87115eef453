"""Whether a list's first line is a header, and pandas' column of row numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from data_pipeline.pairs.pair import Lookup
from data_pipeline.pairs.rows import Row, has_suffix, whole_number

_SEPARATORS = re.compile(r"[\s,;\"']+")


def may_be_header(fields: list[str], lookup: Lookup) -> bool:
    """Whether none of a line's fields is an image or a number, so that no pair is lost with it.

    The numbers of pandas' columns without names (0, 1, 2, ...) and a count of pairs are headers too.
    """
    named = [field for field in fields if field]
    if not fields[0] and named == [str(column) for column in range(len(named))]:
        return True
    # Split again: a pair whose separators are damaged has two names in a field.
    parts = {part for field in named for part in (field, *_SEPARATORS.split(field)) if part}
    if any(has_suffix(part) or lookup.knows(part) for part in parts):
        return False
    if not any(whole_number(field) is not None for field in named):
        return True
    numbered = named == [str(column) for column in range(len(named))]
    return numbered or (len(named) <= 2 and all(whole_number(field) is not None for field in named))


def width_of(rows: Sequence[Row]) -> int:
    """The number of fields that most rows have."""
    return Counter(len(row.fields) for row in rows).most_common(1)[0][0] if rows else 0


def without_row_numbers(rows: list[Row], lookup: Lookup) -> list[Row]:
    """The rows without a first column that counts them: a header without a name there says so, or R's, which
    is one field shorter than the rows."""
    if len(rows) < 2 or not may_be_header(rows[0].fields, lookup):
        return rows
    header, body = rows[0], rows[1:]
    if any(whole_number(row.fields[0]) is None for row in body):
        return rows
    first = header.fields[0].lower()
    if first == "" or first.startswith("unnamed"):
        return [Row(row.line, row.fields[1:]) for row in rows]
    shorter = all(len(row.fields) == len(header.fields) + 1 for row in body)
    if shorter and all(whole_number(field) is None for field in header.fields):
        return [header, *(Row(row.line, row.fields[1:]) for row in body)]
    return rows

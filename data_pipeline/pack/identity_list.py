"""A list of files and the people in them, in place of a folder a person.

`000001.jpg 2880` (CelebA's identity_CelebA.txt, or the other way round), `flag path label …` (insightface's
.lst) and `index label path` (im2rec's .lst) are told apart by which column names files. Columns are separated
by tabs, commas, semicolons or spaces.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DatasetError
from data_pipeline.images.names import SUFFIXES
from data_pipeline.sets.files_by_name import OUTSIDE, FilesByName
from data_pipeline.sets.tree import Tree

NOT_LISTED = "not in the list"
_TRIED = 200
_EXPECTED = (
    "expected a line an image: its path and its identity, or insightface's `flag path label`, or im2rec's "
    "`index label path`"
)


@dataclass(frozen=True)
class Layout:
    """Places of the path and the identity among a line's fields."""

    path: int
    identity: int
    least_fields: int
    most_fields: int = 1 << 10

    def fits(self, fields: Sequence[str]) -> bool:
        """Whether these can be a line of it."""
        return self.least_fields <= len(fields) <= self.most_fields


LAYOUTS = (Layout(0, 1, 2), Layout(1, 0, 2, 2), Layout(1, 2, 3), Layout(-1, 1, 3, 3))


def read_list(file: Path, images: Path, *, follow_links: bool = False) -> tuple[Tree, str]:
    """The files that a list names by identity, and a digest of the list; identities in the order of their
    numbers, or of their names.

    Paths count from `images`, from the folder that it lies in, or are absolute; a suffix may be another
    image's. What the list names and the folder has not, and the other way round, is passed over. Raises
    DatasetError, with the line's number, for a line that is not understood, a path outside `images` and a
    file that is given to two identities.
    """
    folder = FilesByName(images, follow_links=follow_links)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from None
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    layout = _layout(file, lines, folder)
    taken: dict[Path, tuple[int | str, int]] = {}
    missing: list[tuple[Path, str]] = []
    for place, (number, line) in enumerate(lines):
        fields = _fields(line, layout)
        if place == 0 and _is_header(fields, layout, folder):
            continue
        where = f"{file}: line {number}"
        if not layout.fits(fields):
            raise DatasetError(f"{where}: {_EXPECTED}, got {line[:60]!a}")
        name = fields[layout.path]
        path = folder.find(name)
        if path is OUTSIDE:
            raise DatasetError(f"{where}: {name} lies outside {images}; files below it are expected")
        identity = _identity(fields[layout.identity])
        if identity is None:
            shown = fields[layout.identity]
            raise DatasetError(
                f"{where}: expected an identity, a name or a whole number from 0, got {shown!a}"
            )
        if path is None:
            missing.append((images / name, f"named in line {number} of the list, but not there"))
        elif taken.setdefault(path, (identity, number))[0] != identity:
            before, first = taken[path]
            raise DatasetError(f"{where}: {name} is of {identity} here and of {before} in line {first}")
    return _tree(folder, taken, missing), hashlib.sha256(content).hexdigest()


def _tree(
    folder: FilesByName, taken: dict[Path, tuple[int | str, int]], missing: Sequence[tuple[Path, str]]
) -> Tree:
    known = {path for path, _ in folder.found.passed_over}
    passed_over = folder.found.passed_over + [entry for entry in missing if entry[0] not in known]
    passed_over += [(path, NOT_LISTED) for path in folder.found.files if path not in taken]
    passed_over.sort()
    numbers = all(isinstance(identity, int) for identity, _ in taken.values())
    ordered = sorted(
        ((identity if numbers else str(identity), path) for path, (identity, _) in taken.items()),
    )
    return Tree([(str(name), path) for name, path in ordered], passed_over)


def _layout(file: Path, lines: Sequence[tuple[int, str]], folder: FilesByName) -> Layout:
    """The layout in which most of the first lines name files."""
    tried = lines[:_TRIED]
    named = dict.fromkeys(LAYOUTS, 0)
    for layout in LAYOUTS:
        rows = (_fields(line, layout) for _, line in tried)
        named[layout] = sum(folder.find(row[layout.path]) is not None for row in rows if layout.fits(row))
    best = max(LAYOUTS, key=named.__getitem__)
    if not named[best]:
        raise DatasetError(
            f"{file}: none of its first {len(tried)} lines names a file of the folder; {_EXPECTED}"
        )
    return best


def _fields(line: str, layout: Layout) -> list[str]:
    """A line's fields; of those between spaces, a path may have some itself."""
    for separator in "\t,;":
        if separator in line:
            if '"' in line:
                return [
                    field.strip()
                    for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True))
                ]
            return [field.strip() for field in line.split(separator)]
    if layout.path == 0:
        return line.rsplit(maxsplit=1)
    if layout.path == -1:
        return line.split(maxsplit=2)
    return line.split(maxsplit=1) if layout.most_fields == 2 else line.split()


def _is_header(fields: Sequence[str], layout: Layout, folder: FilesByName) -> bool:
    """Whether a first line is names of columns, or a count: no field of it is a file, or could be one."""
    if any(Path(field).suffix.lower() in SUFFIXES or folder.find(field) is not None for field in fields):
        return False
    return not layout.fits(fields) or not _is_number(fields[layout.identity])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _identity(text: str) -> int | str | None:
    """A number, a name, or None for what can be neither."""
    if not text:
        return None
    if not _is_number(text):
        return text
    try:
        number = int(text)
    except ValueError:
        value = float(text)
        if not math.isfinite(value) or value != int(value):
            return None
        number = int(value)
    return number if number >= 0 else None

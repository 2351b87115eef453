"""The file `property` of a record folder: how many classes there are, and the size of an image."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from data_pipeline.errors import DatasetError

# Labels are int32 in an image table; a JPEG's sides have 16 bits.
MOST_CLASSES, MOST_PIXELS = (1 << 31) - 1, (1 << 16) - 1
_LONGEST = 4096
_NUMBER = re.compile(r"[0-9]{1,30}", re.ASCII)


def read_property(path: Path) -> tuple[int, int, int] | None:
    """(classes, height, width), or None if there is no such file.

    They are the first three numbers of the first line, "classes,height,width", or stand in a line each. What
    the tools of the field write behind them (a fourth number, a comma, further lines) is passed over, and so
    is a byte-order mark. Raises DatasetError for anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    numbers = _numbers(content)
    if len(numbers) < 3 or min(numbers[:3]) < 1:
        raise DatasetError(f"{path}: three whole numbers above 0, 'classes,height,width', are expected")
    classes, height, width = numbers[:3]
    if classes > MOST_CLASSES or max(height, width) > MOST_PIXELS:
        raise DatasetError(
            f"{path}: at most {MOST_CLASSES} classes and {MOST_PIXELS} pixels a side are expected"
        )
    return classes, height, width


def _numbers(content: bytes) -> list[int]:
    """The first line's numbers, or all of a file with one a line; none if there is anything else."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if marked else "utf-8-sig", errors="replace")
    stripped = filter(None, map(str.strip, text.splitlines()))
    lines = [re.split(r"\s*,\s*|\s+", line.rstrip(", \t")) for line in stripped]
    fields = lines[0] if lines and len(lines[0]) > 1 else [field for line in lines for field in line]
    return [int(field) for field in fields] if all(map(_NUMBER.fullmatch, fields)) else []

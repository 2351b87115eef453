"""Which row of embeddings made elsewhere is an image that a list of pairs names."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.pair import NamedImage
from data_pipeline.pairs.rows import read_lines, without_suffix
from trainer.errors import TrainerInputError

Parts = tuple[str, ...]

_PERSON_AND_NUMBER = re.compile(r".*[^\W\d_].*_\d+")


class ImageRows:
    """The images of a text file of one path a line, line k that of row k; folders in front and endings may
    differ from the list's, as those of aligned copies do.

    Raises TrainerInputError for a file that cannot be read, an empty line and an image listed twice.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            lines = read_lines(file, "one image's path a line")
        except PairSetError as error:
            raise TrainerInputError(str(error)) from None
        while lines and not lines[-1].strip():
            lines.pop()
        self.count = len(lines)
        self._folders: set[Parts] = set()
        self._by_stem: dict[str, list[tuple[Parts, int]]] = defaultdict(list)
        row_of: dict[Parts, int] = {}
        for row, line in enumerate(lines):
            parts = _parts(line.strip())
            if not parts:
                raise TrainerInputError(f"{file}: line {row + 1}: is empty; expected an image's path")
            if parts in row_of:
                raise TrainerInputError(
                    f"{file}: line {row + 1}: {parts[-1]} is already on line {row_of[parts] + 1}"
                )
            row_of[parts] = row
            self._by_stem[parts[-1]].append((parts, row))
            self._folders.update(parts[-1 - length : -1] for length in range(1, len(parts)))

    def knows(self, text: str) -> bool:
        """Whether a field of a list is an image of the file, or a folder of such."""
        parts = _parts(text)
        return bool(parts) and (self._row(parts) is not None or parts in self._folders)

    def lookup(self, image: NamedImage) -> int | None:
        """The image's row; None if there is none, or several that may be it."""
        return next((row for place in image.places if (row := self._row(_parts(place))) is not None), None)

    def find(self, image: NamedImage) -> int:
        """The image's row. Raises TrainerInputError with the list's line."""
        row = self.lookup(image)
        if row is not None:
            return row
        alike = [row for place in image.places[:1] for _, row in self._alike(_parts(place))]
        if len(alike) > 1:
            raise TrainerInputError(
                f"{image.where}: {image.name} may be line {alike[0] + 1} or {alike[1] + 1} of {self.file}; "
                "expected as many folders before the name as tell them apart"
            )
        raise TrainerInputError(f"{image.where}: {image.name} is not in {self.file}")

    def _row(self, parts: Parts) -> int | None:
        """The one row whose path agrees from behind: in whole, in folder and name, or, where the name tells
        person and number (Ann_0001), in the name."""
        alike = self._alike(parts)
        return alike[0][1] if len(alike) == 1 else None

    def _alike(self, parts: Parts) -> list[tuple[Parts, int]]:
        rows = self._by_stem.get(parts[-1], []) if parts else []
        common = [(_common_end(parts, own), own, row) for own, row in rows]
        longest = max((length for length, _, _ in common), default=0)
        alike = [(own, row) for length, own, row in common if length == longest]
        enough = longest >= 2 or _PERSON_AND_NUMBER.fullmatch(parts[-1]) if parts else False
        return [(own, row) for own, row in alike if enough or longest == min(len(own), len(parts))]


def _parts(path: str) -> Parts:
    """Folders and name without ending; Latin-1 and accents written in either way become one spelling."""
    if any("\udc80" <= letter <= "\udcff" for letter in path):
        path = path.encode("utf-8", "surrogateescape").decode("latin-1")
    path = unicodedata.normalize("NFC", path.replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return (*parts[:-1], without_suffix(parts[-1])) if parts else ()


def _common_end(first: Parts, second: Parts) -> int:
    length = 0
    for own, other in zip(reversed(first), reversed(second), strict=False):
        if own != other:
            break
        length += 1
    return length

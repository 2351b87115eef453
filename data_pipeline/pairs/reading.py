"""Lists of pairs in the forms that the field hands out, as pairs of image files.

lfw: names and numbers (`formats/lfw.py`). cfp: CFP's folder of splits (`formats/cfp.py`). list: two
paths and 1 or 0 a line (AgeDB-30, CFP-FP and CALFW as retold by most projects, and what `cosface unpack`
writes), separated by spaces, tabs or commas. calfw: CALFW's and CPLFW's own lists, an image and a number a
line, two lines a pair.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.formats.lfw import SUFFIXES, find_image, read_lfw_pairs

PairFormat = Literal["auto", "lfw", "cfp", "list", "calfw"]

MAX_LIST_BYTES = 256 << 20
_LABELS = {"1": True, "0": False, "-1": False, "true": True, "false": False}


@dataclass(frozen=True)
class ImagePair:
    """Two image files, whether they show one person, and the fold from 1; 0: the list has no folds."""

    first: Path
    second: Path
    same: bool
    fold: int = 0


def read_pairs(pairs: Path, images: Path, form: PairFormat = "auto") -> list[ImagePair]:
    """The pairs of a list, in the order in which folds are runs of them.

    Raises PairSetError, naming file and line, for a list that is none and for an image that is not there.
    """
    if form == "auto":
        form = detect_format(pairs)
    if form == "cfp":
        from data_pipeline.pairs.formats.cfp import read_cfp_pairs

        return read_cfp_pairs(pairs, images)
    if form == "lfw":
        return [
            ImagePair(
                find_image(images, pair.first_name, pair.first_number),
                find_image(images, pair.second_name, pair.second_number),
                pair.same,
                pair.fold,
            )
            for pair in read_lfw_pairs(pairs)
        ]
    finder = ImageFinder(pairs, images)
    return _read_calfw(pairs, finder) if form == "calfw" else _read_list(pairs, finder)


def detect_format(pairs: Path) -> PairFormat:
    """Which format a file or folder has, from its first lines; what is not recognised is taken for LFW's."""
    if pairs.is_dir():
        return "cfp"
    rows = [row for _, row in (row for row, _ in zip(rows_of(pairs), range(2), strict=False))]
    if not rows or all(_is_number(field) for field in rows[0]):
        return "lfw"
    if any(_label_place(row) is not None for row in rows):
        return "list"
    return "calfw" if all(len(row) == 2 and _is_number(row[1]) for row in rows) else "lfw"


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of a text file's lines that hold something. Raises PairSetError."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise PairSetError(f"{path}: larger than {MAX_LIST_BYTES >> 20} MiB; a list of pairs is expected")
        text = path.read_bytes()
    except OSError as error:
        raise PairSetError(f"{path}: cannot be read: {error.strerror}") from None
    if b"\0" in text:
        raise PairSetError(f"{path}: no text; expected a list of pairs")
    lines = text.decode("utf-8", "surrogateescape").removeprefix("\ufeff").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _fields(line.strip())


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip() for field in line.split("\t")]
    if "," in line:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    return line.split()


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def _label_place(row: list[str]) -> int | None:
    """Where in a row of two paths and a label the label stands: behind or before them; None: it is none."""
    if len(row) in (3, 4) and row[2].lower() in _LABELS and not _is_number(row[1]):
        return 2
    return 0 if len(row) == 3 and row[0].lower() in _LABELS else None


def _read_list(path: Path, finder: ImageFinder) -> list[ImagePair]:
    """Two paths and the label, or the label and two paths; a fourth column is the fold."""
    pairs: list[ImagePair] = []
    for number, row in rows_of(path):
        place = _label_place(row)
        if place is None or (len(row) == 4 and not _is_number(row[3])):
            if not pairs and number == 1:
                continue  # a header
            raise PairSetError(
                f"{path}: line {number}: expected two paths and 1 (same) or 0 (different), got {_shown(row)}"
            )
        first, second = (row[1], row[2]) if place == 0 else (row[0], row[1])
        fold = int(row[3]) if len(row) == 4 else 0
        same = _LABELS[row[place].lower()]
        pairs.append(ImagePair(finder.find(number, first), finder.find(number, second), same, fold))
    if not pairs:
        raise PairSetError(f"{path}: holds no pair")
    if min(pair.fold for pair in pairs) == 0 < max(pair.fold for pair in pairs):
        pairs = [replace(pair, fold=pair.fold + 1) for pair in pairs]  # counted from 0
    return sorted(pairs, key=lambda pair: pair.fold)


def _read_calfw(path: Path, finder: ImageFinder) -> list[ImagePair]:
    """Lines 2p and 2p + 1 are a pair; a number other than 0 says that it is a same one.

    The lists have all same pairs first: they are dealt out to ten folds, a tenth of either to each.
    """
    rows = list(rows_of(path))
    pairs = []
    for (number, first), (next_number, second) in zip(rows[::2], rows[1::2], strict=False):
        for line, row in ((number, first), (next_number, second)):
            if len(row) != 2 or not _is_number(row[1]):
                raise PairSetError(f"{path}: line {line}: expected an image and a number, got {_shown(row)}")
        if first[1] != second[1]:
            raise PairSetError(
                f"{path}: line {next_number}: the pair's lines have the numbers {first[1]} and {second[1]}"
            )
        files = finder.find(number, first[0]), finder.find(next_number, second[0])
        pairs.append(ImagePair(*files, first[1] != "0"))
    if len(rows) % 2:
        raise PairSetError(f"{path}: line {rows[-1][0]}: the last pair has one line, two are expected")
    same = [pair for pair in pairs if pair.same]
    different = [pair for pair in pairs if not pair.same]
    return [
        replace(pair, fold=fold + 1)
        for fold in range(10)
        for kind in (same, different)
        for pair in kind[fold * len(kind) // 10 : (fold + 1) * len(kind) // 10]
    ]


class ImageFinder:
    """Finds what a list calls an image: below `images`, with `images`' own name before it, or absolutely.

    A name may lack its suffix or have another one. Raises PairSetError with the list's line.
    """

    def __init__(self, pairs: Path, images: Path) -> None:
        self._pairs = pairs
        self._images = images
        self._found: dict[str, Path] = {}

    def find(self, line: int, name: str) -> Path:
        """The file of a name that stands in a line of the list."""
        if name not in self._found:
            self._found[name] = self._search(line, name)
        return self._found[name]

    def _search(self, line: int, name: str) -> Path:
        below = Path(name.replace("\\", "/"))
        places = [self._images / below]
        if below.parts[:1] == (self._images.name,):
            places.append(self._images.parent / below)
        for place in places:
            if place.is_file():
                return place
            stem = place.with_suffix("") if place.suffix.lower() in SUFFIXES else place
            for suffix in SUFFIXES:
                if (other := stem.with_name(stem.name + suffix)).is_file():
                    return other
        raise PairSetError(f"{self._pairs}: line {line}: {places[0]}: no such file (nor with another suffix)")


def _shown(row: list[str]) -> str:
    text = " ".join(row)
    return ascii(text if len(text) <= 60 else text[:57] + "...")

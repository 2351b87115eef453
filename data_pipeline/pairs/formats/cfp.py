"""CFP's protocol as it is handed out: numbered images, and a folder of ten splits for each of FF and FP.

Protocol/Pair_list_F.txt and Pair_list_P.txt hold "number path" a line, frontal and profile images;
Protocol/Split/FP/01/same.txt and diff.txt hold "i,j" a line, numbers of a frontal and a profile image, and
Split/FF of two frontal ones (Sengupta et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.pair import NamedImage, NamedPair
from data_pipeline.pairs.rows import read_rows, whole_number

_LISTS = {"FF": ("Pair_list_F.txt", "Pair_list_F.txt"), "FP": ("Pair_list_F.txt", "Pair_list_P.txt")}


def read_cfp_pairs(split: Path) -> list[NamedPair]:
    """The pairs of Protocol/Split/FF or Protocol/Split/FP, fold by fold, the same ones of a fold first.

    The images lie in cfp-dataset, or wherever they lie below 001/frontal/01.jpg. Raises PairSetError.
    """
    kind = split.resolve().name
    if kind not in _LISTS:
        raise PairSetError(
            f"{split}: expected CFP's folder of splits, Protocol/Split/FP or Protocol/Split/FF"
        )
    protocol = split.resolve().parents[1]
    first_list, second_list = (_read_numbered(protocol / name) for name in _LISTS[kind])
    folds = sorted(path for path in split.iterdir() if path.is_dir() and path.name.isdigit())
    if not folds:
        raise PairSetError(f"{split}: holds no folders 01, 02, ... with same.txt and diff.txt")
    pairs = []
    for fold, folder in enumerate(folds, start=1):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for line, first, second in _read_numbers(folder / name):
                ends = []
                for number, numbered in ((first, first_list), (second, second_list)):
                    if number not in numbered:
                        raise PairSetError(f"{folder / name}: line {line}: there is no image {number}")
                    ends.append(numbered[number])
                pairs.append(NamedPair(ends[0], ends[1], same, fold))
    return pairs


def _read_numbered(path: Path) -> dict[int, NamedImage]:
    numbered = {}
    for line, row in read_rows(path):
        number = whole_number(row[0])
        if len(row) != 2 or number is None:
            raise PairSetError(f"{path}: line {line}: expected a number and a path")
        numbered[number] = NamedImage(path, line, row[1], _places(row[1]))
    return numbered


def _read_numbers(path: Path) -> Iterator[tuple[int, int, int]]:
    for line, row in read_rows(path):
        numbers = [whole_number(field) for field in row]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            raise PairSetError(f"{path}: line {line}: expected two numbers of images, 'i,j'")
        yield line, numbers[0], numbers[1]


def _places(path: str) -> tuple[str, ...]:
    """The lists' paths start at Protocol/ (../Data/Images/001/frontal/01.jpg); a copy may start anywhere."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("..", ".", "/")]
    return tuple("/".join(parts[start:]) for start in range(max(1, len(parts) - 1)))

"""CFP's protocol as it is handed out: numbered images, and a folder of ten splits for each of FF and FP.

Protocol/Pair_list_F.txt and Pair_list_P.txt hold "number path" a line, frontal and profile images;
Protocol/Split/FP/01/same.txt and diff.txt hold "i,j" a line, numbers of a frontal and a profile image, and
Split/FF of two frontal ones (Sengupta et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.reading import ImagePair, rows_of

_LISTS = {"FF": ("Pair_list_F.txt", "Pair_list_F.txt"), "FP": ("Pair_list_F.txt", "Pair_list_P.txt")}


def read_cfp_pairs(split: Path, images: Path) -> list[ImagePair]:
    """The pairs of Protocol/Split/FF or Protocol/Split/FP, fold by fold, the same ones of a fold first.

    images: cfp-dataset, or wherever its images lie below 001/frontal/01.jpg. Raises PairSetError.
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
    files: dict[str, Path] = {}
    for fold, folder in enumerate(folds, start=1):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for line, first, second in _read_numbers(folder / name):
                ends = []
                for number, numbered in ((first, first_list), (second, second_list)):
                    if number not in numbered:
                        raise PairSetError(f"{folder / name}: line {line}: there is no image {number}")
                    path = numbered[number]
                    if path not in files:
                        files[path] = _find(images, path)
                    ends.append(files[path])
                pairs.append(ImagePair(ends[0], ends[1], same, fold))
    return pairs


def _read_numbered(path: Path) -> dict[int, str]:
    numbered = {}
    for line, row in rows_of(path):
        if len(row) != 2 or not (row[0].isascii() and row[0].isdigit()):
            raise PairSetError(f"{path}: line {line}: expected a number and a path")
        numbered[int(row[0])] = row[1]
    return numbered


def _read_numbers(path: Path) -> Iterator[tuple[int, int, int]]:
    for line, row in rows_of(path):
        if len(row) != 2 or not all(field.isascii() and field.isdigit() for field in row):
            raise PairSetError(f"{path}: line {line}: expected two numbers of images, 'i,j'")
        yield line, int(row[0]), int(row[1])


def _find(images: Path, path: str) -> Path:
    """The lists' paths start at Protocol/ (../Data/Images/001/frontal/01.jpg); a copy may start anywhere."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("..", ".", "/")]
    for start in range(max(1, len(parts) - 1)):
        place = images.joinpath(*parts[start:])
        for file in (place, place.with_suffix(".png"), place.with_suffix(".jpg")):
            if file.is_file():
                return file
    raise PairSetError(f"{images.joinpath(*parts)}: no such file (nor {images.joinpath(*parts[-3:])})")

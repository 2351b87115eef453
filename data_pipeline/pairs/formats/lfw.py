"""LFW's pair lists: `pairs.txt` and its relatives, and the files that their names stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import PairSetError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".webp")


@dataclass(frozen=True)
class ListedPair:
    """Image `first_number` of `first_name` against image `second_number` of `second_name`; fold from 1."""

    first_name: str
    first_number: int
    second_name: str
    second_number: int
    same: bool
    fold: int


def read_lfw_pairs(path: Path) -> list[ListedPair]:
    """Reads LFW's list.

    The header is "folds<TAB>pairs" or "pairs" alone (one fold): each fold has that many same pairs (name, n1,
    n2) and then as many different ones (name1, n1, name2, n2). Raises PairSetError naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PairSetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PairSetError(f"{path}: no text; expected LFW's list of pairs") from None
    while lines and not lines[-1].strip():
        lines.pop()
    folds, per_fold = _read_header(path, lines)
    expected = 2 * folds * per_fold
    if len(lines) - 1 != expected:
        raise PairSetError(
            f"{path}: line 1: the header promises {expected} pairs ({folds} folds of 2 x {per_fold}), "
            f"but {len(lines) - 1} lines follow"
        )
    pairs = []
    for place, line in enumerate(lines[1:]):
        fold, place_in_fold = divmod(place, 2 * per_fold)
        pairs.append(_read_pair(path, place + 2, line, same=place_in_fold < per_fold, fold=fold + 1))
    return pairs


def _read_header(path: Path, lines: list[str]) -> tuple[int, int]:
    numbers = lines[0].split() if lines else []
    if len(numbers) not in (1, 2) or not all(
        part.isascii() and part.isdigit() and int(part) for part in numbers
    ):
        raise PairSetError(
            f"{path}: line 1: expected LFW's header, 'folds pairs' or 'pairs', "
            f"got {_shown(' '.join(numbers))}"
        )
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (1, int(numbers[0]))


def _read_pair(path: Path, number: int, line: str, *, same: bool, fold: int) -> ListedPair:
    parts = line.split()
    if same and len(parts) == 3:
        parts.insert(2, parts[0])
    expected = "'name n1 n2' (a same pair)" if same else "'name1 n1 name2 n2' (a different pair)"
    wrong = len(line.split()) != (3 if same else 4)
    if wrong or not all(part.isascii() and part.isdigit() for part in (parts[1], parts[3])):
        raise PairSetError(f"{path}: line {number}: expected {expected}, got {_shown(line)}")
    for name in (parts[0], parts[2]):
        if "/" in name or "\\" in name or name in (".", ".."):
            raise PairSetError(f"{path}: line {number}: {_shown(name)} is no name of a folder")
    return ListedPair(parts[0], int(parts[1]), parts[2], int(parts[3]), same, fold)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def find_image(images: Path, name: str, number: int) -> Path:
    """IMAGES/NAME/NAME_0001.jpg, or the same with another suffix. Raises PairSetError if there is none."""
    stem = f"{name}_{number:04d}"
    for suffix in SUFFIXES:
        path = images / name / (stem + suffix)
        if path.is_file():
            return path
    raise PairSetError(
        f"{images / name / stem}.jpg: no such file (nor .png, .pgm, ...), but the list has a pair with it"
    )

"""A verification pair set as it is evaluated and as a `.bin` holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipeline.pairs.bin_file import read_pickle, write_pickle

DEFAULT_FOLDS = 10


@dataclass(frozen=True)
class PairSet:
    """Pair p is images[2p] against images[2p + 1], encoded as JPEG or PNG.

    Folds are equal runs of consecutive pairs, as the field's sets have them.
    """

    images: list[bytes]
    same: list[bool]
    folds: int = DEFAULT_FOLDS

    def __post_init__(self) -> None:
        if len(self.images) != 2 * len(self.same):
            raise ValueError(
                f"two images a pair are needed, got {len(self.images)} for {len(self.same)} pairs"
            )

    def __len__(self) -> int:
        return len(self.same)


def read_bin(path: str | Path) -> PairSet:
    """Reads insightface's `.bin`. Raises PairSetError naming the file if it is not one."""
    images, same = read_pickle(Path(path))
    return PairSet(images, same, min(DEFAULT_FOLDS, len(same)))


def write_bin(path: str | Path, pairs: PairSet) -> None:
    """Writes insightface's `.bin`; whole or not at all."""
    write_pickle(Path(path), list(pairs.images), [bool(value) for value in pairs.same])

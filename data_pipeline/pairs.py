"""Verification pair sets: read, written, and made from LFW's list and a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_pipeline.align import process_aligner
from data_pipeline.errors import PairSetError
from data_pipeline.pair_file import read_pickle, write_pickle
from data_pipeline.pair_list import ListedPair, find_image, read_lfw_pairs
from data_pipeline.prepare import NO_IMAGE, Alignment, Preparation, prepare_file
from data_pipeline.progress import track
from data_pipeline.workers import default_workers, ordered_map

__all__ = ["ListedPair", "PairSet", "PairsReport", "build_pairs", "read_bin", "read_lfw_pairs", "write_bin"]

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


@dataclass(frozen=True)
class PairsReport:
    """What a pair set was made of."""

    num_pairs: int
    num_images: int
    """Different image files."""
    faceless: list[Path]
    """Files in which no face was found: resized whole, so that the protocol keeps all its pairs."""


def build_pairs(
    pairs_txt: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    fold: int | None = None,
    align: Alignment = "none",
    size: tuple[int, int] = (112, 112),
    quality: int = 95,
    workers: int | None = None,
) -> PairsReport:
    """Makes `out` (.bin) of LFW's list and images/NAME/NAME_0001.jpg.

    fold: None for all, or one from 1; a single fold's same and different pairs are interleaved, so that each
    tenth of it, a fold to whoever reads the .bin, has as many of either. Raises PairSetError for a list,
    an image or a fold that is not there, AlignError if alignment is asked for and not installed.
    """
    pairs_txt, images, out = Path(pairs_txt), Path(images), Path(out)
    preparation = Preparation(align=align, size=size, quality=quality, keep_faceless=True)
    listed = read_lfw_pairs(pairs_txt)
    if fold is not None:
        listed = _one_fold(pairs_txt, listed, fold)
    if not images.is_dir():
        raise PairSetError(
            f"{images}: no such folder; expected NAME/NAME_0001.jpg in it for the names of {pairs_txt}"
        )
    if align == "mtcnn":
        process_aligner(size)
    ends = [
        find_image(images, name, number)
        for pair in listed
        for name, number in ((pair.first_name, pair.first_number), (pair.second_name, pair.second_number))
    ]
    paths = sorted(set(ends))
    payloads: dict[Path, bytes] = {}
    faceless = []
    with closing(
        ordered_map(partial(prepare_file, preparation), paths, workers or default_workers())
    ) as results:
        work = track(results, total=len(paths), description="preparing pairs")
        for path, result in zip(paths, work, strict=True):
            if result.payload is None:
                reason = result.problem or NO_IMAGE
                raise PairSetError(f"{path}: {reason}, but {pairs_txt} has a pair with it")
            if result.problem:
                faceless.append(path)
            payloads[path] = result.payload
    write_bin(out, PairSet([payloads[path] for path in ends], [pair.same for pair in listed]))
    return PairsReport(len(listed), len(paths), faceless)


def _one_fold(pairs_txt: Path, listed: Sequence[ListedPair], fold: int) -> list[ListedPair]:
    folds = listed[-1].fold
    if not 1 <= fold <= folds:
        raise PairSetError(f"{pairs_txt}: has folds 1 to {folds}, got fold {fold}")
    same = [pair for pair in listed if pair.fold == fold and pair.same]
    different = [pair for pair in listed if pair.fold == fold and not pair.same]
    return [pair for both in zip(same, different, strict=True) for pair in both]

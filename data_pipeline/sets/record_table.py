"""The record files of a set, and the table of the images in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data_pipeline.errors import DatasetError
from data_pipeline.records.reader import RecordReader
from data_pipeline.sets.image_sizes import count_sizes, size_to_train_at
from data_pipeline.sets.layout import check_classes, find_images
from data_pipeline.sets.property_file import read_property
from data_pipeline.sets.table import MAX_FILES, ImageTable, columns, make_table, without_small_classes
from data_pipeline.sets.table_store import State


def is_record_folder(folder: Path) -> bool:
    """Whether `record_files` would find a record file there."""
    return folder.suffix == ".rec" or any(folder.glob("*.rec"))


def record_files(folder: Path) -> list[Path]:
    """The .rec files of a set, in the order of their names. Raises DatasetError if there is none."""
    try:
        if folder.suffix == ".rec" and folder.is_file():
            return [folder]
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; a folder with train.rec, train.idx and property is expected"
            )
        rec = folder / "train.rec"
        paths = [rec] if rec.is_file() else sorted(path for path in folder.glob("*.rec") if path.is_file())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None
    if not paths:
        raise DatasetError(f"{folder}: holds no train.rec; `cosface pack` makes one from a folder of images")
    if len(paths) > MAX_FILES:
        raise DatasetError(f"{folder}: holds {len(paths)} .rec files; at most {MAX_FILES} are expected")
    return paths


def table_state(folder: Path, paths: list[Path], min_images: int) -> State:
    """What a table depends on: another size or time of a file, another table."""
    files = [*paths, *(path.with_suffix(".idx") for path in paths), paths[0].with_name("property")]
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
    return {"set": [str(folder.absolute()), min_images], "files": found}


def read_record_table(paths: list[Path], min_images: int) -> ImageTable:
    """Read a set's index and headers through. Raises DatasetError or RecordError.

    Without a `property` the images' sizes are read too: 7 µs each beyond what the disk takes for a page.
    """
    stated = read_property(paths[0].with_name("property"))
    parts, largest, identities = [], -1, None
    sizes: Counter[tuple[int, int]] = Counter()
    for number, path in enumerate(paths):
        with RecordReader(path, path.with_suffix(".idx")) as reader:
            found = find_images(reader)
            if not len(found.keys):
                continue
            # Of several files each may have identity records of its own.
            identities = found.identities if len(paths) == 1 else None
            largest = max(largest, int(found.labels.max()))
            if stated is None:
                sizes += count_sizes(reader.file, found.offsets[found.offsets >= 0])
            classes = stated[0] if stated else identities or largest + 1
            check_classes(reader, found, classes, stated is not None)
            parts.append(columns(number, found.offsets, found.labels, found.keys))
    if not parts:
        raise DatasetError(f"{paths[0]}: holds no image record")
    size, uniform = (stated[1:], True) if stated else size_to_train_at(sizes, paths[0])
    table = make_table(parts, stated[0] if stated else identities or largest + 1, size, uniform)
    return without_small_classes(table, min_images, str(paths[0].parent)) if min_images else table

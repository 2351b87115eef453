"""What `--data.train` may name: record folders, folders of images, rendered identities, several of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from data_pipeline.errors import DatasetError
from data_pipeline.sets.image_folder import ImageFiles
from data_pipeline.sets.merged import MergedSource
from data_pipeline.sets.record_folder import FaceDataset
from data_pipeline.sets.record_table import is_record_folder
from data_pipeline.sets.source import ImageSource

MADE_UP = {"rendered:": "data_pipeline.rendered.source"}
"""Sets that are no place on a disk: how their names begin, and the module whose `open_named` makes them. It
is imported when such a set is asked for, and lies in a room above this one."""


def open_source(
    names: Sequence[str | Path], *, min_images: int = 0, follow_links: bool = False
) -> ImageSource:
    """Open one set, or several as one, classes of the later ones after those of the earlier.

    A name is a record folder (or a .rec file), a folder with one sub-folder of images an identity, or
    "rendered:…" for identities that are drawn as they are read. min_images: leave out identities with fewer
    images. follow_links: files in a folder of images that are links out of it count. Raises DatasetError for
    what is missing or contradicts itself, RecordError for damaged records.
    """
    if not names:
        raise DatasetError("no training set is named")
    parts: list[ImageSource] = []
    try:
        for name in names:
            parts.append(_open_one(name, min_images, follow_links))
        return parts[0] if len(parts) == 1 else MergedSource(parts)
    except BaseException:
        for part in parts:
            part.close()
        raise


def is_made_up(name: str | Path) -> bool:
    """Whether a set's name is no place on a disk."""
    return _maker(name) is not None


def _maker(name: str | Path) -> str | None:
    return next((module for start, module in MADE_UP.items() if str(name).startswith(start)), None)


def _open_one(name: str | Path, min_images: int, follow_links: bool) -> ImageSource:
    if maker := _maker(name):
        return cast(ImageSource, importlib.import_module(maker).open_named(str(name), min_images))
    folder = Path(name)
    try:
        if is_record_folder(folder) or not _has_folders(folder):
            return FaceDataset.open(folder, min_images=min_images)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None
    return ImageFiles(folder, min_images=min_images, follow_links=follow_links)


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir() if entry.name[0] != ".")

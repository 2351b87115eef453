"""The image files of a folder with one sub-folder per identity, and which of its entries are none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from data_pipeline.errors import DatasetError

NOT_IN_A_FOLDER = "not in an identity's folder"
LINKS_UPWARDS = "a link to a folder that it lies in"
LINKED_INSIDE = "a linked folder inside an identity's; link the identity's whole folder instead"


def find_images(images: Path) -> tuple[list[tuple[str, Path]], list[tuple[Path, str]]]:
    """[(identity, file)] sorted by both, and what is passed over: [(path, reason)], sorted.

    An identity's folder may be a link and may have folders in it. Hidden files are no images and are not
    mentioned. Raises DatasetError if the folder is missing, unreadable or without files.
    """
    if not images.is_dir():
        raise DatasetError(
            f"{images}: no such folder; expected a folder with one sub-folder of images per identity"
        )

    def unreadable(error: OSError) -> None:
        raise error

    files: list[tuple[str, Path]] = []
    passed_over: list[tuple[Path, str]] = []
    here = images.resolve()
    try:
        for entry in images.iterdir():
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                passed_over.append((entry, NOT_IN_A_FOLDER))
                continue
            if entry.is_symlink() and (target := entry.resolve()) in (here, *here.parents):
                passed_over.append((entry, f"{LINKS_UPWARDS} ({target})"))
                continue
            # Links inside are not followed: they may lead in a circle.
            for folder, sub_folders, names in os.walk(entry, onerror=unreadable):
                sub_folders[:] = [name for name in sub_folders if not name.startswith(".")]
                linked = [Path(folder, name) for name in sub_folders if Path(folder, name).is_symlink()]
                passed_over.extend((path, LINKED_INSIDE) for path in linked)
                files.extend((entry.name, Path(folder, name)) for name in names if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{error.filename or images}: cannot be read: {error.strerror}") from None
    if not files:
        raise DatasetError(
            f"{images}: holds no images in sub-folders; expected one sub-folder of images per identity"
        )
    return sorted(files), sorted(passed_over)


def fingerprint(images: Path, files: list[tuple[str, Path]]) -> str:
    """A hash of the files' names below `images`, sizes and times of change: other images, another hash."""
    digest = hashlib.sha256()
    for _, path in files:
        try:
            status = path.stat()
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            facts = f"{error.errno}"
        digest.update(os.fsencode(path.relative_to(images)) + b"\0" + facts.encode() + b"\n")
    return digest.hexdigest()

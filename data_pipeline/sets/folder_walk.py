"""All image files below a folder, and why other entries are passed over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.images.names import has_image_name, is_image_file

NO_IMAGE = "no image that can be decoded"
LINKED_INSIDE = "a linked folder inside an identity's; link the identity's whole folder instead"
LINKS_OUTSIDE = "a link to a file outside the folder, taken with --follow-links (train: --data.follow-links)"


@dataclass
class Found:
    """What a walk met. folders: number of images directly in each folder that has some. passed_over: [(path,
    reason)].
    """

    files: list[Path] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def walk(folder: Path, found: Found, allowed: Sequence[Path], *, follow_links: bool) -> list[Path]:
    """The image files below a folder, noted in `found`. Raises OSError for a folder that cannot be read.

    Hidden files are not mentioned. A linked file counts if it lies in one of the folders `allowed` (absolute,
    without links), or anywhere if follow_links. Linked folders may lead in a circle: they are passed over.
    """
    files: list[Path] = []
    waiting = [os.fspath(folder)]
    while waiting:
        here = waiting.pop()
        before = len(files)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                path = Path(entry.path)
                if reason := _why_not(entry, path, allowed, follow_links=follow_links):
                    found.passed_over.append((path, reason))
                else:
                    files.append(path)
        if len(files) > before:
            found.folders[here] = len(files) - before
    found.files += files
    return files


def _why_not(
    entry: os.DirEntry[str], path: Path, allowed: Sequence[Path], *, follow_links: bool
) -> str | None:
    """Why a file is no image of the set; None: it is one."""
    if entry.is_symlink():
        if _is_folder(entry):
            return LINKED_INSIDE
        if not follow_links and not any(target_of(path).is_relative_to(folder) for folder in allowed):
            return LINKS_OUTSIDE
    return None if has_image_name(entry.name) or is_image_file(path) else NO_IMAGE


def target_of(path: Path) -> Path:
    """Where a link leads in the end, absolute; of a link that leads to itself, the link."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False

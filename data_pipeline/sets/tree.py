"""The image files of a folder with one sub-folder per identity, and which of its entries are none."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.errors import DatasetError
from data_pipeline.images.names import is_image_file
from data_pipeline.sets.folder_walk import Found, target_of, walk
from data_pipeline.sets.levels import check_levels
from data_pipeline.sets.shards import check_shards

NOT_IN_A_FOLDER = "not in an identity's folder"
LINKS_UPWARDS = "a link to a folder that it lies in"


@dataclass(frozen=True)
class Tree:
    """files: [(identity, file)] sorted by both. passed_over: [(path, reason)], sorted. left_out: a line on
    those, or none. notes: what else to know of the tree, a line each.
    """

    files: list[tuple[str, Path]]
    passed_over: list[tuple[Path, str]]
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_images(images: Path) -> tuple[list[tuple[str, Path]], list[tuple[Path, str]]]:
    """`files` and `passed_over` of `read_tree`."""
    tree = read_tree(images)
    return tree.files, tree.passed_over


def read_tree(images: Path, *, follow_links: bool = False, identity_per_folder: bool = False) -> Tree:
    """The images of a folder by identity. Which files count is said by `images/names.py`.

    An identity's folder may be a link and may have folders in it. A file that is a link counts if it leads to
    a place inside `images`, or inside the linked folder that it lies in; follow_links: wherever it leads.
    Hidden files are no images and are not mentioned.

    Raises DatasetError if the folder is missing, unreadable or without images, and where people's folders
    seem to lie one level deeper, or folders to hold several people's images (`sets/levels.py`, `shards.py`);
    identity_per_folder: each of its folders is one identity, whatever it looks like.
    """
    if not images.is_dir():
        raise DatasetError(
            f"{images}: no such folder; expected a folder with one sub-folder of images per identity"
        )
    found = Found()
    files: list[tuple[str, Path]] = []
    elsewhere: list[str] = []
    here = images.resolve()
    try:
        for entry in images.iterdir():
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                found.passed_over.append((entry, NOT_IN_A_FOLDER))
                continue
            target = target_of(entry) if entry.is_symlink() else here
            if entry.is_symlink() and target in (here, *here.parents):
                found.passed_over.append((entry, f"{LINKS_UPWARDS} ({target})"))
                continue
            if not target.is_relative_to(here):
                elsewhere.append(f"{entry.name} is {target}")
            members = walk(entry, found, (here, target), follow_links=follow_links)
            files += [(entry.name, path) for path in members]
    except OSError as error:
        raise DatasetError(f"{error.filename or images}: cannot be read: {error.strerror}") from None
    passed_over = sorted(found.passed_over)
    told = _left_out(images, passed_over)
    notes = (
        [f"{images}: {len(elsewhere)} of its folders lead elsewhere: {min(elsewhere)}"] if elsewhere else []
    )
    if not files:
        raise DatasetError(
            f"{images}: holds no images in sub-folders; expected one sub-folder of images per identity, or a "
            f"list of files and people (`cosface pack {images} OUT --list FILE`)"
            + "".join(f"; {line}" for line in told)
        )
    files.sort()
    if not identity_per_folder:
        names = sorted({name for name, _ in files})
        notes += check_levels(images, names, found.folders) + check_shards(images, files)
    return Tree(files, passed_over, told, notes)


def _left_out(images: Path, passed_over: list[tuple[Path, str]]) -> list[str]:
    """One line, or none, on what lies in the tree and is no part of the set.

    Other files than images that lie beside the folders are not worth it.
    """
    told = [
        (path, reason) for path, reason in passed_over if reason != NOT_IN_A_FOLDER or is_image_file(path)
    ]
    if not told:
        return []
    kinds = Counter(reason for _, reason in told)
    examples = {reason: path.relative_to(images) for path, reason in reversed(told)}
    return [
        f"{images}: left out: "
        + "; ".join(f"{count} × {reason} (such as {examples[reason]})" for reason, count in kinds.items())
    ]


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

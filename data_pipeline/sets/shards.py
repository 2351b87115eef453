"""Folders that hold parts of a set, `000/NAME_0001.jpg`, instead of one person's images."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.errors import DatasetError

# A name with a letter in it, then the number of the image.
_NAME_AND_NUMBER = re.compile(r"(?=.*[^\W\d_])(.+?)[_\-. ]+(\d+)")
_FOLDERS, _FILES = 64, 2000
_NAMED = 3


def check_shards(images: Path, files: Sequence[tuple[str, Path]]) -> list[str]:
    """Refuse numbered folders whose files are named after several people each; say it of other folders.

    files: (folder, file), sorted. People are told by names that no two folders have in common and that hold
    two numbered images or more; `ann/IMG_0001.jpg` is no such name, nor is one that begins with the folder's.
    Looked at are 64 folders at most. Returns notes. Raises DatasetError.
    """
    counts = Counter(name for name, _ in files)
    names, starts = list(counts), np.cumsum([0, *counts.values()])
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), _FOLDERS)).astype(int)).tolist()
    seen: Counter[tuple[str, str]] = Counter()
    people: dict[str, set[str]] = defaultdict(set)
    looked_at = 0
    for place in chosen:
        name = names[place]
        stems = [path.stem for _, path in files[starts[place] : starts[place + 1]][:_FILES]]
        looked_at += len(stems)
        for match in filter(None, map(_NAME_AND_NUMBER.fullmatch, stems)):
            if not match[1].lower().startswith(name.lower()):
                seen[match[1], match[2]] += 1
                people[name].add(match[1])
    several = [name for name, found in people.items() if len(found) > 1]
    persons = {person for person, _ in seen}
    is_sharded = (
        10 * len(seen) >= 9 * looked_at  # nearly every file is so named, and otherwise than all others
        and 2 * len(several) >= len(chosen)
        and len(seen) >= 2 * len(persons)
    )
    if not is_sharded:
        return []
    folder = several[0]
    found = sorted(people[folder])
    shown = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
    what = f"{images}: the files in {folder} are named after {len(found)} people ({shown})"
    if not all(name.isdigit() for name in several):
        return [f"{what}, but each folder is taken for one person"]
    raise DatasetError(
        f"{what}, and so in other folders: expected a folder per person; sort them into such folders, or "
        f"pack them by a list of files and people (`cosface pack {images} OUT --list FILE`). If each folder "
        "is one person's nonetheless, `cosface pack --identity-per-folder` takes it so"
    )

"""Folders that are no people: races, splits, archives, in which the people's folders lie one level deeper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from data_pipeline.errors import DatasetError

_NAMED = 3
_LISTED = 8


def check_levels(images: Path, names: Sequence[str], folders: dict[str, int]) -> list[str]:
    """Refuse a tree whose images lie, for the most part, in folders of folders; say it of a smaller part.

    names: the folders of `images` with images below them. folders: how many images lie directly in each
    folder that has some. A person's folder may have folders in it beside images of its own. Returns notes.
    Raises DatasetError that names the folders that hold the people and how to give them.
    """
    deep = {name for name in names if str(images / name) not in folders}
    if not deep:
        return []
    below = len(images.parts)
    holders = sorted(Path(folder) for folder in folders)
    inside = [folder for folder in holders if len(folder.parts) > below and folder.parts[below] in deep]
    held = sum(folders[str(folder)] for folder in inside)
    people = _topmost(inside)
    sets = sorted({folder.parent for folder in people})
    examples = _some([str(folder.relative_to(images)) for folder in people])
    if 2 * held < sum(folders.values()):
        return [
            f"{images}: {len(deep)} of its {len(names)} folders hold images in deeper folders alone "
            f"({examples}), all of which are taken for one person's; if those are people, move them up"
        ]
    what = (
        "its folders hold no images, only folders of images"
        if len(deep) == len(names)
        else "most of its images lie in folders of folders"
    )
    raise DatasetError(
        f"{images}: one folder level too many: {what} ({examples}); "
        f"{_instead(images, sets)}{_in_several(people)}. If each folder in "
        f"{images} is one person's nonetheless, `cosface pack --identity-per-folder` takes it so"
    )


def _topmost(folders: Sequence[Path]) -> list[Path]:
    """Of folders in order, those that lie in none of the others."""
    kept: list[Path] = []
    for folder in folders:
        if not kept or not folder.is_relative_to(kept[-1]):
            kept.append(folder)
    return kept


def _instead(images: Path, parents: Sequence[Path]) -> str:
    """What to give in place of `images`."""
    if len(parents) == 1:
        return f"give {parents[0]} instead"
    by_depth = [depth for depth, _ in groupby(sorted(len(parent.parts) for parent in parents))]
    every = f"{images}/*" if by_depth == [len(images.parts) + 1] else " ".join(map(str, parents[:_LISTED]))
    shown = " ".join(map(str, parents)) if len(parents) <= _LISTED else every
    return (
        f"give them as {len(parents)} sets: --data.train {shown} (inspect and pack take them one at a time)"
    )


def _in_several(people: Sequence[Path]) -> str:
    """A word on names that stand in several of the sets, as in train/NAME and val/NAME."""
    times = Counter(folder.name for folder in people)
    twice = [name for name, count in times.items() if count > 1]
    # As few names as sets, or fewer, are of views or films of one person each: NAME/frontal, NAME/profile.
    if not twice or len(times) <= len({folder.parent for folder in people}):
        return ""
    return (
        f"; {len(twice)} of their people have one name in several ({_some(sorted(twice))}) and are others in "
        "each: if they are the same, give one of the sets, or bring each one's images into one folder"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

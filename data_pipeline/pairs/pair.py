"""A pair as a list names it, and as two image files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class NamedImage:
    """What a line of a list calls an image, and the paths that may stand for it, the likeliest first."""

    file: Path
    """The list."""
    line: int
    """Of the list, from 1."""
    name: str
    """As whoever wrote the list would look for it."""
    places: tuple[str, ...]
    """Paths below the folder of the images; a suffix may be another one on disk."""

    @property
    def where(self) -> str:
        """The list and the line, for a message."""
        return f"{self.file}: line {self.line}"


@dataclass(frozen=True)
class NamedPair:
    """Two images by name, whether they show one person, and the fold from 1; 0: the list has no folds."""

    first: NamedImage
    second: NamedImage
    same: bool
    fold: int = 0


@dataclass(frozen=True)
class ImagePair:
    """Two image files, whether they show one person, and the fold from 1; 0: the list has no folds."""

    first: Path
    second: Path
    same: bool
    fold: int = 0


class Lookup(Protocol):
    """What a list's names are looked up in: a folder of images, the lines of a file of paths."""

    def knows(self, text: str) -> bool:
        """Whether a field of a list names an image, or a folder of such."""

    def lookup(self, image: NamedImage) -> object | None:
        """What the image's name stands for; None if there is no such."""


class Nothing:
    """Where nothing is found: lists are then told apart by their form alone."""

    def knows(self, text: str) -> bool:
        """No."""
        return False

    def lookup(self, image: NamedImage) -> None:
        """None."""
        return

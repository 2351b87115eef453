"""Finds the files that a list's names stand for, in the folder of the images and nowhere else."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.pair import NamedImage
from data_pipeline.pairs.rows import SUFFIXES, has_suffix, without_suffix


class ImageFinder:
    """Files below `images`, named with or without `images`' own name before them.

    A name may lack its suffix or have another one than the file, in capitals or not, and be written in
    another encoding. A person's folder may be a link. outside: other files that lie elsewhere are taken too:
    `../`, absolute paths, links that lead out.
    """

    def __init__(self, images: Path, *, outside: bool = False) -> None:
        self._images = images
        self._root = os.path.realpath(images)
        self._outside = outside
        self._found: dict[tuple[str, ...], Path | None] = {}
        self._folders: dict[str, dict[str, list[str]]] = {}

    def knows(self, text: str) -> bool:
        """Whether a field of a list is an image or a folder below the images."""
        image = NamedImage(Path(), 0, text, (text,))
        return self.lookup(image) is not None or any(os.path.isdir(place) for place in self._places(image))

    def lookup(self, image: NamedImage) -> Path | None:
        """The image's file, wherever it lies; None if there is none."""
        if image.places not in self._found:
            files = (self._file(place) for place in self._places(image))
            self._found[image.places] = next((Path(file) for file in files if file is not None), None)
        return self._found[image.places]

    def find(self, image: NamedImage) -> Path:
        """The image's file. Raises PairSetError with the list's line if there is none that may be taken."""
        file = self.lookup(image)
        expected = self._images / image.places[0]
        if not self._outside and not self._is_inside(file or expected):
            raise PairSetError(
                f"{image.where}: {image.name!r} lies outside {self._images}, where the list's images are "
                "expected; --outside takes it all the same"
            )
        if file is None:
            raise PairSetError(f"{image.where}: {expected}: no such file (nor with another suffix)")
        return file

    def _is_inside(self, file: Path) -> bool:
        """In the folder itself or, as for packing, in a person's folder that is a link right below it."""
        real = os.path.realpath(file)
        if os.path.commonpath((self._root, real)) == self._root:
            return True
        parts = file.relative_to(self._images).parts if file.is_relative_to(self._images) else ()
        if len(parts) < 2 or ".." in parts:
            return False
        person = os.path.realpath(self._images / parts[0])
        return os.path.commonpath((person, real)) == person

    def _places(self, image: NamedImage) -> list[str]:
        places = []
        for place in image.places:
            for spelling in _spellings(place.replace("\\", "/")):
                places.append(os.path.join(self._images, spelling))
                if spelling.split("/", 1)[0] == self._images.name:
                    places.append(os.path.join(self._images.parent, spelling))
        return places

    def _file(self, place: str) -> str | None:
        """The file of this name or with another suffix: small letters and the list's order first."""
        if os.path.isfile(place):
            return place
        folder, stem = os.path.split(without_suffix(place))
        names = self._names(folder).get(stem, [])
        return os.path.join(folder, names[0]) if names else None

    def _names(self, folder: str) -> dict[str, list[str]]:
        """The folder's images by their names without suffix."""
        if folder not in self._folders:
            by_stem: dict[str, list[str]] = {}
            try:
                names = [name for name in os.listdir(folder) if has_suffix(name)]
            except (OSError, ValueError):
                names = []
            for name in sorted(names, key=_suffix_order):
                if os.path.isfile(os.path.join(folder, name)):
                    by_stem.setdefault(without_suffix(name), []).append(name)
            self._folders[folder] = by_stem
        return self._folders[folder]


def _suffix_order(name: str) -> tuple[int, bool, str]:
    suffix = name[len(without_suffix(name)) :]
    return SUFFIXES.index(suffix.lower()), suffix != suffix.lower(), name


def _spellings(name: str) -> list[str]:
    """The name as it stands; Latin-1 read as such and UTF-8 as Latin-1; accents apart and joined."""
    spellings = [name]
    try:
        latin = os.fsencode(name).decode("latin-1") if not name.isascii() else name
        if any("\udc80" <= letter <= "\udcff" for letter in name):
            spellings.append(latin)
        elif not name.isascii():
            spellings.append(os.fsdecode(unicodedata.normalize("NFC", name).encode("latin-1")))
    except UnicodeError:
        pass
    spellings += [unicodedata.normalize(form, text) for text in spellings[:2] for form in ("NFC", "NFD")]
    return list(dict.fromkeys(spellings))

"""The image files of a folder, by the names that a list may have for them."""

from __future__ import annotations

import os
from pathlib import Path

from data_pipeline.errors import DatasetError
from data_pipeline.images.names import without_suffix
from data_pipeline.sets.folder_walk import Found, walk

OUTSIDE = Path("..")
"""What stands for a file that cannot be one of the folder's, wherever it is."""


class FilesByName:
    """All image files below `images`, however deep. found: what the walk met. Raises DatasetError."""

    def __init__(self, images: Path, *, follow_links: bool) -> None:
        if not images.is_dir():
            raise DatasetError(f"{images}: no such folder; expected the folder of the list's images")
        self._images = images
        self._above = f"{images.absolute().name}{os.sep}"
        self.found = Found()
        try:
            walk(images, self.found, (images.resolve(),), follow_links=follow_links)
        except OSError as error:
            raise DatasetError(f"{error.filename or images}: cannot be read: {error.strerror}") from None
        self._files = {os.fspath(path.relative_to(images)): path for path in self.found.files}
        self._stems: dict[str, Path | None] = {}
        for name, path in self._files.items():
            stem = without_suffix(name)
            self._stems[stem] = None if stem in self._stems else path

    def find(self, name: str) -> Path | None:
        """The file that a list calls so; OUTSIDE, or None if it is not there.

        The name counts from `images`, from the folder that it lies in, or is absolute; its suffix may be
        another image's, or missing, where that leaves one file.
        """
        name = os.path.normpath(name.replace("\\", "/"))
        if os.path.isabs(name):
            for folder in (self._images.absolute(), self._images.resolve()):
                if Path(name).is_relative_to(folder):
                    return self._below(os.path.relpath(name, folder))
            return OUTSIDE
        if name.split(os.sep, 1)[0] == os.pardir:
            return OUTSIDE
        found = self._below(name)
        if found is None and name.startswith(self._above):
            found = self._below(name[len(self._above) :])
        return found

    def _below(self, name: str) -> Path | None:
        return self._files.get(name) or self._stems.get(without_suffix(name))

"""A set of rendered identities without files: every image is made when it is read.

`rendered:1000000x10` is a million identities of ten views; `parse` says the whole form. A set of any size
opens at once and takes no memory but its `class_counts`.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from data_pipeline.errors import DataInputError, DatasetError
from data_pipeline.rendered.face import render_jpeg
from data_pipeline.rendered.quick import quick_jpegs
from data_pipeline.sets.digests import digest_of_texts
from data_pipeline.sets.fingerprint import SetFingerprint
from data_pipeline.sets.source import Ints, Origin, Payloads, SourceBase

Style = Literal["drawn", "quick"]

PREFIX = "rendered:"
SIZES = (16, 1024)
MAX_CLASSES = 1 << 31
MAX_IMAGES = 1 << 53
_FORM = "rendered:IDENTITIESxVIEWS[@SEED][,quick][,size=PIXELS]"
_PATTERN = re.compile(r"rendered:(\d+)x(\d+)(?:@(\d+))?((?:,[^,]*)*)", re.ASCII)
_PER_TASK = 32


class RenderedFaces(SourceBase):
    """`identities` identities of `views` views each, an `ImageSource`: image i is view i mod views of
    identity, and class, i div views.

    style: "drawn", the faces of `render_jpeg`, each with features of its own; or "quick", mixed of a pool of
    those at some forty times the rate, for load tests (`quick.py` says what it is worth). An image depends on
    (seed, identity, view, size, style) alone, and drawn ones are those of `write_rendered_dataset`. Pickled
    it is a few numbers. num_threads: that make a batch; drawing is mostly Python and gains nothing.

    Raises DataInputError for numbers out of range.
    """

    uniform = True

    def __init__(
        self,
        identities: int,
        views: int,
        *,
        seed: int = 0,
        size: int = 112,
        style: Style = "drawn",
        num_threads: int = 1,
    ) -> None:
        if style not in get_args(Style):
            raise ValueError(f"style must be one of {', '.join(get_args(Style))}, got {style!r}")
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}")
        self.identities, self.views, self.seed, self.size, self.style = identities, views, seed, size, style
        self.num_threads = num_threads
        for what, number, first, last in (
            ("identities", identities, 1, MAX_CLASSES),
            ("views", views, 1, MAX_IMAGES),
            ("images", identities * views, 1, MAX_IMAGES),
            ("seed", seed, 0, (1 << 63) - 1),
            ("size", size, *SIZES),
        ):
            if not first <= number <= last:
                raise DataInputError(f"{self.name}: {what} must be between {first} and {last}, got {number}")
        self._threads: ThreadPoolExecutor | None = None

    @property
    def name(self) -> str:
        """The text of which `parse` makes this set."""
        quick = ",quick" if self.style == "quick" else ""
        size = "" if self.size == 112 else f",size={self.size}"
        seed = f"@{self.seed}" if self.seed else ""
        return f"{PREFIX}{self.identities}x{self.views}{seed}{quick}{size}"

    @property
    def num_images(self) -> int:
        """Number of images."""
        return self.identities * self.views

    def __len__(self) -> int:
        return self.num_images

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return self.identities

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), always the same."""
        return self.size, self.size

    def labels_of(self, indices: Ints) -> Ints:
        """The classes of these images, int64 [n]."""
        return np.asarray(indices, dtype=np.int64) // self.views

    def payloads(self, indices: Ints) -> Payloads:
        """The images as JPEG, made now; uint8 [bytes] each."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_images:
            raise IndexError(f"{self.name}: images are 0 to {self.num_images - 1}")
        if self.num_threads == 1 or len(indices) <= _PER_TASK:
            made = self._make(indices)
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.num_threads, "rendered-faces")
            parts = [indices[at : at + _PER_TASK] for at in range(0, len(indices), _PER_TASK)]
            made = [jpeg for part in self._threads.map(self._make, parts) for jpeg in part]
        for jpeg in made:
            jpeg.setflags(write=False)
        return made

    def _make(self, indices: Ints) -> Payloads:
        who, which = indices // self.views, indices % self.views
        if self.style == "quick":
            return quick_jpegs(who, which, self.seed, self.size)
        return [
            np.frombuffer(render_jpeg(identity, view, self.seed, self.size), dtype=np.uint8)
            for identity, view in zip(who.tolist(), which.tolist(), strict=True)
        ]

    def origin(self, index: int) -> Origin:
        """Its name for a file, and its index for a key."""
        return Origin(Path(self.name), 0, index, index // self.views)

    def class_counts(self) -> Ints:
        """Number of images of each class, int64 [num_classes]: views."""
        return np.full(self.num_classes, self.views, dtype=np.int64)

    def fingerprint(self) -> SetFingerprint:
        """The numbers that it is made of say all; counts and labels of a million identities are not made."""
        shape = digest_of_texts([f"{self.identities} {self.views}"])
        images = digest_of_texts([self.name])
        return SetFingerprint(self.name, self.num_images, self.num_classes, shape, shape, images)

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _remade, (self.identities, self.views, self.seed, self.size, self.style, self.num_threads)


def _remade(
    identities: int, views: int, seed: int, size: int, style: Style, num_threads: int
) -> RenderedFaces:
    return RenderedFaces(identities, views, seed=seed, size=size, style=style, num_threads=num_threads)


def is_rendered(text: str) -> bool:
    """Whether a set's name is meant for `parse`."""
    return text.startswith(PREFIX)


def parse(text: str, *, num_threads: int = 1) -> RenderedFaces:
    """The set that `rendered:IDENTITIESxVIEWS[@SEED][,quick][,size=PIXELS]` names.

    Seed 0, the drawn style and 112 pixels are what is left out. Raises DataInputError for anything else.
    """
    found = _PATTERN.fullmatch(text)
    options = found[4].split(",")[1:] if found else []
    sizes = [option.removeprefix("size=") for option in options if option != "quick"]
    known = all(option == "quick" or re.fullmatch(r"size=\d{1,9}", option, re.ASCII) for option in options)
    if found is None or not known or len(sizes) > 1 or options.count("quick") > 1:
        raise DataInputError(f"{text[:200]!r}: is no set of rendered faces; {_FORM} is expected")
    if max(len(part or "") for part in found.groups()[:3]) > 19:
        raise DataInputError(f"{text[:200]!r}: a number in it is too long; {_FORM} is expected")
    identities, views, seed = (int(part or 0) for part in found.groups()[:3])
    return RenderedFaces(
        identities,
        views,
        seed=seed,
        size=int(sizes[0]) if sizes else 112,
        style="quick" if "quick" in options else "drawn",
        num_threads=num_threads,
    )


def open_named(name: str, min_images: int) -> RenderedFaces:
    """The set of this name, for `open_source`.

    Raises DataInputError as `parse` does, DatasetError for fewer views than min_images.
    """
    rendered = parse(name)
    if rendered.views < min_images:
        raise DatasetError(
            f"{name}: its identities have {rendered.views} images each, fewer than data.min-images "
            f"{min_images}; ask for more views"
        )
    return rendered

"""An image table as a file: its columns as they lie in memory, behind a header that can be trusted.

MAGIC, the header's length (8 bytes) and its BLAKE2b digest (8 bytes), the header as JSON, and the columns
place, label, key, each at a multiple of 64 bytes. Opening reads the header and 48 blocks of the columns, not
the columns: the header has their extremes, their digests (for the set's fingerprint) and the blocks' digest.
So a flipped bit in the header, columns that end early and long stretches that are not what was written are
noticed, and the table is built again; a single flipped bit in a column is not.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from data_pipeline.files.atomic import replacing
from data_pipeline.files.typed_json import from_json
from data_pipeline.sets.table import Digests, ImageTable

MAGIC = b"cosface image table 2\n"
_ALIGNMENT = 64
_LARGEST_HEADER = 1 << 20
_DIGEST_BYTES = 8
_BLOCK, _BLOCKS = 4096, 48

State = dict[str, Any]


@dataclass(frozen=True)
class Header:
    """What a table's file says of its columns. labels, places: the smallest and the largest of each."""

    state: dict[str, Any]
    images: int
    classes: int
    size: tuple[int, int]
    uniform: bool
    dtypes: tuple[Literal["<i8"], Literal["<i4"], Literal["<u4", "<i8"]]
    labels: tuple[int, int]
    places: tuple[int, int]
    digests: Digests
    blocks: str

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 <= self.labels[0] <= self.labels[1] < self.classes or self.places[0] < 0:
            raise ValueError(f"{self.images} images of classes {self.labels} of {self.classes} are none")


def write_table(file: Path, state: State, table: ImageTable) -> None:
    """Write a table; it appears whole or not at all."""
    arrays = [np.ascontiguousarray(column) for column in (table.place, table.label, table.key)]
    header = {
        "state": state,
        "images": len(table),
        "classes": table.num_classes,
        "size": list(table.image_size),
        "uniform": table.uniform,
        "dtypes": [array.dtype.str for array in arrays],
        "labels": [int(table.label.min()), int(table.label.max())],
        "places": [int(table.place.min()), int(table.place.max())],
        "digests": vars(table.digests()),
        "blocks": _digest_of_blocks(arrays),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    with replacing(file, durable=True) as out:
        out.write(MAGIC + len(text).to_bytes(8, "little") + _digest(text) + text)
        for array in arrays:
            out.write(bytes(-out.tell() % _ALIGNMENT))
            out.write(array.data)


def read_table(file: Path, state: State) -> ImageTable | None:
    """The table as a memory map; None if there is none, or one of another state or an older form, or one
    that is not what was written (see above for what is looked at).
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(len(MAGIC) + 8 + _DIGEST_BYTES)
            length = int.from_bytes(head[len(MAGIC) : len(MAGIC) + 8], "little")
            if head[: len(MAGIC)] != MAGIC or not 0 < length < _LARGEST_HEADER:
                return None
            text = stream.read(length)
            if _digest(text) != head[len(MAGIC) + 8 :]:
                return None
            header = from_json(text, Header)
            if header.state != state:
                return None
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return _map_columns(mapped, len(head) + length, header)
    except (OSError, ValueError):
        return None


def _map_columns(mapped: mmap.mmap, at: int, header: Header) -> ImageTable | None:
    arrays: list[npt.NDArray[Any]] = []
    for kind in header.dtypes:
        at += -at % _ALIGNMENT
        end = at + header.images * np.dtype(kind).itemsize
        if end > len(mapped):
            return None
        arrays.append(np.frombuffer(mapped, dtype=kind, count=header.images, offset=at))
        at = end
    if at != len(mapped) or _digest_of_blocks(arrays) != header.blocks:
        return None
    place, label, key = arrays
    return ImageTable(place, label, key, header.classes, header.size, header.uniform, header.digests)


def _digest_of_blocks(arrays: list[npt.NDArray[Any]]) -> str:
    """Of blocks all over the columns, their first and last bytes among them."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for array in arrays:
        content = array.view(np.uint8)
        starts = np.linspace(0, max(len(content) - _BLOCK, 0), _BLOCKS // len(arrays)).astype(np.int64)
        for start in starts.tolist():
            made.update(content[start : start + _BLOCK].data)
    return made.hexdigest()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()

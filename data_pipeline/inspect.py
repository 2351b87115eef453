"""A look at every record of a folder: counts, sizes, images per identity, what is damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import FaceDataset
from data_pipeline.decode import decode_image
from data_pipeline.errors import RecordError

_BAR_WIDTH = 40
_LISTED = 20
_CHUNK = 4096


@dataclass(frozen=True)
class DamagedRecord:
    """An image that cannot be used: its record's key, byte offset and class, and why."""

    key: int
    offset: int
    label: int
    reason: str


@dataclass(frozen=True)
class DatasetReport:
    """What a full reading of a folder found.

    sizes: (height, width) to number of images. images_per_identity: number of images to number of
    identities that have so many. bytes: of the record file.
    """

    folder: Path
    file: Path
    num_images: int
    num_classes: int
    image_size: tuple[int, int]
    bytes: int
    sizes: dict[tuple[int, int], int]
    images_per_identity: dict[int, int]
    damaged: tuple[DamagedRecord, ...]

    def render(self) -> str:
        """The report as text, without colours."""
        height, width = self.image_size
        lines = [
            f"{self.folder}",
            f"  images      {self.num_images:>12,}",
            f"  identities  {self.num_classes:>12,}",
            f"  stated size {f'{height} x {width}':>12}",
            f"  record file {_size_text(self.bytes):>12}",
            "",
            "sizes (height x width)",
            *(f"  {f'{h} x {w}':>11}  {count:>10,}" for (h, w), count in _by_count(self.sizes)),
            "",
            "images per identity",
            *self._histogram(),
            "",
        ]
        if not self.damaged:
            return "\n".join([*lines, "damaged records: none"])
        lines.append(f"damaged records: {len(self.damaged)}")
        for record in self.damaged[:_LISTED]:
            place = f"record {record.key} at byte {record.offset}, class {record.label}"
            lines.append(f"  {self.file}: {place}: {record.reason}")
        if len(self.damaged) > _LISTED:
            lines.append(f"  and {len(self.damaged) - _LISTED} more")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`."""
        return {
            "folder": str(self.folder),
            "images": self.num_images,
            "identities": self.num_classes,
            "image_size": list(self.image_size),
            "bytes": self.bytes,
            "sizes": {f"{height}x{width}": count for (height, width), count in _by_count(self.sizes)},
            "images_per_identity": {
                str(images): self.images_per_identity[images] for images in sorted(self.images_per_identity)
            },
            "damaged": [
                {"key": record.key, "offset": record.offset, "class": record.label, "reason": record.reason}
                for record in self.damaged
            ],
        }

    def _histogram(self) -> Iterator[str]:
        """Identities by number of images, in ranges that double: 0, 1, 2-3, 4-7, ..."""
        bins: Counter[int] = Counter()
        for images, identities in self.images_per_identity.items():
            bins[images.bit_length()] += identities
        largest = max(bins.values(), default=1)
        for bits in range(min(bins, default=0), max(bins, default=-1) + 1):
            first, last = (1 << bits) // 2, (1 << bits) - 1
            name = str(first) if first >= last else f"{first}-{last}"
            bar = "#" * -(-bins[bits] * _BAR_WIDTH // largest)
            yield f"  {name:>11}  {bins[bits]:>10,}  {bar}".rstrip()


def inspect_dataset(folder: str | Path, *, num_threads: int = 2) -> DatasetReport:
    """Read and decode every image of a record folder.

    Raises DatasetError or RecordError if the folder itself cannot be opened; damaged images are listed.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    damaged: list[DamagedRecord] = []
    with FaceDataset.open(folder) as dataset, ThreadPoolExecutor(num_threads) as threads:
        for start in range(0, dataset.num_images, _CHUNK):
            indices = range(start, min(start + _CHUNK, dataset.num_images))
            for index, found in zip(
                indices, threads.map(lambda at: _look_at(dataset, at), indices), strict=True
            ):
                if isinstance(found, tuple):
                    sizes[found] += 1
                    if found == dataset.image_size:
                        continue
                    found = "{} x {} pixels, but {} x {} are stated".format(*found, *dataset.image_size)
                label = int(dataset.labels[index])
                damaged.append(DamagedRecord(dataset.key(index), dataset.offset(index), label, found))
        images, identities = np.unique(dataset.class_counts(), return_counts=True)
        return DatasetReport(
            folder=Path(folder),
            file=dataset.file,
            num_images=dataset.num_images,
            num_classes=dataset.num_classes,
            image_size=dataset.image_size,
            bytes=dataset.file.stat().st_size,
            sizes=dict(sizes),
            images_per_identity=dict(zip(images.tolist(), identities.tolist(), strict=True)),
            damaged=tuple(damaged),
        )


def _look_at(dataset: FaceDataset, index: int) -> tuple[int, int] | str:
    """(height, width) of one image, or what is wrong with it."""
    try:
        payload = dataset.payload(index)
    except RecordError as error:
        return error.reason
    image = decode_image(payload)
    if image is None:
        return "the image cannot be decoded" if len(payload) else "the record holds no image"
    return image.shape[0], image.shape[1]


def _by_count(sizes: dict[tuple[int, int], int]) -> list[tuple[tuple[int, int], int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def _size_text(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"

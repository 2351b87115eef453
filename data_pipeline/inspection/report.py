"""What an inspection found, as plain values for JSON; `text.py` shows it to people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.inspection.duplicates import Duplicates
from data_pipeline.inspection.scan import OtherLabel
from data_pipeline.loader.damaged import DamagedRecord
from data_pipeline.sets.source import Ints, Origin


@dataclass(frozen=True)
class PairFacts:
    """Of a verification set. folds: as many as an evaluation takes, which needs pairs of both kinds in each;
    0: it refuses a set with fewer than two pairs of a kind. identical_same, identical_different: numbers of
    the pairs marked so whose two images have the same pixels: the first prove nothing, the second are marked
    wrongly.
    """

    num_pairs: int
    num_same: int
    folds: int
    identical_same: tuple[int, ...]
    identical_different: tuple[int, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What a full reading of a set found.

    sizes: (height, width) to number of images that decode. lengths: bytes of each encoded image, uint32 [N],
    0 where a record cannot be read. class_counts: int64 [num_classes]. duplicates: "file" (the same encoded
    bytes), "pixels" (those, and the same pixels encoded otherwise) and "near" (those, and what looks the same
    but for a little: `verify.alike`), as far as asked for. origins: of their images. out_of_order: how often
    an image's class is below that of the image before; first_out_of_order: the first such image. file_bytes:
    of record files. handed_over: why a run with DALI has OpenCV decode an image, to number of such images.
    refusal: why the set cannot be opened for training. notes: what to know of how its files lie, a line each.
    """

    name: str
    num_images: int
    num_classes: int
    image_size: tuple[int, int]
    uniform: bool
    file_bytes: int | None
    sizes: dict[tuple[int, int], int]
    lengths: npt.NDArray[np.uint32]
    class_counts: Ints
    damaged: tuple[DamagedRecord, ...]
    duplicates: dict[str, Duplicates] = field(default_factory=dict)
    other_labels: tuple[OtherLabel, ...] = ()
    out_of_order: int = 0
    first_out_of_order: Origin | None = None
    origins: dict[int, Origin] = field(default_factory=dict)
    pairs: PairFacts | None = None
    refusal: str | None = None
    handed_over: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def images_per_identity(self) -> dict[int, int]:
        """Number of images to the number of identities that have so many."""
        images, identities = np.unique(self.class_counts, return_counts=True)
        return dict(zip(images.tolist(), identities.tolist(), strict=True))

    @property
    def empty_classes(self) -> Ints:
        """Classes without an image, in rising order, int64 [n]."""
        return np.flatnonzero(self.class_counts == 0)

    @property
    def bytes_per_image(self) -> tuple[int, int, int]:
        """Smallest, median (the lower of two) and largest encoded image of those that can be read."""
        lengths = self.lengths[self.lengths > 0]
        if not len(lengths):
            return 0, 0, 0
        middle = np.partition(lengths, (len(lengths) - 1) // 2)[(len(lengths) - 1) // 2]
        return int(lengths.min()), int(middle), int(lengths.max())

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`: all that was found, nothing cut."""
        low, median, high = self.bytes_per_image
        values: dict[str, Any] = {
            "folder": self.name,
            "images": self.num_images,
            "identities": self.num_classes,
            "image_size": list(self.image_size),
            "uniform": self.uniform,
            "bytes": self.file_bytes,
            "bytes_of_images": {
                "total": int(self.lengths.sum(dtype=np.int64)), "min": low, "median": median, "max": high,
            },
            "sizes": {f"{height}x{width}": count for (height, width), count in by_count(self.sizes)},
            "images_per_identity": {str(images): count for images, count in self.images_per_identity.items()},
            "empty_classes": self.empty_classes.tolist(),
            "out_of_order": self.out_of_order,
            "first_out_of_order": _place(self.first_out_of_order),
            "other_labels": [{**_place(one.origin), "stated": one.stated} for one in self.other_labels],
            "refusal": self.refusal,
            "notes": list(self.notes),
            "duplicates": {kind: self._duplicates(found) for kind, found in self.duplicates.items()},
            "decoded_by_opencv": self.handed_over,
            "damaged": [{**_place(one.origin), "reason": one.reason} for one in self.damaged],
        }  # fmt: skip
        if self.pairs is not None:
            # A pair's number stands where an identity's would; what is said of identities means nothing.
            for name in (
                "identities", "images_per_identity", "empty_classes", "image_size", "uniform",
                "decoded_by_opencv",
            ):  # fmt: skip
                del values[name]
            values["pairs"] = {
                "pairs": self.pairs.num_pairs,
                "same": self.pairs.num_same,
                "folds": self.pairs.folds,
                "identical_same": list(self.pairs.identical_same),
                "identical_different": list(self.pairs.identical_different),
            }
        return values

    def _duplicates(self, found: Duplicates) -> dict[str, Any]:
        return {
            "groups": [[_place(self.origins[index]) for index in group.tolist()] for group in found.groups],
            "images": found.num_images,
            "surplus": found.num_surplus,
            "within": found.num_within,
            "across": len(found.across),
            "class_pairs": [
                {"classes": list(pair), "shared": shared} for pair, shared in found.class_pairs.items()
            ],
        }


def by_count(sizes: dict[tuple[int, int], int]) -> list[tuple[tuple[int, int], int]]:
    """Sizes, most frequent first."""
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def doubling_bins(images_per_identity: dict[int, int]) -> list[tuple[int, int, int]]:
    """(first, last, identities) by number of images, in ranges that double: 0, 1, 2-3, 4-7, ..."""
    bins: Counter[int] = Counter()
    for images, identities in images_per_identity.items():
        bins[images.bit_length()] += identities
    return [
        ((1 << bits) // 2, (1 << bits) - 1 if bits else 0, bins[bits])
        for bits in range(min(bins, default=0), max(bins, default=-1) + 1)
    ]


def _place(origin: Origin | None) -> Any:
    if origin is None:
        return None
    offset = origin.offset if origin.offset >= 0 else None
    return {"file": str(origin.file), "key": origin.key, "offset": offset, "class": origin.label}

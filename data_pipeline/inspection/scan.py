"""Every image of a set looked at once, in threads, in memory that does not grow with the images' bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from data_pipeline.errors import RecordError
from data_pipeline.files.progress import track
from data_pipeline.inspection.look import Depth, Look, look_at
from data_pipeline.loader.damaged import DamagedRecord
from data_pipeline.sets.image_folder import ImageFiles
from data_pipeline.sets.source import ImageSource, Ints, Origin

_BATCH = 1024
_PER_TASK = 32


@dataclass(frozen=True)
class OtherLabel:
    """An image whose own record states another class than the set's identity records do."""

    origin: Origin
    stated: float


@dataclass
class Scan:
    """What a reading of all images found.

    lengths: bytes of each encoded image, uint32 [N], 0 where a record cannot be read. file_hashes,
    pixel_hashes, near_hashes: uint64 [N], empty if not asked for; those of damaged images mean nothing.
    sizes: (height, width) to number of images. handed_over: why OpenCV decodes an image although DALI decodes
    the others, to number of sound images. descents: how often an image has a lower class than the one
    before it; first_descent: the first such image.
    """

    lengths: npt.NDArray[np.uint32]
    sound: npt.NDArray[np.bool_]
    file_hashes: npt.NDArray[np.uint64]
    pixel_hashes: npt.NDArray[np.uint64]
    near_hashes: npt.NDArray[np.uint64]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    handed_over: Counter[str] = field(default_factory=Counter)
    damaged: list[DamagedRecord] = field(default_factory=list)
    other_labels: list[OtherLabel] = field(default_factory=list)
    descents: int = 0
    first_descent: Origin | None = None


def scan_images(
    source: ImageSource,
    depth: Depth,
    num_threads: int,
    stated_labels: Callable[[Ints], npt.NDArray[np.float32]] | None = None,
) -> Scan:
    """Look at every image, progress shown. stated_labels: what the images' own records say."""
    count = source.num_images
    hashed, near = (count if depth != "headers" else 0), (count if depth == "near" else 0)
    scan = Scan(
        np.zeros(count, dtype=np.uint32),
        np.ones(count, dtype=bool),
        np.zeros(hashed, dtype=np.uint64),
        np.zeros(hashed, dtype=np.uint64),
        np.zeros(near, dtype=np.uint64),
    )
    shown = track(
        _look_at_all(source, depth, num_threads, stated_labels, scan), total=count, description="inspecting"
    )
    for _ in shown:
        pass
    return scan


def _look_at_all(
    source: ImageSource,
    depth: Depth,
    num_threads: int,
    stated_labels: Callable[[Ints], npt.NDArray[np.float32]] | None,
    scan: Scan,
) -> Iterator[None]:
    last_label = -1
    # Training resizes a folder's files of another size.
    refuses_other_sizes = source.uniform and not isinstance(source, ImageFiles)
    with ThreadPoolExecutor(num_threads, "inspect") as threads:
        for start in range(0, source.num_images, _BATCH):
            indices = np.arange(start, min(start + _BATCH, source.num_images))
            labels = source.labels_of(indices)
            looks = _look_at_batch(source, indices, depth, threads, scan)
            readable = []
            for index, look in zip(indices.tolist(), looks, strict=True):
                if look.size is not None and look.problem is None and refuses_other_sizes:
                    look = _refuse_other_size(look, source.image_size)
                _keep(scan, source, index, look)
                if scan.lengths[index]:
                    readable.append(index)
            if stated_labels is not None and readable:
                _compare_labels(scan, source, np.array(readable), stated_labels)
            known = np.flatnonzero(labels >= 0)
            falls = known[np.diff(labels[known], prepend=last_label) < 0]
            if len(falls) and scan.first_descent is None:
                scan.first_descent = source.origin(int(indices[falls[0]]))
            scan.descents += len(falls)
            last_label = int(labels[known[-1]]) if len(known) else last_label
            yield from [None] * len(indices)


def _look_at_batch(
    source: ImageSource, indices: Ints, depth: Depth, threads: ThreadPoolExecutor, scan: Scan
) -> list[Look]:
    parts = [indices[at : at + _PER_TASK] for at in range(0, len(indices), _PER_TASK)]
    found = threads.map(lambda part: _look_at_part(source, part, depth, scan), parts)
    return [look for part in found for look in part]


def _look_at_part(source: ImageSource, indices: Ints, depth: Depth, scan: Scan) -> list[Look]:
    try:
        payloads = source.payloads(indices)
    except RecordError as error:
        if len(indices) == 1:
            return [Look(None, error.reason)]
        return [look for index in indices for look in _look_at_part(source, index[None], depth, scan)]
    scan.lengths[indices] = [len(payload) for payload in payloads]
    return [look_at(payload, depth) for payload in payloads]


def _refuse_other_size(look: Look, stated: tuple[int, int]) -> Look:
    if look.size is None or look.size == stated:
        return look
    return look._replace(problem="{} x {} pixels, but {} x {} are stated".format(*look.size, *stated))


def _keep(scan: Scan, source: ImageSource, index: int, look: Look) -> None:
    if look.size is not None:
        scan.sizes[look.size] += 1
    if look.problem is not None:
        scan.sound[index] = False
        scan.damaged.append(DamagedRecord(source.origin(index), look.problem))
        return
    if look.handed_over is not None:
        scan.handed_over[look.handed_over] += 1
    if len(scan.file_hashes):
        scan.file_hashes[index], scan.pixel_hashes[index] = look.file_hash, look.pixel_hash
    if len(scan.near_hashes):
        scan.near_hashes[index] = look.near_hash


def _compare_labels(
    scan: Scan,
    source: ImageSource,
    indices: Ints,
    stated_labels: Callable[[Ints], npt.NDArray[np.float32]],
) -> None:
    stated = stated_labels(indices)
    # Labels are float32 in a record: a class from 2^24 on is rounded there.
    expected = source.labels_of(indices).astype(np.float32)
    for place in np.flatnonzero(stated != expected):
        scan.other_labels.append(OtherLabel(source.origin(int(indices[place])), float(stated[place])))

"""Ways to read a record folder; each is compared with a naive reading and says what came of it.

The outcome is one of OUTCOMES; what must not happen is raised, as Wrong or as whatever it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import data_pipeline.records.mxnet_api.recordio as mxnet_recordio
from data_pipeline import DataInputError, FaceDataset, RecordError, RecordReader
from data_pipeline.records.reader import scan
from tests.data_pipeline.records.naive_records import Image, Naive

OUTCOMES = ("read", "RecordError", "DataInputError")


class Wrong(Exception):
    """What was read is not what stands in the file, or damage was not noticed."""


def through_reader(folder: Path, naive: Naive, with_index: bool) -> str:
    """Open, then every record by key and all of them by `locate` and `vectors`."""
    expected = naive.indexed() if with_index and naive.idx is not None else naive.scanned()
    rec, idx = folder / "train.rec", folder / "train.idx" if with_index else None
    try:
        reader = RecordReader(rec, idx)
    except DataInputError as error:
        if expected is not None:
            raise Wrong(f"refused: {error}") from error
        return _named(error, naive)
    with reader:
        if expected is None:
            raise Wrong("opened, but should have been refused")
        keys, offsets = expected
        if keys is not None and reader.key_array.tolist() != keys:
            raise Wrong(f"keys {reader.key_array.tolist()}, not {keys}")
        if reader.offsets.tolist() != offsets:
            raise Wrong(f"offsets {reader.offsets.tolist()}, not {offsets}")
        outcome = "read"
        for key, offset in zip(reader.key_array.tolist(), offsets, strict=True):
            image = naive.image(offset)
            try:
                record = reader[key]
                payload = bytes(reader.payload_view(key))
            except RecordError as error:
                if image is not None:
                    raise Wrong(f"record at {offset} refused: {error}") from error
                outcome = _named(error, naive)
                continue
            if image is None:
                raise Wrong(f"record at {offset} read, but it is damaged")
            labels = _labels(record.label, image)
            if (labels, record.id, record.payload, payload) != (image.labels, image.id, *[image.payload] * 2):
                raise Wrong(f"record at {offset}: {record}, not {image}")
        _check_located(reader, naive, offsets)
        return outcome


def _check_located(reader: RecordReader, naive: Naive, offsets: list[int]) -> None:
    images = [naive.image(offset) for offset in offsets]
    every = np.arange(len(offsets))
    try:
        located = reader.locate(every)
    except RecordError:
        if None not in images:
            raise
        return
    for place, image in enumerate(images):
        if image is None:
            raise Wrong(f"record at {offsets[place]} located, but it is damaged")
        vector = reader.vectors(every[place : place + 1], image.flag or 0).tobytes() if image.flag else b""
        begin, end = int(located.begin[place]), int(located.end[place])
        if (
            int(located.flag[place]) != image.flag
            or located.label[place].tobytes() != image.labels[:4]
            or vector not in (b"", image.labels)
            or (begin >= 0) == image.in_parts
            or (begin >= 0 and reader.buffer[begin:end].tobytes() != image.payload)
        ):
            raise Wrong(f"record at {offsets[place]} located wrongly")


def through_scan(folder: Path, naive: Naive) -> str:
    """`scan` alone."""
    content = np.frombuffer(naive.rec, dtype=np.uint8)
    words = content[: len(content) // 4 * 4].view("<u4")
    expected = naive.scanned()
    try:
        found = list(scan(folder / "train.rec", words))
    except RecordError as error:
        if expected is not None:
            raise Wrong(f"refused: {error}") from error
        return _named(error, naive)
    if expected is None or [offset for offset, _ in found] != expected[1]:
        raise Wrong(f"found {found}, not {expected}")
    return "read"


def in_turn(folder: Path, naive: Naive) -> str:
    """`mxnet_recordio.MXRecordIO`, from the start to the end or the first damage."""
    reader = mxnet_recordio.MXRecordIO(folder / "train.rec", "r")
    at = 0
    try:
        while (body := reader.read()) is not None:
            found = naive.record(at)
            if found is None or found[0] != body:
                raise Wrong(f"record at {at} read as {body!r}, not {found}")
            at = found[1]
            _check_unpacked(body, naive)
    except RecordError as error:
        if naive.record(at) is not None:
            raise Wrong(f"record at {at} refused: {error}") from error
        return _named(error, naive)
    finally:
        reader.close()
    if at != len(naive.rec):
        raise Wrong(f"ended at byte {at} of {len(naive.rec)}")
    return "read"


def by_key(folder: Path, naive: Naive) -> str:
    """`mxnet_recordio.MXIndexedRecordIO`, every key."""
    try:
        reader = mxnet_recordio.MXIndexedRecordIO(folder / "train.idx", folder / "train.rec", "r")
    except DataInputError as error:
        if naive.pairs() is not None:
            raise Wrong(f"refused: {error}") from error
        return _named(error, naive)
    pairs = naive.pairs()
    if pairs is None:
        raise Wrong("opened, but should have been refused")
    outcome = "read"
    for key, offset in dict(pairs).items():
        found = naive.record(offset) if offset != len(naive.rec) else (None, 0)
        try:
            body = reader.read_idx(key)
        except RecordError as error:
            if found is not None:
                raise Wrong(f"record at {offset} refused: {error}") from error
            outcome = _named(error, naive)
            continue
        if found is None or found[0] != body:
            raise Wrong(f"record at {offset} read as {body!r}, not {found}")
        if body is not None:
            _check_unpacked(body, naive)
    # Last: once they have been asked for, records are looked up in them.
    if reader.keys != [key for key, _ in pairs] or reader.idx != dict(pairs):
        raise Wrong(f"index {reader.idx}, not {pairs}")
    reader.close()
    return outcome


def _check_unpacked(body: bytes, naive: Naive) -> None:
    image = naive.unpacked(body)
    try:
        header, payload = mxnet_recordio.unpack(body)
    except DataInputError as error:
        if image is not None:
            raise Wrong(f"{body!r} not unpacked: {error}") from error
        return
    if image is None or (header.flag, _labels(header.label, image), header.id, payload) != (
        image.flag,
        image.labels,
        image.id,
        image.payload,
    ):
        raise Wrong(f"{body!r} unpacked as {header}, not {image}")


def _labels(found: object, image: Image) -> bytes:
    """What was read as the bytes of float32; of a NaN, float64 does not keep which of them it was."""
    labels = np.atleast_1d(np.asarray(found, dtype=np.float32))
    if not image.flag and np.isnan(labels[0]) and np.isnan(np.frombuffer(image.labels, dtype="<f4")[0]):
        return image.labels
    return labels.tobytes()


def as_folder(folder: Path, naive: Naive) -> str:
    """The folder as a whole, and every image of it."""
    try:
        dataset = FaceDataset.open(folder)
    except DataInputError as error:
        return _named(error, naive)
    outcome = "read"
    with dataset:
        for index in range(dataset.num_images):
            image = naive.image(dataset.offset(index))
            try:
                payload = bytes(dataset.payload(index))
            except RecordError as error:
                outcome = _named(error, naive)
                continue
            if image is None or image.payload != payload:
                raise Wrong(f"image {index} read as {payload!r}, not {image}")
        if dataset.num_classes < 1 << 16 and dataset.class_counts().sum() != dataset.num_images:
            raise Wrong("the classes' counts are not the number of images")
    return outcome


def _named(error: DataInputError, naive: Naive) -> str:
    """The outcome an error stands for, once it is seen to be one line, with an offset near the file."""
    if "\n" in str(error) or len(str(error)) > 1000:
        raise Wrong(f"a message of {len(str(error))} characters: {str(error)[:2000]!r}")
    if not isinstance(error, RecordError):
        return "DataInputError"
    if not error.reason or error.file.name != "train.rec":
        raise Wrong(f"names {error.file}: {error.reason!r}")
    return "RecordError"


WAYS: dict[str, Callable[[Path, Naive], str]] = {
    "RecordReader, its index": lambda folder, naive: through_reader(folder, naive, True),
    "RecordReader, no index": lambda folder, naive: through_reader(folder, naive, False),
    "scan": through_scan,
    "MXRecordIO.read": in_turn,
    "MXIndexedRecordIO.read_idx": by_key,
    "FaceDataset": as_folder,
}

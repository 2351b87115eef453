"""Ten people with eight faces each, and the record folders that the field's tools would make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline import FaceDataset, RecordWriter

PEOPLE, FACES = 10, 8
Label = float | Sequence[float]


def ten_people(shared_data: Path) -> list[bytes]:
    """The faces of the first ten people of fiw who have eight, eight each, one person after the other."""
    with FaceDataset.open(shared_data / "fiw") as dataset:
        enough = np.flatnonzero(dataset.class_counts() >= FACES)[:PEOPLE]
        return [
            bytes(dataset.payload(index))
            for person in enough
            for index in np.flatnonzero(dataset.labels == person)[:FACES].tolist()
        ]


def write_records(folder: Path, records: Iterable[tuple[int, Label, bytes]]) -> Path:
    """(key, label or labels, payload) as train.rec and train.idx; an id is a key."""
    folder.mkdir(exist_ok=True)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as out:
        for key, label, payload in records:
            out.write(key, label=label, id=key, payload=payload)
    return folder


def with_identity_records(labels: Sequence[int], faces: Sequence[bytes]) -> list[tuple[int, Label, bytes]]:
    """Header, images in this order, and an identity record for each run of one label."""
    count = len(labels)
    starts = [place for place in range(count) if place == 0 or labels[place] != labels[place - 1]]
    ends = [*starts[1:], count]
    return [
        (0, [count + 1.0, count + 1.0 + len(starts)], b""),
        *((place + 1, float(label), faces[place]) for place, label in enumerate(labels)),
        *(
            (count + 1 + run, [start + 1.0, end + 1.0], b"")
            for run, (start, end) in enumerate(zip(starts, ends, strict=True))
        ),
    ]


def without_lines(idx: Path, keys: Iterable[int]) -> None:
    """Take the lines of these keys out of an index."""
    left_out = set(keys)
    lines = idx.read_text().splitlines(keepends=True)
    idx.write_text("".join(line for line in lines if int(line.split("\t")[0]) not in left_out))

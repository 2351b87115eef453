"""Prepared images into records, an identity at a time, those with enough images alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipeline.images.prepare import Prepared
from data_pipeline.pack.work import PackWork
from data_pipeline.records.writer import encode

Files = list[tuple[str, Path]]


class IdentityWriter:
    """Writes identity after identity, those with enough images alone."""

    def __init__(self, work: PackWork, files: Files, enough: int, too_few: str) -> None:
        self._work = work
        self._enough = enough
        self._too_few = too_few
        self._label, self._kept, self._num_images = _labels_so_far(work, files)

    def write(self, results: Iterable[Prepared]) -> None:
        """One identity's files, or the rest of them."""
        waiting: list[Prepared] = []
        kept = self._kept
        for result in results:
            waiting.append(result)
            kept += result.payload is not None
            if kept >= self._enough:
                for one in waiting:
                    self._add(one)
                waiting.clear()
                self._work.commit()
        for one in waiting:
            self._work.leave_out(one.problem or self._too_few)
        self._label += kept >= self._enough
        self._kept = 0
        self._work.commit()

    def _add(self, result: Prepared) -> None:
        if result.payload is None:
            self._work.leave_out(result.problem or "")
            return
        self._num_images += 1
        self._work.add_record(encode(float(self._label), self._num_images, result.payload))


def _labels_so_far(work: PackWork, files: Files) -> tuple[int, int, int]:
    """Number of whole identities with images, of images of the one that is not whole, of images."""
    results = np.frombuffer(work.results, dtype=np.int32)
    label = kept = total = 0
    for _, first, end in groups_of(files):
        if first >= len(results):
            break
        here = int((results[first:end] >= 0).sum())
        total += here
        if end <= len(results):
            label += here > 0
        else:
            kept = here
    return label, kept, total


def groups_of(files: Files) -> list[tuple[str, int, int]]:
    """(identity, its first file's place, the place after its last)."""
    names = [name for name, _ in files]
    starts = [place for place, name in enumerate(names) if place == 0 or names[place - 1] != name]
    return [(names[first], first, end) for first, end in zip(starts, [*starts[1:], len(names)], strict=True)]

"""Rendered identities as the files of the field: a record folder to train on, a `.bin` to verify with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_pipeline.files.cores import available_cores
from data_pipeline.files.progress import track
from data_pipeline.files.workers import ordered_map
from data_pipeline.pairs import PairSet, write_bin
from data_pipeline.rendered.face import render_jpeg
from data_pipeline.rendered.identity import random_generator
from data_pipeline.rendered.source import RenderedFaces
from data_pipeline.sets.writer import FaceDatasetWriter

PAIR_STREAM = 3
VIEWS_IN_PAIRS = 1000


@dataclass(frozen=True)
class _Place:
    identity: int
    view: int


def _render(seed: int, size: int, place: _Place) -> bytes:
    return render_jpeg(place.identity, place.view, seed, size)


def write_rendered_dataset(
    folder: str | Path,
    identities: range,
    views: int,
    *,
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
) -> int:
    """Writes views 0..views-1 of each identity as a record folder; class c is identities[c]. The image count.

    Raises DatasetError if the folder is in use, ValueError if there is nothing to write.
    """
    if not identities or views < 1:
        raise ValueError(f"identities and views must not be empty, got {len(identities)} and {views}")
    render = partial(_render_of, seed, size, identities, views)
    return _write(folder, render, len(identities), views, size, workers)


def write_source(folder: str | Path, faces: RenderedFaces, workers: int | None = None) -> int:
    """Writes every image of `faces` as a record folder. The image count.

    Raises DatasetError if the folder is in use.
    """
    return _write(folder, partial(_image_of, faces), faces.num_classes, faces.views, faces.size, workers)


def _write(
    folder: str | Path,
    render: Callable[[int], bytes],
    classes: int,
    views: int,
    size: int,
    workers: int | None,
) -> int:
    # A range: a list of the images would take more memory than their order needs.
    places = range(classes * views)
    with (
        FaceDatasetWriter(folder, classes, (size, size)) as writer,
        closing(ordered_map(render, places, workers or available_cores())) as images,
    ):
        shown = track(images, total=len(places), description="rendering faces")
        for index, payload in enumerate(shown):
            writer.add(index // views, payload)
    return len(places)


def _render_of(seed: int, size: int, identities: range, views: int, index: int) -> bytes:
    return render_jpeg(identities[index // views], index % views, seed, size)


def _image_of(faces: RenderedFaces, index: int) -> bytes:
    return faces.payloads(np.array([index]))[0].tobytes()


def draw_pairs(identities: range, pairs: int, seed: int) -> list[tuple[int, int, int, int, bool]]:
    """(identity, view, identity, view, same): same and different in turn, so each fold has half of either."""
    if len(identities) < 2 or pairs < 1:
        raise ValueError(f"at least 2 identities and 1 pair are needed, got {len(identities)} and {pairs}")
    random = random_generator(seed, PAIR_STREAM, identities[0], len(identities))
    drawn = []
    for pair in range(pairs):
        first, second = (identities[int(place)] for place in random.choice(len(identities), 2, replace=False))
        view, other_view = (int(number) for number in random.choice(VIEWS_IN_PAIRS, 2, replace=False))
        same = pair % 2 == 0
        drawn.append((first, view, first if same else second, other_view, same))
    return drawn


def write_rendered_pairs(
    path: str | Path,
    identities: range,
    pairs: int,
    *,
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
) -> None:
    """Writes a `.bin` of `pairs` verification pairs, half of them same, among `identities`."""
    drawn = draw_pairs(identities, pairs, seed)
    places = [_Place(*end) for pair in drawn for end in (pair[:2], pair[2:4])]
    with closing(ordered_map(partial(_render, seed, size), places, workers or available_cores())) as images:
        payloads = list(track(images, total=len(places), description="rendering pairs"))
    write_bin(path, PairSet(payloads, [same for *_, same in drawn]))

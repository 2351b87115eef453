from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import FaceDataset
from data_pipeline.errors import DataInputError
from data_pipeline.images.decode import decode_image
from data_pipeline.rendered import render_jpeg, write_rendered_dataset
from data_pipeline.rendered.commands import RenderOptions, render
from data_pipeline.rendered.source import RenderedFaces, is_rendered, parse
from data_pipeline.sets.source import ImageSource

STYLES = pytest.mark.parametrize("style", ["drawn", "quick"])


def as_bytes(faces: RenderedFaces, indices: np.ndarray) -> list[bytes]:
    return [payload.tobytes() for payload in faces.payloads(indices)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rendered:1000000x10", (1_000_000, 10, 0, 112, "drawn")),
        ("rendered:3x1@7", (3, 1, 7, 112, "drawn")),
        ("rendered:3x4,quick", (3, 4, 0, 112, "quick")),
        ("rendered:3x4@9,quick,size=64", (3, 4, 9, 64, "quick")),
        ("rendered:3x4,size=64", (3, 4, 0, 64, "drawn")),
    ],
)
def test_a_name_makes_a_set_and_the_set_has_that_name(
    text: str, expected: tuple[int, int, int, int, str]
) -> None:
    faces = parse(text)
    assert is_rendered(text)
    assert (faces.identities, faces.views, faces.seed, faces.size, faces.style) == expected
    assert faces.name == text
    assert faces.image_size == (expected[3], expected[3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rendered:", "is no set of rendered faces; rendered:IDENTITIESxVIEWS"),
        ("rendered:10", "is no set"),
        ("rendered:10x", "is no set"),
        ("rendered:-1x3", "is no set"),
        ("rendered:10x3@", "is no set"),
        ("rendered:10x3,fast", "is no set"),
        ("rendered:10x3,size=", "is no set"),
        ("rendered:10x3,quick,quick", "is no set"),
        ("rendered:10x3\n", "is no set"),
        ("rendered:١x3", "is no set"),
        ("rendered:" + "9" * 5000 + "x1", "too long"),
        ("rendered:0x3", "identities must be between 1 and 2147483648, got 0"),
        ("rendered:3x0", "views must be between 1"),
        ("rendered:2000000000x9000000000000", "images must be between 1"),
        ("rendered:3x3@9999999999999999999", "seed must be between 0"),
        ("rendered:3x3,size=8", "size must be between 16 and 1024, got 8"),
    ],
)
def test_a_wrong_name_is_one_line(text: str, message: str) -> None:
    with pytest.raises(DataInputError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_labels_counts_and_origins() -> None:
    faces = RenderedFaces(5, 3, style="quick")
    assert (faces.num_images, faces.num_classes, len(faces)) == (15, 5, 15)
    labels = faces.labels_of(np.arange(15))
    assert labels.tolist() == [identity for identity in range(5) for _ in range(3)]
    assert labels.dtype == np.int64
    assert faces.class_counts().tolist() == np.bincount(labels).tolist()
    assert faces.stored_bytes == 0
    assert str(faces.origin(7)) == "rendered:5x3,quick: byte 0: record 7 of class 2"
    with pytest.raises(IndexError):
        faces.payloads(np.array([15]))
    with pytest.raises(IndexError):
        faces.payloads(np.array([-1]))
    assert faces.payloads(np.zeros(0, dtype=np.int64)) == []


@STYLES
def test_an_image_is_the_same_in_any_order_batch_thread_and_pickled_copy(style: str) -> None:
    faces = parse(f"rendered:50x4@3{',quick' if style == 'quick' else ''},size=48")
    every = as_bytes(faces, np.arange(200))
    order = np.random.default_rng(0).permutation(200)
    assert as_bytes(faces, order) == [every[index] for index in order]
    assert [as_bytes(faces, np.array([index]))[0] for index in (0, 77, 199)] == [
        every[0], every[77], every[199],
    ]  # fmt: skip
    with parse(faces.name, num_threads=3) as threaded:
        assert as_bytes(threaded, np.arange(200)) == every
        copied = pickle.loads(pickle.dumps(threaded))
    assert len(pickle.dumps(faces)) < 300
    with copied:
        assert as_bytes(copied, np.arange(200)) == every
    other = as_bytes(parse(faces.name.replace("@3", "@4")), np.arange(200))
    assert not set(every) & set(other)


@STYLES
def test_another_process_makes_the_same_image(style: str) -> None:
    name = f"rendered:1000000x10@5{',quick' if style == 'quick' else ''}"
    script = (
        "import sys, zlib, numpy; from data_pipeline.rendered.source import parse; "
        "print([zlib.crc32(p) for p in parse(sys.argv[1]).payloads(numpy.array([9_999_999, 12]))])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, name], capture_output=True, text=True, check=True
    ).stdout
    here = [zlib.crc32(payload) for payload in parse(name).payloads(np.array([9_999_999, 12]))]
    assert printed.strip() == str(here)


def test_drawn_faces_are_those_of_a_written_set(tmp_path: Path) -> None:
    write_rendered_dataset(tmp_path / "set", range(6), 3, seed=2, size=48, workers=1)
    faces = RenderedFaces(6, 3, seed=2, size=48)
    every = np.arange(18)
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert as_bytes(faces, every) == [payload.tobytes() for payload in dataset.payloads(every)]
        assert faces.labels_of(every).tolist() == dataset.labels.tolist()
    assert as_bytes(faces, np.array([7])) == [render_jpeg(2, 1, 2, 48)]


@pytest.mark.parametrize(("name", "count"), [("rendered:60x5,size=32", 300), ("rendered:900x5,quick", 4500)])
def test_no_two_images_have_the_same_pixels(name: str, count: int) -> None:
    faces = parse(name)
    pixels = set()
    for payload in faces.payloads(np.arange(count)):
        image = decode_image(payload.data)
        assert image is not None
        assert image.shape[:2] == faces.image_size
        pixels.add(image.tobytes())
    assert len(pixels) == count


def test_quick_views_of_an_identity_are_alike() -> None:
    faces = parse("rendered:40x6,quick,size=56")
    images = [decode_image(payload.data) for payload in faces.payloads(np.arange(240))]
    colours = np.array([image.reshape(-1, 3).mean(axis=0) for image in images if image is not None])
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    same = faces.labels_of(np.arange(240))
    similar = colours @ colours.T
    equal = same[:, None] == same[None, :]
    assert similar[equal].mean() > 0.999
    assert similar[~equal].mean() < 0.995


def test_the_largest_sets_open_and_are_read_in_little_memory() -> None:
    parse("rendered:1x1,quick").payloads(np.array([0]))
    tracemalloc.start()
    try:
        faces: ImageSource = parse("rendered:2000000000x1000000,quick")
        assert faces.num_images == 2 * 10**15
        for start in (0, faces.num_images - 8):
            indices = np.arange(start, start + 8)
            assert len(faces.payloads(indices)) == 8
            assert faces.labels_of(indices).tolist() == [start // 10**6] * 8
            assert faces.origin(start).label == start // 10**6
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@STYLES
def test_render_writes_a_record_folder(
    style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = RenderOptions(
        out=tmp_path / "set", identities=4, views=3, seed=1, size=40, style=style, workers=1
    )
    assert render(options) == 0
    assert "12 rendered images of 4 identities" in capsys.readouterr().out
    faces = RenderedFaces(4, 3, seed=1, size=40, style=style)
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert (dataset.num_classes, dataset.image_size) == (4, (40, 40))
        every = np.arange(12)
        assert as_bytes(faces, every) == [payload.tobytes() for payload in dataset.payloads(every)]
    with pytest.raises(DataInputError, match="already exists"):
        render(options)
    with pytest.raises(DataInputError, match="views must be between 1"):
        render(RenderOptions(out=tmp_path / "other", views=0))
    with pytest.raises(ValueError, match="workers"):
        RenderOptions(out=tmp_path / "other", workers=-1)


def test_unknown_styles_and_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="style"):
        RenderedFaces(1, 1, style="painted")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_threads"):
        RenderedFaces(1, 1, num_threads=0)

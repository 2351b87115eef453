"""DALI's operators, run on the CPU, against OpenCV's twins: pixels before normalisation, in grey levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from data_pipeline import FaceDataset
from data_pipeline.augment.settings import PRESETS, Augmentation, Parameters, draw
from data_pipeline.images.decode import decode_image
from data_pipeline.images.resampling import INTERPOLATIONS
from data_pipeline.loader.dali.pipeline import Graph, build, feed
from data_pipeline.loader.opencv.images import opencv_batch

pytestmark = pytest.mark.dali

Pixels = npt.NDArray[np.uint8]
Payloads = list[npt.NDArray[np.uint8]]
SIZE = (112, 112)
NONE = Augmentation(flip=False)
ALL = Augmentation(
    shift=4, rotation=10, scale=0.1, brightness=0.5, contrast=0.5, saturation=0.5, grey=0.1, erase=0.5,
    blur=0.3, low_resolution=0.5, crop=0.5, jpeg=0.5,
)  # fmt: skip
OPERATORS: dict[str, dict[str, float]] = {
    "mirror": {"flip": True},
    "warp": {"shift": 6.0, "rotation": 20.0, "scale": 0.2},
    "colour": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "grey": 0.2},
    "blur": {"blur": 0.8},
    "low resolution": {"low_resolution": 0.9},
    "erase": {"erase": 0.8},
    "crop": {"crop": 0.8},
    "jpeg": {"jpeg": 0.8},
}


def picture(seed: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Smooth colours, an edge, and noise, which shows every difference of weights."""
    random = np.random.default_rng(seed)
    image = cv2.resize(random.integers(0, 256, (9, 9, 3), dtype=np.uint8), size[::-1], interpolation=2)
    cv2.circle(image, (int(random.integers(size[1])), size[0] // 2), 20, (200, 30, 90), -1, cv2.LINE_AA)
    image[: size[0] // 3] = random.integers(0, 256, (size[0] // 3, size[1], 3))
    return np.asarray(image, dtype=np.uint8)


def png(image: Pixels) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", image)[1], dtype=np.uint8).reshape(-1)


def made(count: int, size: tuple[int, int] = SIZE) -> Payloads:
    return [png(picture(seed, size)) for seed in range(count)]


def drawn(augmentation: Augmentation, count: int, seed: int = 3) -> Parameters:
    return draw(augmentation, seed, np.zeros(count, dtype=np.int64), np.arange(count))


def by_dali(
    payloads: Payloads,
    parameters: Parameters,
    augmentation: Augmentation,
    stored: tuple[int, int] | None = SIZE,
    size: tuple[int, int] = SIZE,
) -> Pixels:
    graph = Graph(len(payloads), 1, None, stored, size, augmentation)
    pipeline = build(graph, prefetch=1)
    feed(pipeline, graph, payloads, parameters)
    planes = np.array(pipeline.run()[0].as_tensor())
    return np.rint(planes * 128 + 127.5).astype(np.uint8).transpose(0, 2, 3, 1)


def by_opencv(
    payloads: Payloads,
    parameters: Parameters,
    augmentation: Augmentation,
    stored: tuple[int, int] | None = SIZE,
    size: tuple[int, int] = SIZE,
) -> Pixels:
    images, damaged = opencv_batch(payloads, parameters, augmentation, stored=stored, size=size)
    assert not damaged
    return images


def compare(one: Pixels, other: Pixels) -> tuple[int, float]:
    """Largest and mean difference."""
    difference = np.abs(one.astype(np.int16) - other)
    return int(difference.max()), float(difference.mean())


def agree(payloads: Payloads, augmentation: Augmentation, mean: float, **sizes: Any) -> None:
    parameters = drawn(augmentation, len(payloads))
    ours = by_opencv(payloads, parameters, augmentation, **sizes)
    largest, found = compare(by_dali(payloads, parameters, augmentation, **sizes), ours)
    print(f"largest {largest} mean {found:.5f}")
    assert largest <= 1
    assert found <= mean
    # And something was done.
    if augmentation != NONE:
        plain = by_opencv(payloads, drawn(NONE, len(payloads)), NONE, **sizes)
        assert compare(ours, plain)[1] > 0.5


@pytest.mark.parametrize("name", list(OPERATORS))
def test_each_operator_on_made_pictures(name: str) -> None:
    agree(made(48), replace(NONE, **OPERATORS[name]), mean=0.01)  # type: ignore[arg-type]


@pytest.mark.real_faces
@pytest.mark.parametrize("folder", ["fiw", "glint16"])
@pytest.mark.parametrize("name", list(OPERATORS))
def test_each_operator_on_real_faces(name: str, folder: str, shared_data: Path) -> None:
    agree(faces(shared_data / folder), replace(NONE, **OPERATORS[name]), mean=0.01)  # type: ignore[arg-type]


def faces(folder: Path, count: int = 64) -> Payloads:
    with FaceDataset.open(folder) as dataset:
        payloads = dataset.payloads(np.linspace(0, dataset.num_images - 1, count).astype(np.int64))
        return [payload.copy() for payload in payloads]


@pytest.mark.parametrize("name", ["all", *PRESETS])
def test_all_operators_together_on_made_pictures(name: str) -> None:
    agree(made(96), ALL if name == "all" else PRESETS[name], mean=0.01)


@pytest.mark.real_faces
@pytest.mark.parametrize("name", ["all", *PRESETS])
def test_all_operators_together_on_real_faces(name: str, shared_data: Path) -> None:
    agree(faces(shared_data / "fiw", 96), ALL if name == "all" else PRESETS[name], mean=0.01)


@pytest.mark.parametrize("kind", range(len(INTERPOLATIONS)), ids=INTERPOLATIONS)
def test_each_interpolation_at_many_sizes(kind: int) -> None:
    # Those of many exact ties, 28, 42, 56 and 84, among them.
    sides = np.array([22, 25, 28, 31, 37, 42, 46, 55, 56, 63, 70, 77, 84, 96, 101, 111, 112])
    payloads = made(len(sides))
    augmentation = replace(NONE, low_resolution=1.0)
    for down, up in ((kind, 1), (1, kind)):
        parameters = replace(
            drawn(augmentation, len(sides)),
            resolution=(sides / 112).astype(np.float32),
            interpolation=np.tile(np.array([down, up], dtype=np.int32), (len(sides), 1)),
        )
        by_operators = by_dali(payloads, parameters, augmentation)
        largest, mean = compare(by_operators, by_opencv(payloads, parameters, augmentation))
        print(f"{INTERPOLATIONS[down]} down, {INTERPOLATIONS[up]} up: largest {largest} mean {mean:.5f}")
        assert largest <= 1
        assert mean < 0.05


def test_interpolations_have_dalis_codes() -> None:
    from nvidia.dali import types

    names = ("INTERP_NN", "INTERP_LINEAR", "INTERP_CUBIC", "INTERP_LANCZOS3", "INTERP_TRIANGULAR")
    assert [int(getattr(types, name)) for name in names] == list(range(len(INTERPOLATIONS)))


@pytest.mark.parametrize("size", [(56, 56), (64, 48), (128, 128), (112, 96), (30, 200)])
def test_images_of_every_size_are_brought_to_one(size: tuple[int, int]) -> None:
    shapes = [(112, 112), (150, 150), (97, 113), (250, 250), (40, 300), size]
    payloads = [png(picture(seed, shape)) for seed, shape in enumerate(shapes)]
    sizes: dict[str, Any] = {"stored": None, "size": size}
    for augmentation in (NONE, replace(ALL, jpeg=0, brightness=0, contrast=0, saturation=0), ALL):
        parameters = drawn(augmentation, len(payloads))
        ours = by_opencv(payloads, parameters, augmentation, **sizes)
        theirs = by_dali(payloads, parameters, augmentation, **sizes)
        # Colour and JPEG, when they follow a resize, multiply its rounding at single pixels.
        more = np.abs(ours.astype(np.int16) - theirs) > 1
        assert more.mean() <= (0.005 if augmentation == ALL else 0)


@pytest.mark.parametrize("size", [(112, 96), (112, 95), (112, 94), (111, 93), (96, 112)])
def test_the_middle_is_cut_out_alike(size: tuple[int, int]) -> None:
    payloads = made(4)
    parameters = drawn(NONE, 4)
    ours = by_opencv(payloads, parameters, NONE, size=size)
    assert np.array_equal(by_dali(payloads, parameters, NONE, size=size), ours)


def test_images_are_turned_as_their_exif_says() -> None:
    upright = picture(1, (112, 96))
    encoded = cv2.imencode(".jpg", upright)[1].tobytes()
    for orientation in range(1, 9):
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0, 0, 0, 0, 0])
        segment = b"Exif\0\0" + tiff
        length = (len(segment) + 2).to_bytes(2, "big")
        payload = np.frombuffer(encoded[:2] + b"\xff\xe1" + length + segment + encoded[2:], dtype=np.uint8)
        image = decode_image(payload.data)
        assert image is not None
        size = (image.shape[0], image.shape[1])
        assert size == ((112, 96) if orientation < 5 else (96, 112))
        sizes: dict[str, Any] = {"stored": size, "size": size}
        ours = by_opencv([payload], drawn(NONE, 1), NONE, **sizes)
        assert np.array_equal(by_dali([payload], drawn(NONE, 1), NONE, **sizes), ours)


@pytest.mark.parametrize("way", [by_dali, by_opencv])
def test_pixels_know_nothing_of_their_batch(way: Callable[..., Pixels]) -> None:
    payloads = made(40)
    images, epochs = np.arange(40) * 7, np.arange(40) % 3
    whole = way(payloads, draw(ALL, 5, epochs, images), ALL)
    for pick in (np.array([3]), np.arange(39, 11, -3), np.arange(40)[::-1]):
        parameters = draw(ALL, 5, epochs[pick], images[pick])
        assert np.array_equal(way([payloads[place] for place in pick], parameters, ALL), whole[pick])


def test_settings_that_change_nothing_leave_every_pixel_alone() -> None:
    """What is switched on but not drawn for an image is not done to it by either."""
    payloads = made(5)
    nothing = drawn(NONE, 5)
    every = replace(ALL, flip=False)
    images = np.stack([picture(seed)[:, :, ::-1] for seed in range(5)])
    assert np.array_equal(by_opencv(payloads, nothing, every), images)
    assert np.array_equal(by_dali(payloads, nothing, every), images)

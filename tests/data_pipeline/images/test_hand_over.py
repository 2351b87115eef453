"""Valid images that DALI refuses or is not given: OpenCV decodes them, they are counted, inspect says so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from data_pipeline import GlobalOrder, TrainLoader, open_source, write_dataset
from data_pipeline.augment.settings import Augmentation
from data_pipeline.images.decode import decode_image, normalise
from data_pipeline.images.hand_over import REFUSED, as_pixels, left_to_opencv
from data_pipeline.images.soundness import damage, is_usual_jpeg
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.inspection.text import render
from data_pipeline.rendered import render_face

NONE = Augmentation(flip=False)
ALL = Augmentation(shift=4, rotation=10, brightness=0.2, erase=0.5)
ODD_CHUNK = "a WebP with EXIF behind a chunk of odd length, which DALI refuses"


def face(number: int, size: int = 112) -> Image.Image:
    return Image.fromarray(render_face(number, 0, size=size))


def encoded(image: Image.Image, form: str, orientation: int = 0, **options: object) -> bytes:
    buffer = io.BytesIO()
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][0x112] = orientation  # type: ignore[index]
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def view(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, dtype=np.uint8)


def webp(number: int, orientation: int = 1) -> bytes:
    return encoded(face(number), "WEBP", orientation, lossless=True)


def length_of_pixels(content: bytes) -> int:
    """Of the chunk of a lossless WebP that holds them."""
    at = content.index(b"VP8L")
    return int.from_bytes(content[at + 4 : at + 8], "little")


WEBPS = [webp(number) for number in range(12)]
ODD = {number for number, content in enumerate(WEBPS) if length_of_pixels(content) % 2}


def folder_of(path: Path, contents: list[bytes]) -> Path:
    for number, content in enumerate(contents):
        (path / f"{number:02}").mkdir(parents=True)
        (path / f"{number:02}" / "1.jpg").write_bytes(content)
    return path


def read(
    folder: Path, decoder: str = "dali", augmentation: Augmentation = NONE
) -> tuple[torch.Tensor, TrainLoader]:
    """Two epochs of a folder's images in the set's order, and the loader."""
    source = open_source([folder])
    count = source.num_images
    with TrainLoader(
        source, GlobalOrder(count, 0), batch_size=count, augmentation=augmentation, decoder=decoder,  # type: ignore[arg-type]
    ) as batches:  # fmt: skip
        found = torch.zeros(count, 3, *source.image_size)
        for _ in range(2):
            batch = next(batches)
            found[torch.from_numpy(batch.indices)] = batch.images
    return found, batches


def by_opencv(contents: list[bytes]) -> torch.Tensor:
    images = [decode_image(content) for content in contents]
    return normalise(np.stack([image for image in images if image is not None]))


@pytest.mark.dali
def test_dali_refuses_half_of_these_and_opencv_none() -> None:
    from data_pipeline.loader.dali.pipeline import decodes

    assert 0 < len(ODD) < len(WEBPS)
    assert {number for number, content in enumerate(WEBPS) if not decodes(view(content))} == ODD
    assert all(decode_image(content) is not None for content in WEBPS)
    assert {n for n, content in enumerate(WEBPS) if left_to_opencv(view(content))} == ODD


@pytest.mark.dali
def test_every_webp_with_exif_is_shown_as_opencv_decodes_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", WEBPS)
    found, batches = read(folder)
    assert not batches.damaged.reasons
    assert batches.handed_over == dict.fromkeys(sorted(ODD), ODD_CHUNK)
    assert torch.equal(found, by_opencv(WEBPS))
    assert torch.equal(read(folder, "opencv")[0], found)


@pytest.mark.dali
def test_they_are_augmented_as_all_others(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", WEBPS)
    one, other = (read(folder, decoder, ALL)[0] for decoder in ("dali", "opencv"))
    assert float((one - other).abs().max()) <= 1 / 128


@pytest.mark.dali
def test_in_a_record_folder_too_and_turned_as_their_exif_says(tmp_path: Path) -> None:
    contents = [webp(number, orientation=number % 8 + 1) for number in range(16)]
    write_dataset(tmp_path / "set", list(enumerate(contents)), 16, (112, 112))
    found, batches = read(tmp_path / "set")
    assert not batches.damaged.reasons
    assert batches.handed_over
    assert torch.equal(found, by_opencv(contents))


@pytest.mark.dali
def test_what_dali_refuses_though_it_was_given_it_goes_to_opencv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder of another version may refuse what nobody knows of."""
    monkeypatch.setattr("data_pipeline.loader.dali.decoder.left_to_opencv", lambda payload: None)
    folder = folder_of(tmp_path / "set", [*WEBPS, encoded(face(0), "JPEG")])
    found, batches = read(folder)
    assert not batches.damaged.reasons
    assert batches.handed_over == dict.fromkeys(sorted(ODD), REFUSED)
    assert torch.equal(found[: len(WEBPS)], by_opencv(WEBPS))


KINDS = {
    "a BMP": encoded(face(0), "BMP"),
    "a TIFF": encoded(face(0), "TIFF"),
    "a PNM": encoded(face(0), "PPM"),
    "a JPEG 2000": encoded(face(0), "JPEG2000"),
    "a JPEG of an unusual structure": encoded(face(0), "JPEG") + b"behind it",
    ODD_CHUNK: WEBPS[min(ODD)],
}
GIVEN = {
    "jpeg": encoded(face(0), "JPEG"),
    "progressive": encoded(face(0), "JPEG", progressive=True),
    "turned": encoded(face(0), "JPEG", 6),
    "grey": encoded(face(0).convert("L"), "JPEG"),
    "png": encoded(face(0), "PNG"),
    "16 grey bits": encoded(face(0).convert("L").convert("I;16"), "PNG"),
    "transparent": encoded(face(0).convert("RGBA"), "PNG"),
    "webp": encoded(face(0), "WEBP"),
    "webp, exif": WEBPS[min(set(range(12)) - ODD)],
}


@pytest.mark.dali
def test_whatever_is_no_damage_is_decoded_whoever_decodes(tmp_path: Path) -> None:
    """Given to DALI or left to OpenCV, damage() alone says what is an image."""
    contents = [*KINDS.values(), *GIVEN.values()]
    assert [damage(view(content)) for content in contents] == [None] * len(contents)
    folder = folder_of(tmp_path / "set", contents)
    found, batches = read(folder)
    assert not batches.damaged.reasons
    assert [batches.handed_over[index] for index in sorted(batches.handed_over)] == list(KINDS)
    assert float((found - by_opencv(contents)).abs().max()) <= 1 / 128
    assert not read(folder, "opencv")[1].damaged.reasons


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_given_to_dali(name: str) -> None:
    payload = view(GIVEN[name])
    assert is_usual_jpeg(payload) or left_to_opencv(payload) is None


def test_pixels_travel_unchanged() -> None:
    image = np.asarray(face(3))[:, :70]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(as_pixels(image).tobytes()))), image)


@pytest.mark.parametrize("depth", ["pixels", "headers"])
def test_inspect_says_how_many(tmp_path: Path, depth: str) -> None:
    folder = folder_of(tmp_path / "set", [*WEBPS, KINDS["a BMP"], GIVEN["jpeg"]])
    report = inspect_dataset(folder, num_threads=1, depth=depth)  # type: ignore[arg-type]
    assert not report.damaged
    assert report.handed_over == {ODD_CHUNK: len(ODD), "a BMP": 1}
    assert json.loads(json.dumps(report.to_json()))["decoded_by_opencv"] == report.handed_over
    lines = render(report).splitlines()
    at = lines.index(f"decoded by OpenCV, with DALI too: {len(ODD) + 1} images")
    assert lines[at + 1].split(maxsplit=1) == [str(len(ODD)), ODD_CHUNK]
    assert lines[at + 2].split(maxsplit=1) == ["1", "a BMP"]


def test_inspect_says_nothing_where_there_is_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", list(GIVEN.values()))
    report = inspect_dataset(folder, num_threads=1)
    assert report.handed_over == {}
    assert "OpenCV" not in render(report)


@pytest.mark.parametrize("content", [b"RIFF\4\0\0\0WEBP", b"RIFF\xff\0\0\0WEBPVP8X\xff\xff\xff\xff", b"RIFF"])
def test_odd_webp_headers_are_read_without_harm(content: bytes) -> None:
    assert left_to_opencv(view(content)) in (None, "an unusual image")
